//! One attempt to post an alert.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
    redirect::Policy,
};
use schemas::alert::{StoredWebhook, is_public};

use super::{
    super::AlertsConfig,
    address::{PrivateAddress, Resolver},
    signature::sign,
};

/// The longest that a receiver may ask us to wait.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);

/// Posts to receivers, and to nobody else.
pub(super) struct Poster {
    client: Client,
    allow_private: bool,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The receiver has it.
    Accepted(u16),
    /// The receiver wants nothing more, ever (410).
    Gone,
    /// It may not be connected to.
    Forbidden,
    /// Not this time.
    Refused(Refusal),
}

/// Why it has to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For a metric.
    pub(super) kind: &'static str,
    pub(super) status: Option<u16>,
    pub(super) fault: String,
    /// How long the receiver asks us to wait.
    pub(super) retry_after: Option<Duration>,
}

impl Poster {
    pub(super) fn new(config: &AlertsConfig) -> reqwest::Result<Self> {
        let allow_private = config.allow_private_webhooks;
        let client = Client::builder()
            .user_agent(concat!("lizards/", env!("CARGO_PKG_VERSION")))
            // Where it leads to is the receiver's choice, not the rule's.
            .redirect(Policy::none())
            // A proxy would look up the name, and not be asked whether it may.
            .no_proxy()
            .dns_resolver(Resolver { allow_private })
            .timeout(Duration::from_millis(config.webhook_timeout_ms))
            .pool_max_idle_per_host(1)
            .build()?;
        Ok(Self { client, allow_private })
    }

    /// Posts a body once, signed as of now.
    pub(super) async fn post(&self, to: &StoredWebhook, id: &str, body: &Bytes) -> Answer {
        // What is an address already is not looked up.
        if !self.allow_private && to.url.ip().is_some_and(|address| !is_public(address)) {
            return Answer::Forbidden;
        }
        let timestamp = Timestamp::now().as_second();
        let sent = self
            .client
            .post(to.url.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", sign(&to.secret, id, timestamp, body))
            .body(body.clone())
            .send()
            .await;
        match sent {
            Ok(response) => answered(&response),
            Err(error) => failed(error),
        }
    }
}

/// The body of an answer is of no concern, and is not read.
fn answered(response: &Response) -> Answer {
    let status = response.status();
    if status.is_success() {
        return Answer::Accepted(status.as_u16());
    }
    if status == StatusCode::GONE {
        return Answer::Gone;
    }
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let fault = if status.is_redirection() {
        format!("it answered {status}; redirects are not followed")
    } else {
        format!("it answered {status}")
    };
    Answer::Refused(Refusal {
        kind: "refused",
        status: Some(status.as_u16()),
        fault,
        retry_after: asked.and_then(|text| wait(text, Timestamp::now())),
    })
}

fn failed(error: reqwest::Error) -> Answer {
    if PrivateAddress::is_behind(&error) {
        return Answer::Forbidden;
    }
    let (kind, fault) = if error.is_timeout() {
        ("timed_out", "it did not answer in time".to_owned())
    } else {
        // The address can hold a secret, and its owner knows it.
        let error = error.without_url();
        let mut cause: &dyn Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        ("unreachable", cause.to_string())
    };
    Answer::Refused(Refusal { kind, status: None, fault, retry_after: None })
}

/// The seconds or the date of a `Retry-After` (RFC 9110, 10.2.3), an hour at most.
pub(super) fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let asked = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(asked.min(LONGEST_ASKED))
}
