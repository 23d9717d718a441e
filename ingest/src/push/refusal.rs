//! Why something that was posted is not taken.

use axum::{
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use service::Problem;

use super::{AT_ONCE, MAX_IDEMPOTENCY_KEY};
use crate::outlet::MAX_PAYLOAD_BYTES;

/// Why something that was posted is not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such source, or its key is not shown.
    Key,
    /// The key of the request is none.
    IdempotencyKey,
    /// It is of another format; these are taken.
    MediaType(&'static [&'static str]),
    /// It is compressed in a way that nobody here knows.
    Encoding,
    /// It is not what its headers say.
    Unreadable(String),
    /// It is larger than a payload may be.
    TooLarge,
    /// It did not come in time.
    Slow,
    /// The source posts too much at once.
    Busy,
    /// The broker has not said that it is stored.
    Unavailable,
}

impl Refusal {
    /// As in the metric.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::IdempotencyKey => "idempotency_key",
            Self::MediaType(_) | Self::Encoding => "media_type",
            Self::Unreadable(_) => "unreadable",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }

    fn problem(self) -> Problem {
        let (status, detail) = match self {
            Self::Key => (
                StatusCode::UNAUTHORIZED,
                "there is no such source, or its key is missing: send it as Authorization: Bearer <key>"
                    .to_owned(),
            ),
            Self::IdempotencyKey => (
                StatusCode::BAD_REQUEST,
                format!(
                    "Idempotency-Key: must be 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters"
                ),
            ),
            Self::MediaType(taken) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("Content-Type: must be one of {}", taken.join(", ")),
            ),
            Self::Encoding => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Content-Encoding: must be gzip, zstd or identity".to_owned(),
            ),
            Self::Unreadable(fault) => (StatusCode::UNPROCESSABLE_ENTITY, fault),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body must be whole and, inflated, at most {MAX_PAYLOAD_BYTES} bytes"),
            ),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "the body took too long".to_owned()),
            Self::Busy => (
                StatusCode::TOO_MANY_REQUESTS,
                format!("more than {AT_ONCE} requests of this source at once"),
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "it is not known to be stored; send it again with the same Idempotency-Key"
                    .to_owned(),
            ),
        };
        Problem::new(status, detail)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let may_pass = matches!(self, Self::Busy | Self::Unavailable);
        let mut response = self.problem().into_response();
        if may_pass {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
