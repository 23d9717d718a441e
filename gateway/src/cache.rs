//! Answers kept for a moment, so that many who ask the same cost one question.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};

use crate::{
    config::CacheConfig,
    forwarding::strip_hop_by_hop,
    metrics,
    upstream::{Call, UpstreamFault},
};

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// Headers that make a request personal, conditional or partial: its answer is its own.
const PERSONAL: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::CACHE_CONTROL,
];

/// The longest key: what asks for more than any of our clients does is not kept.
const MAX_KEY_BYTES: usize = 4_096;

/// Answers by path, query and accepted types. It holds at most `max_entries` answers of at most
/// `max_body_bytes` each.
pub(crate) struct Cache {
    answers: moka::future::Cache<String, Arc<Answer>>,
    max_body_bytes: usize,
    timeout: Duration,
}

/// A whole answer, as it goes to several callers.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    since: Instant,
}

/// Why an answer is not kept.
enum NotKept {
    /// There is none.
    Fault(UpstreamFault),
    /// It is not a success: only those who asked meanwhile share it.
    Unsuccessful(Arc<Answer>),
    /// It is too large, endless, or for one caller only: whoever asked has it as a stream.
    Unshared,
}

impl Cache {
    /// The cache of this configuration, if there is one. `timeout` bounds reading one answer.
    pub(crate) fn new(config: &CacheConfig, timeout: Duration) -> Option<Self> {
        let answers = moka::future::Cache::builder()
            .max_capacity(config.max_entries)
            .time_to_live(Duration::from_millis(config.ttl_ms))
            .build();
        let max_body_bytes = config.max_body_bytes;
        (config.ttl_ms > 0).then_some(Self { answers, max_body_bytes, timeout })
    }

    /// Under which key the answer to this call may be shared, if it may.
    pub(crate) fn key(call: &Call) -> Option<String> {
        let is_personal = PERSONAL.iter().any(|name| call.headers.contains_key(name));
        if call.method != Method::GET || !call.body.is_empty() || is_personal {
            return None;
        }
        let accepted = call.headers.get(header::ACCEPT).map_or(Ok("*/*"), HeaderValue::to_str);
        let key = format!("{} {}", accepted.ok()?, call.path);
        (key.len() <= MAX_KEY_BYTES).then_some(key)
    }

    /// The kept answer, or the one that `fetch` gets. However many ask at once, one fetches.
    pub(crate) async fn answer<F>(
        &self,
        key: String,
        service: &'static str,
        fetch: impl Fn() -> F,
    ) -> Result<Response, UpstreamFault>
    where
        F: Future<Output = Result<Response, UpstreamFault>> + Send,
    {
        let unshared = Mutex::new(None);
        let fetched = async {
            let response = fetch().await.map_err(NotKept::Fault)?;
            match self.whole(response, service).await.map_err(NotKept::Fault)? {
                Whole::Answer(answer) if answer.status == StatusCode::OK => Ok(Arc::new(answer)),
                Whole::Answer(answer) => Err(NotKept::Unsuccessful(Arc::new(answer))),
                Whole::Unshared(response) => {
                    *unshared.lock().unwrap_or_else(PoisonError::into_inner) = Some(response);
                    Err(NotKept::Unshared)
                }
            }
        };
        let entry = self.answers.entry(key).or_try_insert_with(fetched).await;
        let is_hit = entry.as_ref().is_ok_and(|entry| !entry.is_fresh());
        if is_hit { metrics::cache_hits() } else { metrics::cache_misses() }.increment(1);
        let not_kept = match entry {
            Ok(entry) => return Ok(entry.into_value().response(is_hit)),
            Err(not_kept) => not_kept,
        };
        match &*not_kept {
            NotKept::Fault(fault) => Err(fault.clone()),
            NotKept::Unsuccessful(answer) => Ok(answer.response(false)),
            NotKept::Unshared => {
                let own = unshared.into_inner().unwrap_or_else(PoisonError::into_inner);
                let mut response = match own {
                    Some(response) => response,
                    None => fetch().await?,
                };
                response.headers_mut().insert(X_CACHE, HeaderValue::from_static("miss"));
                Ok(response)
            }
        }
    }

    async fn whole(
        &self,
        response: Response,
        service: &'static str,
    ) -> Result<Whole, UpstreamFault> {
        let announced = response.body().size_hint().lower();
        let fits = usize::try_from(announced).is_ok_and(|bytes| bytes <= self.max_body_bytes);
        if !fits || !may_be_shared(response.headers()) {
            return Ok(Whole::Unshared(response));
        }
        let (mut parts, body) = response.into_parts();
        let mut chunks = body.into_data_stream();
        let mut body = BytesMut::new();
        let deadline = tokio::time::Instant::now() + self.timeout;
        loop {
            let chunk = tokio::time::timeout_at(deadline, chunks.next()).await;
            match chunk.map_err(|_| UpstreamFault::TimedOut(service))? {
                Some(Ok(chunk)) => body.extend_from_slice(&chunk),
                Some(Err(_)) => return Err(UpstreamFault::Broken(service)),
                None => break,
            }
            if body.len() > self.max_body_bytes {
                let read = stream::iter([Ok(body.freeze())]);
                let body = Body::from_stream(read.chain(chunks));
                return Ok(Whole::Unshared(Response::from_parts(parts, body)));
            }
        }
        strip_hop_by_hop(&mut parts.headers);
        Ok(Whole::Answer(Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.freeze(),
            since: Instant::now(),
        }))
    }
}

/// What became of reading an answer.
enum Whole {
    Answer(Answer),
    Unshared(Response),
}

impl Answer {
    fn response(&self, is_hit: bool) -> Response {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        let headers = response.headers_mut();
        headers.insert(X_CACHE, HeaderValue::from_static(if is_hit { "hit" } else { "miss" }));
        headers.insert(header::AGE, HeaderValue::from(self.since.elapsed().as_secs()));
        response
    }
}

/// Whether callers other than the one that asked may see an answer (RFC 9111, section 3). What it
/// varies by may be the accepted types only, because they are in the key.
fn may_be_shared(headers: &HeaderMap) -> bool {
    let lists = |name: HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(word))
    };
    let varies = headers
        .get_all(header::VARY)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("*").split(','))
        .any(|name| {
            !matches!(name.trim().to_ascii_lowercase().as_str(), "accept" | "accept-encoding")
        });
    let is_stream = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    !varies
        && !is_stream
        && !headers.contains_key(header::SET_COOKIE)
        && !lists(header::CACHE_CONTROL, "no-store")
        && !lists(header::CACHE_CONTROL, "private")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_one_caller_is_not_shared() {
        let shared = |name: &'static str, value: &'static str| {
            may_be_shared(&HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]))
        };
        assert!(shared("content-type", "application/json"));
        assert!(shared("vary", "Accept, accept-encoding"));
        assert!(!shared("vary", "Origin"));
        assert!(!shared("vary", "*"));
        assert!(!shared("set-cookie", "a=b"));
        assert!(!shared("cache-control", "max-age=1, no-store"));
        assert!(!shared("cache-control", "private"));
        assert!(!shared("content-type", "text/event-stream"));
    }
}
