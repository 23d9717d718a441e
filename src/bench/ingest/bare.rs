//! The least program that does the same: it asks for the same quotes at the same pace, follows the
//! same symbols over as many connections, and publishes what comes with the envelope that ours gives
//! it. Written against reqwest, tokio-tungstenite and async-nats alone. It has no quota, sees no gap,
//! resends nothing and knows no answer again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use jiff::Timestamp;
use schemas::{Format, RawTick, Source, Symbol, subject};
use tokio::{task::JoinSet, time::interval};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use super::{load::Load, provider::Feed};

/// What is fetched.
#[derive(Args)]
pub(crate) struct BareOptions {
    /// `host:port` of the providers
    providers: String,
    #[command(flatten)]
    load: Load,
}

/// Fetches and publishes until it is stopped.
pub(crate) async fn fetch(options: &BareOptions, url: &str) -> Result<()> {
    let publisher = Publisher::connect(url).await?;
    let (load, providers) = (options.load, options.providers.as_str());
    let mut tasks = JoinSet::new();
    tasks.spawn(publisher.clone().receipts().await?);
    if load.polled > 0 {
        tasks.spawn(poll(load, format!("http://{providers}/api/v1/quote"), publisher.clone()));
    }
    for feed in Feed::ALL {
        for symbols in load.followed(feed) {
            let url = format!("ws://{providers}/{}", feed.name());
            tasks.spawn(follow(feed, url, symbols, publisher.clone()));
        }
    }
    tasks.join_next().await.context("there is nothing to do")??
}

/// Publishes, and collects the receipts on one inbox.
#[derive(Clone)]
struct Publisher {
    client: Client,
    inbox: String,
    sent: Arc<AtomicU64>,
}

impl Publisher {
    async fn connect(url: &str) -> Result<Self> {
        let client = async_nats::connect(url).await?;
        Ok(Self { inbox: client.new_inbox(), client, sent: Arc::default() })
    }

    async fn receipts(self) -> Result<impl Future<Output = Result<()>>> {
        let mut receipts = self.client.subscribe(format!("{}.*", self.inbox)).await?;
        Ok(async move {
            while let Some(receipt) = receipts.next().await {
                ensure!(!receipt.payload.starts_with(br#"{"error""#), "a message is refused");
            }
            bail!("the connection broke")
        })
    }

    async fn publish(
        &self,
        source: Source,
        symbol: Symbol,
        number: u64,
        format: Format,
        body: Bytes,
    ) -> Result<()> {
        let raw = RawTick {
            id: format!("{source}:{}:{number}", symbol.token()),
            source,
            symbol: Some(symbol),
            received_at: Timestamp::now(),
            content_type: "application/json".to_owned(),
            format,
            columns: None,
            body,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in raw.headers() {
            headers.insert(name, value);
        }
        let subject = subject::raw(&raw.source, raw.symbol.as_ref());
        let reply = format!("{}.{}", self.inbox, self.sent.fetch_add(1, Ordering::Relaxed));
        Ok(self.client.publish_with_reply_and_headers(subject, reply, headers, raw.body).await?)
    }
}

/// Asks for each symbol in turn.
async fn poll(load: Load, url: String, publisher: Publisher) -> Result<()> {
    let client = reqwest::Client::new();
    let symbols = load.polled_symbols();
    let mut pace = interval(load.interval() / u32::try_from(symbols.len())?);
    let mut asking = JoinSet::new();
    for (number, symbol) in (0..).zip(symbols.iter().cycle()) {
        pace.tick().await;
        while let Some(asked) = asking.try_join_next() {
            asked??;
        }
        let (publisher, symbol) = (publisher.clone(), Symbol::new(symbol)?);
        let request = client.get(&url).query(&[("symbol", symbol.as_str())]);
        let request = request.header("X-Finnhub-Token", "bench").timeout(Duration::from_secs(10));
        asking.spawn(async move {
            let answer = request.send().await?;
            if !answer.status().is_success() {
                return Ok(());
            }
            let body = answer.bytes().await?;
            let source = Source::new("finnhub")?;
            publisher.publish(source, symbol, number, Format::FinnhubQuote, body).await
        });
    }
    Ok(())
}

/// Follows the symbols over one connection.
async fn follow(feed: Feed, url: String, symbols: Vec<String>, publisher: Publisher) -> Result<()> {
    let (mut socket, _) = connect_async(url).await?;
    socket.send(Message::text(feed.request(&symbols).to_string())).await?;
    let source = Source::new(feed.name())?;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        if let Some((symbol, number)) = feed.read(&text) {
            let body = Bytes::from(text);
            publisher.publish(source.clone(), symbol, number, feed.format(), body).await?;
        }
    }
    bail!("{}: the connection ended", feed.name())
}
