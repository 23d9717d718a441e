//! What fires with which tick.

use schemas::alert::Alert;
use serde_json::{Value, json};

use super::{
    super::{book::Book, tick::Tick},
    rule, tick,
};

/// A tick of A: its second, price, size, and what is different about it.
type Told = (i64, &'static str, u32, Value);

/// The alerts of one rule with these ticks.
fn fired(condition: &str, ticks: &[Told]) -> Vec<Alert> {
    let mut book = Book::default();
    book.add(&rule("r", condition), 0);
    let mut alerts = Vec::new();
    for (seq, (second, price, size, other)) in (1..).zip(ticks) {
        let message = tick(seq, "A", *second, price, *size, other.clone());
        let tick = Tick::read(&message.body, seq).unwrap();
        book.take(&tick, &mut alerts, |_| ());
        // Once more changes nothing.
        book.take(&tick, &mut alerts, |_| ());
    }
    alerts
}

fn seqs(condition: &str, ticks: &[Told]) -> Vec<u64> {
    fired(condition, ticks).iter().map(|alert| alert.seq).collect()
}

fn prices(prices: &[&'static str]) -> Vec<Told> {
    (0..).zip(prices).map(|(second, price)| (second, *price, 1, Value::Null)).collect()
}

#[test]
fn a_price_fires_once_per_crossing() {
    let ticks = prices(&["201", "202", "200", "199.99", "200.00", "200.01", "201"]);
    assert_eq!(seqs("A > 200", &ticks), [1, 6]);
    assert_eq!(seqs("A >= 200", &ticks), [1, 5]);
    assert_eq!(seqs("A < 200", &ticks), [4]);
    assert_eq!(seqs("A <= 200", &ticks), [3]);
    let alert = &fired("A > 200.0", &ticks)[1];
    let value = serde_json::to_value(alert).unwrap();
    assert_eq!(
        value,
        json!({
            "id": "r-6", "rule": "r", "condition": "A > 200.0", "symbol": "A", "value": "200.01",
            "bound": "200.0", "price": "200.01", "ts": "2023-11-14T22:14:05Z", "source": "sim",
            "seq": 6,
        })
    );
}

#[test]
fn what_is_flagged_as_doubtful_wakes_nobody() {
    let flagged =
        |flag: &str| vec![(0, "10", 1, Value::Null), (1, "99", 1, json!({"flags": [flag]}))];
    assert_eq!(seqs("A > 50", &flagged("outlier")), [0_u64; 0]);
    assert_eq!(seqs("A > 50", &flagged("out_of_order")), [0_u64; 0]);
    // One of the future would make all that follow come late.
    let ahead = json!({"flags": ["future"], "ts": "2030-01-01T00:00:00Z"});
    let mut ticks = prices(&["10", "10"]);
    ticks[1].3 = ahead;
    ticks.extend([(60, "10", 1, Value::Null), (120, "20", 1, Value::Null)]);
    assert_eq!(seqs("change(A, 1m) > 50%", &ticks), [4]);
    assert_eq!(seqs("A > 50", &flagged("level_shift")), [2]);
}

#[test]
fn a_change_is_against_the_price_a_window_before() {
    // 60 s, in parts of 1 s.
    let at = |ticks: &[(i64, &'static str)]| -> Vec<Told> {
        ticks.iter().map(|(second, price)| (*second, *price, 1, Value::Null)).collect()
    };
    // Nothing is known of a minute ago before there is one.
    let ticks = at(&[(0, "100"), (30, "90"), (59, "80"), (60, "98.00"), (61, "97.99"), (62, "99")]);
    assert_eq!(seqs("change(A, 1m) < -2%", &ticks), [5]);
    assert_eq!(seqs("change(A, 1m) <= -2%", &ticks), [4]);
    let alert = &fired("change(A, 1m) < -2%", &ticks)[0];
    assert_eq!(
        (alert.value.to_string().as_str(), alert.bound.to_string().as_str()),
        ("-2.01", "-2")
    );
    // In a silence the last price is the price.
    let ticks = at(&[(0, "100"), (1_000, "103"), (1_030, "103"), (1_059, "106"), (1_061, "106.1")]);
    assert_eq!(seqs("change(A, 1m) > 2%", &ticks), [2]);
    assert_eq!(seqs("change(A, 1m) > 3%", &ticks), [4]);
    // What comes late says nothing.
    let ticks = at(&[(0, "100"), (100, "100"), (50, "200"), (101, "100"), (110, "150")]);
    assert_eq!(seqs("change(A, 1m) > 10%", &ticks), [5]);
}

#[test]
fn a_nothing_with_decimal_places_is_a_number_as_any() {
    let ticks: Vec<Told> = vec![
        (0, "100", 1, json!({"size": "0.00"})),
        (1, "100", 50, Value::Null),
        (61, "100", 1, Value::Null),
        (62, "101", 1, Value::Null),
    ];
    assert_eq!(seqs("volume(A, 1m) >= 50", &ticks), [2]);
    assert_eq!(seqs("change(A, 1m) > 0.00%", &ticks), [4]);
}

#[test]
fn a_volume_is_that_of_the_running_window() {
    // The first second is the first of a minute.
    let ticks: Vec<Told> = vec![
        (0, "1", 60, Value::Null),
        (59, "1", 40, Value::Null),
        (59, "1", 1, Value::Null),
        (59, "1", 500, Value::Null),
        (60, "1", 101, Value::Null),
        (61, "1", 1, json!({"kind": "quote"})),
        (120, "1", 100, Value::Null),
        (121, "1", 100, json!({"kind": "quote"})),
        (122, "1", 100, json!({"size": null})),
        (122, "1", 1, Value::Null),
    ];
    // A window begins at nothing, so each can fire.
    assert_eq!(seqs("volume(A, 1m) > 100", &ticks), [3, 5, 10]);
    assert_eq!(seqs("volume(A, 1m) >= 100", &ticks), [2, 5, 7]);
}

#[test]
fn a_spike_is_against_the_windows_of_trading_before_it() {
    let ticks: Vec<Told> = vec![
        (0, "1", 100, Value::Null),
        (60, "1", 1_000, Value::Null),
        // Nothing was traded for an hour: the average is of the two windows with trades.
        (3_660, "1", 1_100, Value::Null),
        (3_661, "1", 1, Value::Null),
        // One that comes late counts where it belongs: the average is 1050.5 now.
        (61, "1", 1_001, Value::Null),
        // The next window: the average is of 2001 and 1101.
        (3_720, "1", 3_102, Value::Null),
        (3_721, "1", 1, Value::Null),
    ];
    assert_eq!(seqs("volume(A, 1m) > 2 * average(2)", &ticks), [4, 7]);
    assert_eq!(seqs("volume(A, 1m) >= 2 * average(2)", &ticks), [3, 6]);
    assert_eq!(seqs("volume(A, 1m) > 0.001 * average(5)", &ticks), [0_u64; 0]);
    let alert = &fired("volume(A, 1m) > 2 * average(2)", &ticks)[1];
    assert_eq!(
        (alert.value.to_string().as_str(), alert.bound.to_string().as_str()),
        ("3103", "3102")
    );
}

#[test]
fn what_does_not_fit_is_not_judged_and_spoils_nothing() {
    let huge = "79228162514264337593543950335";
    let ticks = prices(&["1", huge, "1"]);
    assert_eq!(seqs("A > 5", &ticks), [2]);
    let ticks: Vec<Told> = vec![
        (0, "1", 1, Value::Null),
        (100, huge, 1, Value::Null),
        (101, "1", 1, Value::Null),
        (200, "2", 1, Value::Null),
    ];
    assert_eq!(seqs("change(A, 1m) > 10%", &ticks), [4]);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut book = Book::default();
    book.add(&rule("r", "change(A, 1s) > 5%"), 0);
    book.add(&rule("s", "volume(A, 1s) > 5 * average(3)"), 0);
    for seq in 1..5_000_u64 {
        let ts = jiff::Timestamp::from_millisecond(i64::try_from(seq).unwrap() * 7).unwrap();
        let message = tick(seq, "A", 0, "1", 1, json!({"ts": ts}));
        book.take(&Tick::read(&message.body, seq).unwrap(), &mut Vec::new(), |_| ());
    }
    for watch in book.unsaved() {
        let saved = serde_json::to_value(watch.state()).unwrap();
        let length = |name: &str| saved["memory"][name].as_array().map_or(0, Vec::len);
        assert!(length("prices") <= 64 && length("volumes") <= 4, "{saved}");
        let read: super::super::saved::State = serde_json::from_value(saved).unwrap();
        assert_eq!(&read, watch.state());
    }
}
