//! Waiting for a condition with patience, instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// Asks again and again until `condition` gives something.
///
/// # Panics
/// When it has not within `limit`.
pub(crate) async fn eventually<T>(
    limit: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let since = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(since.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
