//! How the ticks get to a server: each the way it is meant to get them.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use nats::{Broker, Exclusivity, NewMessage, topology::Stream};
use schemas::{Tick, headers, rfc3339_nanos, subject};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{
    payload,
    scenario::{Scenario, symbol_name},
};

/// How many messages wait for their receipts: half of what processing allows itself.
const IN_FLIGHT: usize = 1_024;

/// Publishes the ticks of a scenario.
pub(super) enum Publisher {
    /// Into the stream `TICKS`, as processing does: ids, headers and fence.
    JetStream(Box<dyn nats::Publisher>),
    /// Over core NATS, where nothing is stored.
    Core(TcpStream),
    /// Over a connection of our own: see `server::feed`.
    Feed(TcpStream),
}

impl Publisher {
    /// Publishes into a JetStream.
    pub(super) async fn jetstream(broker: &dyn Broker) -> Result<Self> {
        let session = broker.publisher(&[Stream::Ticks], Exclusivity::Exclusive).await?;
        Ok(Self::JetStream(session))
    }

    /// Publishes to a nats-server at `host:port`. Its protocol is small enough to be spoken by
    /// hand, which keeps our own client library out of the comparison.
    pub(super) async fn core(address: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").await?;
        let mut lines = BufReader::new(&mut stream).lines();
        loop {
            match lines.next_line().await?.context("the nats-server closed the connection")? {
                line if line.starts_with("PONG") => break,
                line if line.starts_with("-ERR") => bail!("the nats-server says {line}"),
                _ => {}
            }
        }
        Ok(Self::Core(stream))
    }

    /// Publishes to one of the servers of this benchmark.
    pub(super) async fn feed(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Feed(stream))
    }

    /// Publishes some ticks from this sequence on, all at once.
    pub(super) async fn publish(
        &mut self,
        scenario: Scenario,
        from: u64,
        count: u64,
    ) -> Result<()> {
        let sequences = from..from + count;
        match self {
            Self::JetStream(session) => {
                for seq in sequences {
                    while session.in_flight() >= IN_FLIGHT {
                        session.confirmed().await?;
                    }
                    session.send(message(&payload::tick(scenario, seq, payload::now())?)?).await?;
                }
            }
            Self::Core(stream) => {
                let mut text = String::new();
                for seq in sequences {
                    let update = payload::price_update(scenario, seq, payload::now());
                    let subject = core_subject(scenario.symbol_of(seq));
                    write!(text, "PUB {subject} {}\r\n{update}\r\n", update.len())?;
                }
                stream.write_all(text.as_bytes()).await?;
            }
            Self::Feed(stream) => {
                let mut bytes = Vec::new();
                for seq in sequences {
                    let update = payload::price_update(scenario, seq, payload::now());
                    bytes.extend(u16::try_from(scenario.symbol_of(seq))?.to_be_bytes());
                    bytes.extend(u16::try_from(update.len())?.to_be_bytes());
                    bytes.extend(update.as_bytes());
                }
                stream.write_all(&bytes).await?;
            }
        }
        Ok(())
    }

    /// Waits until all of it is known to have arrived.
    pub(super) async fn settle(&mut self) -> Result<()> {
        if let Self::JetStream(session) = self {
            while session.in_flight() > 0 {
                session.confirmed().await?;
            }
        }
        Ok(())
    }
}

/// The subject of a symbol, which is that of its ticks in the stream.
pub(super) fn core_subject(symbol: u64) -> String {
    format!("ticks.norm.{}", symbol_name(symbol))
}

/// A message of `TICKS` with the headers that processing gives it.
fn message(tick: &Tick) -> Result<NewMessage> {
    Ok(NewMessage {
        subject: subject::tick(&tick.symbol),
        headers: vec![
            (headers::MESSAGE_ID, tick.id.clone()),
            (headers::SOURCE, tick.source.as_str().to_owned()),
            (headers::RECEIVED_AT, rfc3339_nanos(tick.received_at)),
            (headers::CONTENT_TYPE, "application/json".to_owned()),
            (headers::RAW_SEQUENCE, tick.raw_seq.to_string()),
        ],
        body: Bytes::from(serde_json::to_vec(tick)?),
    })
}
