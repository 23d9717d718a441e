//! `lizards rejected list`.

use std::collections::VecDeque;

use anyhow::Result;
use nats::{Message, Start, topology::Stream};
use schemas::{Source, Symbol, headers, subject};
use serde::Serialize;

use super::{Filter, retries::Retries};
use crate::{
    print::{columns, print},
    streams::{Streams, find},
};

const HEAD: [&str; 7] = ["SEQ", "STORED AT", "SOURCE", "REASON", "SYMBOL", "RETRIED", "ERROR"];

/// A rejection, as it is listed.
#[derive(Debug, Serialize)]
struct Row {
    seq: u64,
    stored_at: String,
    source: Option<String>,
    reason: String,
    stage: String,
    symbol: Option<String>,
    error: String,
    raw_seq: Option<u64>,
    raw_subject: Option<String>,
    /// What became of its retry.
    retried: Option<String>,
}

pub(super) async fn run(streams: &Streams, filter: &Filter) -> Result<()> {
    let source = filter.source.as_ref().map_or("*", Source::as_str);
    let reason = filter.reason.map_or("*", |reason| reason.as_str());
    let pattern = format!("ticks.rejected.{source}.{reason}");
    let wanted = |message: &Message| filter.until.is_none_or(|until| message.stored_at <= until);
    let (broker, stream) = (&*streams.broker, Stream::Rejected);
    let found = match filter.since {
        None => find::newest(broker, stream, &pattern, filter.limit, wanted).await?,
        Some(since) => {
            let mut found = VecDeque::new();
            find::all(broker, stream, &pattern, Start::Time(since), |message| {
                find::keep(&mut found, message, filter.limit, wanted);
                true
            })
            .await?;
            found
        }
    };
    let retries = Retries::open(&streams.nats).await?;
    let mut rows = Vec::with_capacity(found.len());
    for message in &found {
        let retried = retries.outcome(message).await?;
        rows.push(Row::of(message, retried));
    }
    if filter.json {
        for row in &rows {
            print(format_args!("{}\n", serde_json::to_string(row)?))?;
        }
    } else {
        print(columns(HEAD, rows.iter().map(Row::cells)))?;
    }
    Ok(())
}

impl Row {
    fn of(message: &Message, retried: Option<String>) -> Self {
        let text = |name| message.header(name).map(str::to_owned);
        let raw_subject = text(headers::RAW_SUBJECT);
        let symbol = message
            .header(headers::SYMBOL)
            .and_then(|token| Symbol::from_token(token).ok())
            .or_else(|| raw_subject.as_deref().and_then(subject::symbol_of_raw));
        Self {
            seq: message.sequence,
            stored_at: message.stored_at.to_string(),
            source: text(headers::SOURCE),
            reason: text(headers::REASON).unwrap_or_default(),
            stage: text(headers::STAGE).unwrap_or_default(),
            symbol: symbol.map(|symbol| symbol.to_string()),
            error: text(headers::ERROR).unwrap_or_default(),
            raw_seq: message.header(headers::RAW_SEQUENCE).and_then(|seq| seq.parse().ok()),
            raw_subject,
            retried,
        }
    }

    fn cells(&self) -> [String; 7] {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        [
            self.seq.to_string(),
            self.stored_at.chars().take(19).chain(['Z']).collect(),
            or_dash(&self.source),
            self.reason.clone(),
            or_dash(&self.symbol),
            or_dash(&self.retried),
            self.error.clone(),
        ]
    }
}
