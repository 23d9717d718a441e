//! What was retried, in the bucket `retries`, so that nothing is twice.

use anyhow::{Context as _, Result};
use nats::{Bucket, Message, Nats};
use schemas::{headers, subject};
use serde::{Deserialize, Serialize};

/// The bucket.
pub(super) struct Retries(Bucket);

/// The retry of one rejection. It is written before anything is published, so that whoever comes
/// later finds what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Retry {
    /// The newest sequences of `TICKS_RAW`, `TICKS` and `TICKS_REJECTED` before: what comes of the
    /// retry is behind them.
    pub(super) raw: u64,
    pub(super) ticks: u64,
    pub(super) rejected: u64,
    /// What became of it; nothing while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<String>,
}

impl Retries {
    pub(super) async fn open(nats: &Nats) -> Result<Self> {
        let description = "which rejections were retried, and what became of it";
        Ok(Self(nats.bucket(subject::RETRIES, description, None).await?))
    }

    /// What became of the retry of a rejection, where there was one.
    pub(super) async fn outcome(&self, rejection: &Message) -> Result<Option<String>> {
        let retry = self.get(&key(rejection)?).await?;
        Ok(retry.map(|retry| retry.outcome.unwrap_or_else(|| "published".to_owned())))
    }

    /// The retry of a rejection: the one there was, else this one.
    pub(super) async fn begin(&self, rejection: &Message, retry: Retry) -> Result<Retry> {
        let key = key(rejection)?;
        let written = self.0.create(&key, serde_json::to_vec(&retry)?.into()).await?;
        match written {
            Some(_) => Ok(retry),
            None => self.get(&key).await?.context("the retry was taken away"),
        }
    }

    /// Says what became of a retry.
    pub(super) async fn end(&self, rejection: &Message, retry: Retry) -> Result<()> {
        self.0.put(&key(rejection)?, serde_json::to_vec(&retry)?.into()).await?;
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Retry>> {
        let Some((value, _)) = self.0.get(key).await? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&value)?))
    }
}

/// The message id of a rejection as a key: what a key may not hold is escaped as in a subject token.
fn key(rejection: &Message) -> Result<String> {
    let id = rejection.header(headers::MESSAGE_ID).context("the rejection has no message id")?;
    let mut key = String::with_capacity(id.len() + 8);
    for byte in id.bytes() {
        match byte {
            b'-' | b'_' => key.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => key.push(char::from(byte)),
            _ => key += &format!("={byte:02X}"),
        }
    }
    Ok(key)
}
