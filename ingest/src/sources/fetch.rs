//! One polite HTTP GET: with a name, a time limit, a size limit, and an ear for `Retry-After`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};

use crate::{
    outlet::MAX_PAYLOAD_BYTES,
    source::{ErrorKind, FetchError},
};

/// How long one request may take, from the connection to the end of the body.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

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
}

/// A client that says who it is.
pub(super) fn client() -> Result<Client, FetchError> {
    Client::builder()
        .user_agent(concat!("lizards/", env!("CARGO_PKG_VERSION")))
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| FetchError::new(ErrorKind::Connection, describe(error)))
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
    let kind = if error.is_timeout() { ErrorKind::Timeout } else { ErrorKind::Connection };
    FetchError::new(kind, describe(error))
}

/// An answer that ended too early.
pub(super) fn broken(error: reqwest::Error) -> FetchError {
    let kind = if error.is_timeout() { ErrorKind::Timeout } else { ErrorKind::Truncated };
    FetchError::new(kind, describe(error))
}

/// An answer that is none of success.
pub(super) fn refusal(response: &Response) -> FetchError {
    let status = response.status();
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => ErrorKind::RateLimited,
        _ => ErrorKind::Provider,
    };
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| retry_after(value.to_str().ok()?, Timestamp::now()));
    FetchError { retry_after, ..FetchError::new(kind, format!("the provider answers {status}")) }
}

/// `Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3).
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
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
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2015-10-21T07:27:00Z".parse().unwrap();
        let read = |value| retry_after(value, now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("999999999999"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-5"), None);
    }
}
