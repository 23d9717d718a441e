//! `POST /ticks/{source}`: prices that others bring, as `push:<name>`.
//!
//! What is posted is one payload: CSV with a header line or NDJSON, read by `process` as `[[records]]`
//! of the source says. It is answered once the broker has it. The message id is made of the header
//! `Idempotency-Key` and of what is posted: the same posted twice with the same key is one payload,
//! and two that differ are never one. Without the header, every request is a payload of its own.

mod body;
mod config;
mod poster;
mod refusal;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use jiff::Timestamp;
use nats::Receipt;
use schemas::{
    RawTick, Source as Name,
    http::{Posted, SourceState},
};
use sha2::{Digest, Sha256};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    access::SecretKey,
    metrics,
    roster::{Entry, Roster},
    status::Status,
};
use poster::Poster;
use refusal::Refusal;

pub use config::{PushConfig, PushFormat};
pub(crate) use poster::{Posts, run};

/// How many requests of a source are answered at once. With as large a body as there can be, they
/// hold 16 MiB for each source, half of it inflated.
const AT_ONCE: usize = 16;

/// How long the broker may take. Shorter than the gateway waits for an answer.
const STORED_WITHIN: Duration = Duration::from_secs(4);

/// How long the key of a caller may be, in bytes.
const MAX_IDEMPOTENCY_KEY: usize = 128;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Those who may post.
struct Desks {
    by_name: HashMap<String, Desk>,
    poster: Poster,
}

/// What is known of a source that is posted.
struct Desk {
    source: Name,
    key: SecretKey,
    format: PushFormat,
    places: Semaphore,
    status: Arc<Status>,
}

/// What answers posts to these sources, and where what was posted is to be published from. The
/// sources are entered in the roster: they run wherever they are configured.
pub(crate) fn router(sources: &[PushConfig], roster: &Roster) -> (Router, Posts) {
    let (poster, posts) = poster::channel();
    let by_name = sources.iter().filter_map(|config| {
        let source = config.source().ok()?;
        let status = Arc::new(Status::of(&source));
        status.set(SourceState::Running);
        let url = format!("/ticks/{source}");
        let here = Some(Arc::clone(&status));
        roster.change(&source, |entry| {
            *entry = Entry { url, enabled: true, status: here, ..Entry::default() };
        });
        let key = SecretKey::new(&config.key);
        let places = Semaphore::new(AT_ONCE);
        let name = source.to_string();
        Some((name, Desk { source, key, format: config.format, places, status }))
    });
    let desks = Desks { by_name: by_name.collect(), poster };
    let router = Router::new().route("/ticks/{source}", post(take)).with_state(Arc::new(desks));
    (router, posts)
}

async fn take(
    State(desks): State<Arc<Desks>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let taken = async {
        // Nobody without a key learns which sources there are.
        let desk = path.ok().and_then(|Path(name)| desks.by_name.get(&name));
        let desk = desk.filter(|desk| desk.key.is_shown(&headers)).ok_or(Refusal::Key)?;
        let posted = desk.take(&desks.poster, &headers, body).await?;
        let status = if posted.duplicate { StatusCode::OK } else { StatusCode::ACCEPTED };
        Ok((status, Json(posted)).into_response())
    };
    taken.await.unwrap_or_else(|refusal: Refusal| {
        metrics::posts_refused(refusal.as_str()).increment(1);
        refusal.into_response()
    })
}

impl Desk {
    async fn take(
        &self,
        poster: &Poster,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Posted, Refusal> {
        let content_type = self.format.accept(headers.get(CONTENT_TYPE))?;
        let key = idempotency_key(headers)?;
        let _place = self.places.try_acquire().map_err(|_| Refusal::Busy)?;
        let body = body::read(headers, body).await?;
        self.status.heard();
        let id = self.id(key, &body);
        let payload = RawTick {
            id: id.clone(),
            source: self.source.clone(),
            symbol: None,
            received_at: Timestamp::now(),
            content_type,
            format: self.format.into(),
            columns: None,
            body,
        };
        let receipt = timeout(STORED_WITHIN, poster.post(payload))
            .await
            .unwrap_or_else(|_| Err("it does not answer".to_owned()))
            .map_err(|fault| {
                self.status.publishing_failed(&fault);
                Refusal::Unavailable
            })?;
        self.stored(receipt);
        Ok(Posted { id, duplicate: receipt.duplicate })
    }

    fn stored(&self, receipt: Receipt) {
        self.status.publishing_works();
        if receipt.duplicate {
            metrics::duplicates(&self.source).increment(1);
        } else {
            metrics::published(&self.source).increment(1);
            self.status.published();
        }
    }

    fn id(&self, key: Option<&str>, body: &Bytes) -> String {
        match key {
            Some(key) => {
                let digest = Sha256::digest(body);
                let hash: String =
                    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                format!("{}:{key}:{hash}", self.source)
            }
            None => format!("{}:{:032x}", self.source, rand::random::<u128>()),
        }
    }
}

/// The caller's own name of what it posts. It may be quoted, as in the draft
/// <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().unwrap_or_default().trim();
    let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    let is_good = (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_good { Ok(Some(key)) } else { Err(Refusal::IdempotencyKey) }
}
