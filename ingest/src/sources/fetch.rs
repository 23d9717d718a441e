//! One polite HTTP GET: with a name, limits of time and size, and an ear for `Retry-After`.

use std::{error::Error as StdError, io, time::Duration};

use bytes::{Bytes, BytesMut};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{
        CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        LAST_MODIFIED, RETRY_AFTER,
    },
    redirect::{Attempt, Policy},
};

use crate::{
    outlet::MAX_PAYLOAD_BYTES,
    source::{ErrorKind, FetchError},
};

/// How long the steps of one request may take.
struct Limits {
    /// Until there is a connection, TLS included.
    connect: Duration,
    /// Until the answer begins, and then until its next piece.
    stall: Duration,
    /// From the connection to the end of the body.
    total: Duration,
}

/// How long one request may take, from the connection to the end of the body.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

const LIMITS: Limits =
    Limits { connect: Duration::from_secs(5), stall: Duration::from_secs(5), total: TIMEOUT };

/// How many redirects of a provider are followed.
const MAX_REDIRECTS: usize = 3;

/// A provider that does not accept our key is not asked again before this, unless it says when.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(15 * 60);

/// A provider that asks us to stay away for longer is asked again after this time.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What a provider answered.
pub(super) enum Answer {
    /// A page.
    Page(Page),
    /// 304: the same as before.
    NotModified,
}

/// A page as it came; `Content-Encoding` is undone.
pub(super) struct Page {
    pub(super) body: Bytes,
    pub(super) headers: HeaderMap,
    pub(super) received_at: Timestamp,
}

impl Page {
    /// The media type, as the provider names it.
    pub(super) fn content_type(&self, otherwise: &str) -> String {
        let named = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        named.unwrap_or(otherwise).to_owned()
    }

    /// What makes the next request for it a conditional one.
    pub(super) fn validators(&self) -> Validators {
        let value = |name: HeaderName| self.headers.get(name).cloned();
        Validators { etag: value(ETAG), last_modified: value(LAST_MODIFIED) }
    }

    /// Refuses what is not of the kind that the provider documents: the page of a proxy, a picture,
    /// what is not UTF-8.
    pub(super) fn check(&self, expected: Expected) -> Result<(), FetchError> {
        let wrong = |fault: String| Err(FetchError::new(ErrorKind::Malformed, fault));
        let named = self.content_type("").to_ascii_lowercase();
        let media_type = named.split(';').next().unwrap_or_default().trim();
        if !expected.allows(media_type) {
            return wrong(format!("the answer is {media_type}, not {}", expected.media_type()));
        }
        if let Err(fault) = std::str::from_utf8(&self.body) {
            return wrong(format!("the answer is not UTF-8: {fault}"));
        }
        let first = self.body.trim_ascii_start().first().copied();
        if first.is_none_or(|first| !expected.may_begin_with(first)) {
            return wrong(format!("the answer is not {}", expected.media_type()));
        }
        Ok(())
    }
}

/// What a provider documents its answers to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// A JSON object or array.
    Json,
    /// CSV.
    Csv,
}

impl Expected {
    /// As its answers should be named.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv",
        }
    }

    /// Providers are careless with the names of their media types, but not that much.
    fn allows(self, media_type: &str) -> bool {
        let vague = ["", "text/plain", "application/octet-stream", "application/x-download"];
        vague.contains(&media_type)
            || match self {
                Self::Json => media_type.contains("json") || media_type.contains("javascript"),
                Self::Csv => media_type.contains("csv") || media_type == "application/vnd.ms-excel",
            }
    }

    fn may_begin_with(self, byte: u8) -> bool {
        match self {
            Self::Json => matches!(byte, b'{' | b'['),
            Self::Csv => byte != b'<' && !byte.is_ascii_control(),
        }
    }
}

/// What makes the next request a conditional one (RFC 9110, 13.1).
#[derive(Default)]
pub(super) struct Validators {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

impl Validators {
    /// The headers of that request.
    pub(super) fn as_conditions(&self) -> HeaderMap {
        let etag = self.etag.iter().map(|value| (IF_NONE_MATCH, value.clone()));
        let date = self.last_modified.iter().map(|value| (IF_MODIFIED_SINCE, value.clone()));
        etag.chain(date).collect()
    }
}

/// A client for a provider's interface. It says who it is, and goes to no other host, for it carries
/// our key.
pub(super) fn client() -> Result<Client, FetchError> {
    build(&LIMITS, Policy::custom(follow))
}

fn build(limits: &Limits, redirects: Policy) -> Result<Client, FetchError> {
    Client::builder()
        .user_agent(concat!("lizards/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        .read_timeout(limits.stall)
        .timeout(limits.total)
        .redirect(redirects)
        .referer(false)
        .build()
        .map_err(|error| FetchError::new(ErrorKind::Connection, describe(error)))
}

/// Stays with the host, and with TLS where that was asked for.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let first = attempt.previous().first();
    let stays = first.is_some_and(|first| {
        let to = attempt.url();
        let is_downgrade = first.scheme() == "https" && to.scheme() != "https";
        first.host_str() == to.host_str() && !is_downgrade
    });
    if !stays {
        attempt.error("it redirects to somewhere else")
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("it redirects too often")
    } else {
        attempt.follow()
    }
}

/// Sends the request and reads the answer to its end.
pub(super) async fn fetch(request: RequestBuilder) -> Result<Answer, FetchError> {
    read(request.send().await.map_err(unsent)?).await
}

/// Reads an answer to its end.
pub(super) async fn read(mut response: Response) -> Result<Answer, FetchError> {
    if response.status() == StatusCode::NOT_MODIFIED {
        return Ok(Answer::NotModified);
    }
    if !response.status().is_success() {
        return Err(refusal(&response));
    }
    let body = body(&mut response).await?;
    let headers = std::mem::take(response.headers_mut());
    Ok(Answer::Page(Page { body, headers, received_at: Timestamp::now() }))
}

async fn body(response: &mut Response) -> Result<Bytes, FetchError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_PAYLOAD_BYTES {
            let fault = format!("the answer has more than {MAX_PAYLOAD_BYTES} bytes");
            return Err(FetchError::new(ErrorKind::TooLarge, fault));
        }
    }
    Ok(body.freeze())
}

/// A request that got no answer.
pub(super) fn unsent(error: reqwest::Error) -> FetchError {
    FetchError::new(kind(&error), describe(error))
}

/// An answer that ended too early.
pub(super) fn broken(error: reqwest::Error) -> FetchError {
    let kind = if error.is_timeout() { ErrorKind::Timeout } else { ErrorKind::Truncated };
    FetchError::new(kind, describe(error))
}

/// Why there is no answer.
fn kind(error: &reqwest::Error) -> ErrorKind {
    if error.is_timeout() {
        ErrorKind::Timeout
    } else if error.is_redirect() {
        ErrorKind::Provider
    } else if is_of_tls(error) {
        ErrorKind::Tls
    } else {
        ErrorKind::Connection
    }
}

fn is_of_tls(error: &(dyn StdError + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    // An error of the system that holds another one is not its own cause.
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match held {
        Some(held) => is_of_tls(held),
        None => error.source().is_some_and(is_of_tls),
    }
}

/// An answer that is none of success.
pub(super) fn refusal(response: &Response) -> FetchError {
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    refused(response.status(), retry_after)
}

/// As [`refusal`], of a status and what its `Retry-After` says.
pub(super) fn refused(status: StatusCode, retry_after: Option<&str>) -> FetchError {
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => ErrorKind::RateLimited,
        StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
        StatusCode::FORBIDDEN => ErrorKind::NotAllowed,
        StatusCode::NOT_FOUND
        | StatusCode::GONE
        | StatusCode::BAD_REQUEST
        | StatusCode::UNPROCESSABLE_ENTITY => ErrorKind::NotFound,
        _ => ErrorKind::Provider,
    };
    let retry_after = retry_after.and_then(|value| self::retry_after(value, Timestamp::now()));
    let refused = matches!(kind, ErrorKind::Unauthorized | ErrorKind::NotAllowed);
    let retry_after = retry_after.or(refused.then_some(REFUSED_FOR));
    FetchError { retry_after, ..FetchError::new(kind, format!("the provider answers {status}")) }
}

/// `Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let time = match value.parse() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_) => {
            let until = DateTimeParser::new().parse_timestamp(value).ok()?;
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(time.min(LONGEST_RETRY_AFTER))
}

/// What happened, down to its cause, without the URL: it may hold a key.
pub(super) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = StdError::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
