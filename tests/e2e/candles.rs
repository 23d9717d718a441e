//! Candles of real trades: those of the stream agree with those of the store, whoever is killed.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use nats::{Start, topology::Stream};
use schemas::{
    Candle, CandleInterval, CandleUpdate, ClientMessage, ServerMessage, Subscribe, http::Candles,
    subject,
};

use crate::{
    brokers::Ground,
    eventually::eventually,
    servers,
    subscriber::{connect, next, send},
    trades::Trades,
};

const PATIENCE: Duration = Duration::from_secs(180);
const SYMBOLS: [&str; 4] = ["AIG", "BAC", "IBM", "SPY"];

/// The newest revision of each candle, by interval, symbol and start; every revision must be there
/// once.
#[derive(Default)]
struct Closed(BTreeMap<(CandleInterval, String, String), CandleUpdate>);

impl Closed {
    fn take(&mut self, message: &nats::Message) {
        let update: CandleUpdate = serde_json::from_slice(&message.body).expect("a candle");
        assert!(update.closed);
        let Candle { interval, symbol, start, .. } = &update.candle;
        assert_eq!(message.subject, subject::candle(*interval, symbol));
        let key = (*interval, symbol.to_string(), start.to_string());
        let revision = update.revision;
        let before = self.0.insert(key, update).map_or(0, |before| before.revision);
        assert_eq!(revision, before + 1, "{}", message.subject);
    }
}

async fn stored(provide: &str, symbol: &str, interval: CandleInterval) -> Option<Vec<Candle>> {
    servers::install_crypto();
    let url = format!("http://{provide}/candles/{symbol}?interval={interval}&from=0&limit=10000");
    let answer = reqwest::get(url).await.ok()?.error_for_status().ok()?;
    Some(answer.json::<Candles>().await.ok()?.candles)
}

#[tokio::test(flavor = "multi_thread")]
async fn those_of_the_stream_are_those_of_the_store_although_their_maker_is_killed() {
    make_and_kill(Ground::jetstream().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_rabbitmq_they_are_the_same() {
    make_and_kill(Ground::rabbitmq().await).await;
}

/// Replays trades, and kills who makes candles of them three times.
async fn make_and_kill(ground: Ground) {
    let (mut installation, registry, broker) =
        (ground.installation, ground.registry, ground.broker);
    let trades = Trades::from_the_open(20_000).spoil_every(100);
    let file = trades.write(installation.folder());
    installation.set("ingest.sources", "file");
    installation.set("ingest.file.path", file.display());
    // About 6 minutes of trades in about 18 seconds.
    installation.set("ingest.file.speed", "20x");
    let mut running =
        registry.nats.listen_live(subject::ALL_RUNNING_CANDLES).await.expect("NATS runs");
    let _others = ["ingest", "provide", "gateway"].map(|role| installation.role(role));
    let mut process = installation.role("process");
    let shown = tokio::time::timeout(PATIENCE, running.next()).await.expect("in time");
    let shown: CandleUpdate = serde_json::from_slice(&shown.expect("it is open").body).unwrap();
    assert!(!shown.closed && shown.revision == 0);
    let mut socket = connect(&registry).await.expect("the gateway tunnels");
    let (symbols, candles) = (vec!["*".into()], vec!["5s".into()]);
    let subscribe = Subscribe { symbols, candles, ..Subscribe::default() };
    send(&mut socket, &ClientMessage::Subscribe(subscribe)).await.expect("open");
    for closed in [false, true] {
        let candle = next(&mut socket, |message| match message {
            ServerMessage::Candle { data } if data.closed == closed => Some(data.candle),
            _ => None,
        });
        assert_eq!(candle.await.interval, CandleInterval::FiveSeconds);
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        process.kill().await;
        process.start_again().await;
    }

    let mut reader = broker.reader(Stream::Candles, &[], Start::Sequence(1)).await.expect("NATS");
    let mut closed = Closed::default();
    let provide = registry.address("provide").await;
    for symbol in SYMBOLS {
        let count = trades.of(symbol).len() as u64;
        eventually(PATIENCE, &format!("all trades of {symbol} are stored"), async || {
            let day = stored(&provide, symbol, CandleInterval::OneDay).await?;
            (day.iter().map(|candle| candle.trades).sum::<u64>() == count).then_some(())
        })
        .await;
    }
    // Longer ones are not over yet: after the last trade, time is the wall's.
    for interval in [CandleInterval::OneSecond, CandleInterval::FiveSeconds] {
        for symbol in SYMBOLS {
            for candle in stored(&provide, symbol, interval).await.expect("the store answers") {
                let key = (interval, symbol.to_owned(), candle.start.to_string());
                while closed.0.get(&key).is_none_or(|known| known.candle != candle) {
                    let next = tokio::time::timeout(PATIENCE, reader.next()).await;
                    let known = closed.0.get(&key);
                    let next = next.unwrap_or_else(|_| panic!("{candle:?} is not {known:?}"));
                    closed.take(&next.expect("a message"));
                }
            }
        }
    }
    let mut minutes = 0;
    for ((interval, symbol, start), known) in &closed.0 {
        if *interval == CandleInterval::OneMinute {
            let all = stored(&provide, symbol, *interval).await.expect("the store answers");
            assert!(all.contains(&known.candle), "{symbol} {start}: {known:?}");
            minutes += 1;
        }
    }
    assert!(minutes >= SYMBOLS.len(), "minutes are closed, too");
}
