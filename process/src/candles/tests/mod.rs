//! A crash at every call of the broker and the bucket, and a whole day against the slow and obvious
//! way.

mod broker;
mod many;
mod naive;

use std::{collections::HashMap, time::Duration};

use nats::{Headers, Message};
use schemas::{CandleInterval, CandleUpdate, Decimal, Print, Source, Symbol, headers, subject};
use tokio::{
    runtime,
    time::{Instant, timeout},
};

use super::{book::Book, trade::Trade, *};
use crate::testing::Failure;
use broker::{Fake, Stores};
use naive::candles;

fn config(intervals: &[CandleInterval]) -> CandlesConfig {
    CandlesConfig { intervals: intervals.to_vec(), ..CandlesConfig::default() }
}

fn calendars(rules: &[&str]) -> Calendars {
    Calendars::new(&rules.iter().map(|&rule| rule.to_owned()).collect::<Vec<_>>()).unwrap()
}

fn maker(broker: &Fake, intervals: &[CandleInterval]) -> Maker {
    Maker {
        broker: Arc::new(broker.clone()),
        store: Box::new(broker.clone()),
        config: config(intervals),
        calendars: Calendars::default(),
        max_symbols: MAX_SYMBOLS,
        drain_deadline: Duration::from_secs(1),
        metrics: Metrics::register(),
    }
}

fn trade(seq: u64, symbol: &str, millisecond: i64, price: &str, size: &str) -> Trade {
    let print = Print {
        ts: jiff::Timestamp::from_millisecond(millisecond).unwrap(),
        price: Decimal::parse(price).unwrap(),
        size: Some(Decimal::parse(size).unwrap()),
    };
    let source = Source::new("sim").unwrap();
    Trade { symbol: Symbol::new(symbol).unwrap(), source, print, seq }
}

fn message(trade: &Trade, kind: &str) -> Message {
    let Trade { symbol, source, print, seq } = trade;
    let body = serde_json::json!({
        "id": format!("t{seq}"), "symbol": symbol, "price": print.price, "size": print.size,
        "currency": "USD", "exchange": null, "kind": kind, "ts": print.ts,
        "received_at": print.ts, "source": source, "raw_seq": seq,
    });
    Message {
        subject: subject::tick(symbol),
        headers: Headers::default(),
        body: body.to_string().into(),
        sequence: *seq,
        stored_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// Two symbols over 25 s, as they come: mostly in time, some of them up to 12 s late, and in the
/// middle all is silent.
fn trades() -> Vec<(Trade, Duration)> {
    let mut trades = Vec::new();
    for n in 0..40_u64 {
        let seq = n + 1;
        let at = n * 400 + if n > 20 { 9_000 } else { 0 };
        let late = match n {
            9 | 10 => 1_700,
            15 => 5_200,
            30 => 12_000,
            _ => n % 3 * 90,
        };
        let symbol = if n % 4 == 3 { "B" } else { "A" };
        let event = i64::try_from(at).unwrap() - late as i64 + 1_000_000_000;
        let price = format!("{}.{:02}", 10 + n * 7 % 5, n % 100);
        trades.push((
            trade(seq, symbol, event, &price, &(n % 6).to_string()),
            Duration::from_millis(at),
        ));
    }
    trades
}

const INTERVALS: [CandleInterval; 3] =
    [CandleInterval::OneSecond, CandleInterval::FiveSeconds, CandleInterval::OneMinute];

/// Runs sessions until all is closed and saved.
async fn make(broker: &Fake) {
    make_with(&maker(broker, &INTERVALS)).await;
}

async fn make_with(maker: &Maker) {
    let (running, _messages) = mpsc::channel(1);
    for _ in 0..100 {
        let stop = CancellationToken::new();
        let patience = stop.clone();
        // The minute is over, and nothing can come late any more.
        let timer = async move {
            sleep(Duration::from_secs(95)).await;
            patience.cancel();
        };
        let (ended, ()) = tokio::join!(
            async {
                let ended = maker.session(&stop, &running).await;
                stop.cancel();
                ended
            },
            async {
                let _ = stop.run_until_cancelled(timer).await;
            }
        );
        if ended.is_ok() {
            return;
        }
    }
    panic!("no end after 100 sessions");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

fn updates(messages: &[Message]) -> Vec<CandleUpdate> {
    let read = |message: &Message| {
        let update: CandleUpdate = serde_json::from_slice(&message.body).unwrap();
        let subject = subject::candle(update.candle.interval, &update.candle.symbol);
        assert_eq!(message.subject, subject);
        assert_eq!(message.header(headers::MESSAGE_ID), Some(&*update.message_id()));
        update
    };
    messages.iter().map(read).collect()
}

/// Each revision once and in order, each of exactly the trades up to its sequence, the last of all.
fn check(updates: &[CandleUpdate], trades: &[Trade], case: &str) {
    let mut newest: HashMap<_, CandleUpdate> = HashMap::new();
    for update in updates {
        assert!(update.closed, "{case}: {update:?}");
        let key = (update.candle.symbol.clone(), update.candle.interval, update.candle.start);
        let before = newest.insert(key, update.clone());
        let revision = before.as_ref().map_or(0, |before| before.revision);
        assert_eq!(update.revision, revision + 1, "{case}: {update:?}");
        if let Some(before) = before {
            let known = trades.iter().filter(|trade| trade.seq <= before.seq).cloned();
            let known: Vec<_> = known.collect();
            let expected = candles(&known, before.candle.interval, &Calendars::default());
            assert!(expected.contains(&before.candle), "{case}: {before:?}");
        }
    }
    let expected =
        INTERVALS.into_iter().flat_map(|interval| candles(trades, interval, &Calendars::default()));
    let mut count = 0;
    for candle in expected {
        let key = (candle.symbol.clone(), candle.interval, candle.start);
        assert_eq!(newest[&key].candle, candle, "{case}");
        count += 1;
    }
    assert_eq!(newest.len(), count, "{case}");
}

fn fake(stores: Stores, failure: Option<(usize, Failure)>) -> Fake {
    let ticks = trades().into_iter().map(|(trade, delay)| (message(&trade, "trade"), delay));
    Fake::new(ticks.collect(), stores, failure)
}

#[test]
fn a_crash_at_any_call_neither_loses_nor_doubles_nor_spoils_a_candle() {
    let trades: Vec<_> = trades().into_iter().map(|(trade, _)| trade).collect();
    for stores in [Stores::AtOnce, Stores::WithReceipt, Stores::Late] {
        for failure in [Failure::BeforeEffect, Failure::AfterEffect] {
            let mut call = 0;
            loop {
                let case = format!("{stores:?} {failure:?} {call}");
                let calls = block_on(async {
                    let broker = fake(stores, Some((call, failure)));
                    make(&broker).await;
                    let state = broker.state();
                    assert_eq!(state.acknowledged, state.ticks.len() as u64, "{case}");
                    check(&updates(&state.candles), &trades, &case);
                    state.calls.made
                });
                if calls <= call {
                    break;
                }
                call += 1;
            }
            assert!(call > 120, "only {call} calls were tried");
        }
    }
}

#[test]
fn late_trades_restate_what_is_closed() {
    block_on(async {
        let broker = fake(Stores::AtOnce, None);
        make(&broker).await;
        let updates = updates(&broker.state().candles);
        let restated = |interval: &CandleInterval| {
            updates.iter().filter(|u| u.candle.interval == *interval && u.revision > 1).count()
        };
        for interval in &INTERVALS[..2] {
            assert!(restated(interval) > 0, "{interval}: {updates:?}");
        }
    });
}

#[test]
fn running_candles_are_shown_where_they_have_changed_and_not_too_often() {
    block_on(async {
        let broker = fake(Stores::AtOnce, None);
        let maker = maker(&broker, &INTERVALS);
        let (running, mut messages) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let watching = async {
            let mut shown = Vec::new();
            while let Ok(Some(batch)) = timeout(Duration::from_secs(60), messages.recv()).await {
                shown.push((Instant::now(), batch));
                if shown.len() == 15 {
                    break;
                }
            }
            stop.cancel();
            shown
        };
        let begin = Instant::now();
        let (ended, shown) = tokio::join!(maker.session(&stop, &running), watching);
        ended.unwrap();
        let gaps = shown.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(gaps.into_iter().all(|gap| gap >= Duration::from_millis(1_000)));
        assert!(shown.last().unwrap().0 - begin < Duration::from_secs(20));
        let all: Vec<_> = shown.iter().flat_map(|(_, batch)| batch).collect();
        for message in &all {
            let update: CandleUpdate = serde_json::from_slice(&message.body).unwrap();
            let candle = &update.candle;
            assert!(!update.closed && update.revision == 0);
            assert_eq!(message.subject, subject::running_candle(candle.interval, &candle.symbol));
            assert_ne!(candle.interval, CandleInterval::OneSecond, "not longer than the throttle");
        }
        let first: CandleUpdate = serde_json::from_slice(&all[0].body).unwrap();
        assert_eq!(first.candle.trades, 3, "those of the first second, but for one of B");
    });
}

#[test]
fn only_trades_count() {
    block_on(async {
        let ticks = ["quote", "trade", "bar"].iter().enumerate().map(|(n, kind)| {
            let trade = trade(n as u64 + 1, "A", n as i64 * 10, "5", "1");
            (message(&trade, kind), Duration::ZERO)
        });
        let broker = Fake::new(ticks.collect(), Stores::AtOnce, None);
        make(&broker).await;
        let updates = updates(&broker.state().candles);
        assert_eq!(updates.len(), INTERVALS.len());
        assert!(updates.iter().all(|update| update.candle.trades == 1 && update.seq == 2));
    });
}

/// It would close what is running, and make all that follow too late.
#[test]
fn a_trade_of_the_future_is_in_no_candle() {
    let mut body: serde_json::Value =
        serde_json::from_slice(&message(&trade(1, "A", 10, "5", "1"), "trade").body).unwrap();
    body["flags"] = serde_json::json!(["outlier"]);
    assert!(Trade::read(body.to_string().as_bytes(), 1).unwrap().is_some());
    body["flags"] = serde_json::json!(["outlier", "future"]);
    assert!(Trade::read(body.to_string().as_bytes(), 1).unwrap().is_none());
}

/// All trades of a day, straight through the book.
fn made_of(trades: &[Trade], calendars: &Calendars) -> HashMap<String, CandleUpdate> {
    let config = CandlesConfig::default();
    let mut book = Book::new(&config, calendars, MAX_SYMBOLS);
    let (begin, mut published) = (Instant::now(), Vec::new());
    for trade in trades {
        let known = published.len();
        book.take(trade, begin, &mut published);
        for (place, (stored, _)) in published.iter().enumerate().skip(known) {
            book.confirm(stored, place as u64 + 1);
        }
    }
    // Two silent days later everything is closed.
    published.extend(book.sweep(begin + Duration::from_secs(2 * 86_400), usize::MAX));
    let mut closed = HashMap::new();
    for (_, message) in published {
        let update: CandleUpdate = serde_json::from_slice(&message.body).unwrap();
        let id = format!("{} {}", message.subject, update.candle.start);
        assert!(closed.insert(id, update).is_none(), "nothing came late");
    }
    closed
}

#[test]
fn a_real_day_is_exactly_that_of_a_naive_computation() {
    let trades = naive::day();
    let calendars = calendars(&["sim=XNYS"]);
    let made = made_of(&trades, &calendars);
    let mut expected = 0;
    for interval in CandleInterval::ALL {
        for candle in candles(&trades, interval, &calendars) {
            let subject = subject::candle(interval, &candle.symbol);
            let id = format!("{subject} {}", candle.start);
            assert_eq!(made[&id].candle, candle, "{id}");
            expected += 1;
        }
    }
    assert_eq!(made.len(), expected);
}

/// 2013-10-07, a Monday: New York is four hours behind UTC.
#[test]
fn a_day_is_that_of_the_exchange_and_closes_with_its_last_session() {
    let calendars = calendars(&["sim=XNYS"]);
    let config = config(&[CandleInterval::OneDay]);
    let mut book = Book::new(&config, &calendars, MAX_SYMBOLS);
    let millisecond = |ts: &str| ts.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let begin = Instant::now();
    let mut published = Vec::new();
    for (seq, ts) in [(1, "2013-10-07T08:00:00Z"), (2, "2013-10-07T23:59:58Z")] {
        book.take(&trade(seq, "IBM", millisecond(ts), "180", "1"), begin, &mut published);
    }
    assert!(published.is_empty());
    assert!(book.sweep(begin + Duration::from_millis(2_900), 10).is_empty());
    let closed = book.sweep(begin + Duration::from_millis(3_000), 10);
    assert_eq!(closed.len(), 1, "8 p.m. in New York, and a second of grace");
    let update: CandleUpdate = serde_json::from_slice(&closed[0].1.body).unwrap();
    assert_eq!(update.candle.start.to_string(), "2013-10-07T04:00:00Z");
    assert_eq!(update.candle.end.to_string(), "2013-10-08T04:00:00Z");
    assert_eq!(update.candle.trades, 2);
}

#[test]
fn a_trade_that_is_too_late_is_in_no_candle_and_opens_none() {
    let (config, calendars) = (config(&[CandleInterval::OneSecond]), Calendars::default());
    let mut book = Book::new(&config, &calendars, MAX_SYMBOLS);
    let now = Instant::now();
    let mut published = Vec::new();
    let mut take = |seq, millisecond, published: &mut Vec<_>| {
        book.take(&trade(seq, "A", millisecond, "1", "1"), now, published)
    };
    assert_eq!(take(1, 0, &mut published), series::Outcome::Counted);
    assert_eq!(take(2, 30_999, &mut published), series::Outcome::Counted);
    assert_eq!(take(3, 500, &mut published), series::Outcome::Counted, "30 s are allowed");
    assert_eq!(take(4, 31_000, &mut published), series::Outcome::Counted);
    // A second in which nothing was traded, and which nobody waits for any more.
    assert_eq!(take(5, 61_000, &mut published), series::Outcome::Counted);
    assert_eq!(take(6, 29_000, &mut published), series::Outcome::Late);
}
