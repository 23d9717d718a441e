//! The reads over real HTTP, from a real SQLite store.

use jiff::Timestamp;
use reqwest::StatusCode;
use schemas::{Candle, Decimal, Source, Symbol, Tick, TickKind, calendar::Calendars};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::store::{self, StoreConfig, TickWriter};

struct Site {
    address: std::net::SocketAddr,
    writer: Box<dyn TickWriter>,
    _directory: tempfile::TempDir,
}

impl Site {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = StoreConfig::default();
        let writer = store::open_writer(&config, directory.path()).await.unwrap();
        let reader =
            store::open_reader(&config, directory.path(), Calendars::default()).await.unwrap();
        Self { address: serve(reader).await, writer, _directory: directory }
    }

    /// A site with the ticks 1 to `count` of a symbol, one a second from the epoch on.
    async fn with(symbol: &str, count: u64) -> Self {
        let mut site = Self::open().await;
        site.add(symbol, 1..=count).await;
        site
    }

    async fn add(&mut self, symbol: &str, sequences: impl IntoIterator<Item = u64>) {
        let ticks: Vec<StoredTick> = sequences.into_iter().map(|seq| tick(symbol, seq)).collect();
        self.writer.write(&ticks).await.unwrap();
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = fetch(self.address, path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_value(body).unwrap()
    }

    async fn refuses(&self, path: &str, status: StatusCode) -> String {
        let (answered, body) = fetch(self.address, path).await;
        assert_eq!(answered, status, "{path}: {body}");
        assert_eq!(body["status"], status.as_u16());
        body["detail"].as_str().unwrap().to_owned()
    }
}

async fn serve(reader: Arc<dyn TickReader>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router(reader)).into_future());
    address
}

async fn fetch(address: std::net::SocketAddr, path: &str) -> (StatusCode, Value) {
    // Plain HTTP; the client wants its cryptography all the same. An error: it is chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
    let status = answer.status();
    let media_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let expected =
        if status.is_success() { "application/json" } else { "application/problem+json" };
    assert_eq!(media_type, expected);
    (status, answer.json().await.unwrap())
}

fn tick(symbol: &str, seq: u64) -> StoredTick {
    let tick = Tick {
        id: format!("test:{symbol}:{seq}"),
        symbol: Symbol::new(symbol).unwrap(),
        price: Decimal::parse(&format!("{seq}.500")).unwrap(),
        size: Some(Decimal::parse("2").unwrap()),
        currency: "USD".into(),
        exchange: None,
        kind: TickKind::Trade,
        ts: Timestamp::from_second(i64::try_from(seq).unwrap()).unwrap(),
        received_at: Timestamp::UNIX_EPOCH,
        source: Source::new("test").unwrap(),
        raw_seq: seq,
        flags: Vec::new(),
    };
    StoredTick::new(tick, seq).unwrap()
}

#[tokio::test]
async fn quotes_are_the_newest_and_name_what_is_unknown() {
    let mut site = Site::with("AAPL", 3).await;
    site.add("EUR/USD", [9]).await;
    site.add("*", [5]).await;
    assert_eq!(site.get::<Tick>("/quotes/AAPL").await, *tick("AAPL", 3).tick());
    assert_eq!(site.get::<Tick>("/quotes/EUR%2FUSD").await, *tick("EUR/USD", 9).tick());
    assert_eq!(site.get::<Tick>("/quotes/*").await, *tick("*", 5).tick());
    let quotes: Quotes = site.get("/quotes?symbols=XYZ,EUR/USD,AAPL,EUR/USD,%C3%96").await;
    let expected = [tick("EUR/USD", 9).into_tick(), tick("AAPL", 3).into_tick()];
    assert_eq!(quotes.quotes, expected);
    assert_eq!(quotes.unknown, ["XYZ", "Ö"]);
    let missing = site.refuses("/quotes/XYZ", StatusCode::NOT_FOUND).await;
    assert_eq!(missing, r#"no tick of "XYZ" is stored"#);
}

#[tokio::test]
async fn pages_follow_each_other_while_ticks_are_added() {
    let mut site = Site::with("AAPL", 25).await;
    let mut seen = Vec::new();
    let mut path = "/ticks/AAPL?limit=10".to_owned();
    loop {
        let page: TickPage = site.get(&path).await;
        seen.extend(page.ticks.iter().map(|tick| tick.raw_seq));
        if seen.len() == 10 {
            site.add("AAPL", 26..=30).await;
        }
        let Some(cursor) = page.next_cursor else { break };
        path = format!("/ticks/AAPL?limit=10&cursor={cursor}");
    }
    // Exactly three full pages: the last one knows that it is the last.
    assert_eq!(seen, (1..=30).collect::<Vec<u64>>());
    let default: TickPage = site.get("/ticks/AAPL").await;
    assert_eq!((default.ticks.len(), default.next_cursor), (30, None));
    let unknown: TickPage = site.get("/ticks/XYZ").await;
    assert!(unknown.ticks.is_empty());
}

#[tokio::test]
async fn times_are_rfc_3339_or_milliseconds() {
    let site = Site::with("AAPL", 9).await;
    for span in [
        "from=3000&to=5000",
        "from=1970-01-01T00:00:03Z&to=1970-01-01T00:00:05Z",
        "from=1970-01-01T01:00:03%2B01:00&to=1970-01-01T00:00:04.000000001Z",
        "from=2001&to=4001",
    ] {
        let page: TickPage = site.get(&format!("/ticks/AAPL?{span}")).await;
        let sequences: Vec<u64> = page.ticks.iter().map(|tick| tick.raw_seq).collect();
        assert_eq!(sequences, [3, 4], "{span}");
    }
}

#[tokio::test]
async fn candles_are_whole_and_exact() {
    let site = Site::with("AAPL", 9).await;
    let all: Candles = site.get("/candles/AAPL?interval=5s&from=0").await;
    assert_eq!(all.candles.len(), 2);
    let expected = serde_json::json!({
        "symbol": "AAPL", "interval": "5s", "start": "1970-01-01T00:00:05Z",
        "end": "1970-01-01T00:00:10Z", "open": "5.500", "high": "9.500", "low": "5.500",
        "close": "9.500", "volume": "10", "turnover": "75.000", "vwap": "7.5", "trades": 5,
        "first_trade": "1970-01-01T00:00:05Z", "last_trade": "1970-01-01T00:00:09Z",
    });
    assert_eq!(all.candles[1], serde_json::from_value::<Candle>(expected).unwrap());
    // Without `from`: the last two spans before `to`, the one that holds it included.
    let last: Candles = site.get("/candles/AAPL?interval=1s&to=7500&limit=2").await;
    let starts: Vec<i64> = last.candles.iter().map(|candle| candle.start.as_second()).collect();
    assert_eq!(starts, [6, 7]);
    let recent: Candles = site.get("/candles/AAPL?interval=1d").await;
    assert!(recent.candles.is_empty(), "1970 is more than 100 days ago");
}

#[tokio::test]
async fn symbols_are_searched() {
    let mut site = Site::with("AAPL", 1).await;
    site.add("BRK.B", [1]).await;
    let all: Symbols = site.get("/symbols").await;
    assert_eq!(all.symbols, [Symbol::new("AAPL").unwrap(), Symbol::new("BRK.B").unwrap()]);
    let some: Symbols = site.get("/symbols?query=k.b").await;
    assert_eq!(some.symbols, [Symbol::new("BRK.B").unwrap()]);
    let one: Symbols = site.get("/symbols?limit=1").await;
    assert_eq!(one.symbols.len(), 1);
}

#[tokio::test]
async fn a_wrong_parameter_is_named_with_its_fault() {
    let site = Site::with("AAPL", 1).await;
    let day = "/candles/AAPL?interval=1d";
    for (path, fault) in [
        ("/quotes", "symbols: is missing"),
        ("/quotes?symbols=AAPL,,MSFT", "symbols: a symbol is empty"),
        ("/quotes/A%0AB", r"symbol: a symbol holds the control character '\n'"),
        ("/quotes/%FF", "symbol: "),
        ("/ticks/AAPL?limit=0", r#"limit: "0" is not a number from 1 to 10000"#),
        ("/ticks/AAPL?limit=10001", r#"limit: "10001" is not a number"#),
        ("/ticks/AAPL?limit=many", r#"limit: "many" is not a number"#),
        ("/ticks/AAPL?from=yesterday", r#"from: "yesterday" is neither a time"#),
        ("/ticks/AAPL?to=2024-13-01T00:00:00Z", r#"to: "2024-13-01T00:00:00Z" is neither"#),
        ("/ticks/AAPL?to=1970-01-01T00:00:00+01:00", "to: "),
        ("/ticks/AAPL?from=5&to=5", "from: 1970-01-01T00:00:00.005Z is not before to"),
        ("/ticks/AAPL?cursor=7", "cursor: is not a next_cursor"),
        ("/ticks/AAPL?form=5", "form: unknown field `form`, expected one of `from`"),
        ("/candles/AAPL", "interval: is missing"),
        ("/candles/AAPL?interval=2m", r#"interval: "2m" is not a candle interval"#),
        (&format!("{day}&from=x"), r#"from: "x" is neither"#),
        ("/symbols?query=%00", "query: holds a NUL character"),
    ] {
        let detail = site.refuses(path, StatusCode::BAD_REQUEST).await;
        assert!(detail.contains(fault), "{path}: {detail}");
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_is_not_the_callers_fault() {
    let directory = tempfile::tempdir().unwrap();
    let reader =
        store::open_reader(&StoreConfig::default(), directory.path(), Calendars::default())
            .await
            .unwrap();
    let address = serve(reader).await;
    let (status, problem) = fetch(address, "/quotes/AAPL").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["detail"], "the store cannot be read now: try again later");
}
