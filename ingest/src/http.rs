//! `/sources`: how the sources are, and changing them.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{AppendHeaders, IntoResponse},
    routing::{get, put},
};
use nats::Nats;
use schemas::{Source as Name, SourceSetting, Symbol, http::Sources};
use service::Problem;
use tracing::{info, warn};

use crate::{
    access::SecretKey,
    board::Board,
    control::{Control, ControlError},
    plan::Configured,
};

/// What the answers are made of.
struct Desk {
    board: Arc<Board>,
    configured: Configured,
    nats: Nats,
    /// What whoever changes something must show.
    admin_key: Option<SecretKey>,
}

/// What ingest answers.
pub(crate) fn router(configured: &Configured, nats: &Nats, board: &Arc<Board>) -> Router {
    let admin_key = &configured.config.admin_key;
    let desk = Desk {
        board: Arc::clone(board),
        configured: configured.clone(),
        nats: nats.clone(),
        admin_key: (!admin_key.is_empty()).then(|| SecretKey::new(admin_key)),
    };
    Router::new()
        .route("/sources", get(all))
        .route("/sources/{name}", get(one).put(add).delete(remove))
        .route("/sources/{name}/symbols/{symbol}", put(follow).delete(unfollow))
        .with_state(Arc::new(desk))
}

/// `GET /sources`.
async fn all(State(desk): State<Arc<Desk>>) -> Json<Sources> {
    Json(Sources { sources: desk.board.urls().await })
}

/// `GET /sources/{name}`: as it is now, and so nothing to keep.
async fn one(
    State(desk): State<Arc<Desk>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, Problem> {
    let name = name(&path.map_err(unreadable)?.0)?;
    let status = desk.board.status(&name).await;
    let status = status.ok_or_else(|| Problem::not_found(format!("there is no source {name}")))?;
    let fresh = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok((AppendHeaders([fresh]), Json(status)))
}

/// `PUT /sources/{name}`: runs it. The body is a [`SourceSetting`], or nothing for as configured.
async fn add(
    State(desk): State<Arc<Desk>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<SourceSetting>, Problem> {
    let (control, name) = desk.change(&headers, path).await?;
    let asked = match body.is_empty() {
        true => SourceSetting::default(),
        false => serde_json::from_slice(&body)
            .map_err(|fault| Problem::bad_request(format!("the body: {fault}")))?,
    };
    let set = match asked.enabled {
        Some(false) => control.remove(&name).await,
        _ => control.add(&name, asked.symbols).await,
    };
    done(&name, "set", set)
}

/// `DELETE /sources/{name}`: runs it no more.
async fn remove(
    State(desk): State<Arc<Desk>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (control, name) = desk.change(&headers, path).await?;
    done(&name, "removed", control.remove(&name).await).map(|_| StatusCode::NO_CONTENT)
}

/// `PUT /sources/{name}/symbols/{symbol}`: lets it fetch the symbol, too.
async fn follow(
    State(desk): State<Arc<Desk>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<SourceSetting>, Problem> {
    let (control, name, symbol) = desk.change_symbol(&headers, path).await?;
    done(&name, "follows a symbol more", control.follow(&name, &[symbol]).await)
}

/// `DELETE /sources/{name}/symbols/{symbol}`: lets it fetch the symbol no more.
async fn unfollow(
    State(desk): State<Arc<Desk>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let (control, name, symbol) = desk.change_symbol(&headers, path).await?;
    let set = control.unfollow(&name, &[symbol]).await;
    done(&name, "follows a symbol less", set).map(|_| StatusCode::NO_CONTENT)
}

impl Desk {
    /// What a change is made with, for whoever may make one.
    async fn change(
        &self,
        headers: &HeaderMap,
        path: Result<Path<String>, PathRejection>,
    ) -> Result<(Control, Name), Problem> {
        if self.admin_key.as_ref().is_some_and(|key| !key.is_shown(headers)) {
            let detail = "the admin key is needed: send it as Authorization: Bearer <key>";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
        }
        let name = name(&path.map_err(unreadable)?.0)?;
        let Configured { config, sites, records } = self.configured.clone();
        let control = Control::open(&self.nats, config, sites, records).await;
        Ok((control.map_err(|error| problem(error.into()))?, name))
    }

    async fn change_symbol(
        &self,
        headers: &HeaderMap,
        path: Result<Path<(String, String)>, PathRejection>,
    ) -> Result<(Control, Name, Symbol), Problem> {
        let (path, symbol) = match path {
            Ok(Path((source, symbol))) => (Ok(Path(source)), symbol),
            Err(rejection) => (Err(rejection), String::new()),
        };
        let (control, name) = self.change(headers, path).await?;
        let symbol =
            Symbol::new(&symbol).map_err(|fault| Problem::bad_request(fault.to_string()))?;
        Ok((control, name, symbol))
    }
}

fn done(
    name: &Name,
    what: &str,
    set: Result<SourceSetting, ControlError>,
) -> Result<Json<SourceSetting>, Problem> {
    let setting = set.map_err(problem)?;
    info!(source = %name, "the source is {what} over HTTP");
    Ok(Json(setting))
}

fn name(text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|fault| Problem::not_found(fault.to_string()))
}

fn unreadable(rejection: PathRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}

fn problem(error: ControlError) -> Problem {
    match error {
        ControlError::Unknown(detail) => Problem::not_found(detail),
        ControlError::Invalid(fault) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, fault.to_string())
        }
        ControlError::Busy(_) => Problem::new(StatusCode::CONFLICT, error.to_string()),
        ControlError::Bucket(error) => {
            warn!(%error, "a source cannot be changed");
            Problem::unavailable("the bucket config does not answer; try again soon")
        }
    }
}
