//! `GET /sources` and `GET /sources/{name}`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use schemas::http::{SourceStatus, Sources};
use service::Problem;

use crate::status::Status;

type Statuses = Arc<[Arc<Status>]>;

/// What ingest answers.
pub(crate) fn router(statuses: Statuses) -> Router {
    Router::new()
        .route("/sources", get(sources))
        .route("/sources/{name}", get(source))
        .with_state(statuses)
}

async fn sources(State(statuses): State<Statuses>) -> Json<Sources> {
    Json(Sources { sources: statuses.iter().map(|status| status.snapshot().url).collect() })
}

async fn source(
    State(statuses): State<Statuses>,
    Path(name): Path<String>,
) -> Result<Json<SourceStatus>, Problem> {
    statuses
        .iter()
        .map(|status| status.snapshot())
        .find(|status| status.name == name)
        .map(Json)
        .ok_or_else(|| Problem::not_found(format!("no source {name:?} runs here")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn sources_and_their_states_are_told() {
        let status = Arc::new(testing::status());
        status.published();
        let statuses: Statuses = [status].into();
        let Json(all) = sources(State(Arc::clone(&statuses))).await;
        assert_eq!(all.sources, ["test:"]);
        let Json(sim) = source(State(Arc::clone(&statuses)), Path("sim".into())).await.unwrap();
        assert_eq!((sim.name.as_str(), sim.published), ("sim", 1));
        assert!(sim.last_success.is_some());
        let problem = source(State(statuses), Path("html:shop".into())).await.unwrap_err();
        assert_eq!(problem, Problem::not_found("no source \"html:shop\" runs here"));
    }
}
