//! What becomes of symbols where there are more than are kept.

use super::{
    series::Outcome::{Counted, Crowded, Late},
    *,
};

/// Of A the first second, and the 70th; of B now and then.
fn trades() -> Vec<(Trade, Duration)> {
    let told = [
        ("A", 500),
        ("B", 600),
        // A is forgotten.
        ("B", 50_000),
        // Of a second that was closed and let go of.
        ("A", 700),
        ("A", 70_000),
        ("B", 80_000),
    ];
    let at = [500, 600, 50_000, 60_000, 70_000, 80_000];
    let trade = |(n, (symbol, ts)): (u64, (&str, i64))| trade(n, symbol, ts, "5", "1");
    (1..).zip(told).map(trade).zip(at.map(Duration::from_millis)).collect()
}

#[test]
fn what_is_forgotten_does_not_begin_again_whatever_crashes() {
    for stores in [Stores::AtOnce, Stores::Late] {
        for failure in [Failure::BeforeEffect, Failure::AfterEffect] {
            let (mut call, mut forgotten) = (0, 0);
            loop {
                let case = format!("{stores:?} {failure:?} {call}");
                let calls = block_on(async {
                    let ticks = trades();
                    let ticks = ticks.iter().map(|(trade, at)| (message(trade, "trade"), *at));
                    let broker = Fake::new(ticks.collect(), stores, Some((call, failure)));
                    let maker =
                        Maker { max_symbols: 2, ..maker(&broker, &[CandleInterval::OneSecond]) };
                    make_with(&maker).await;
                    let state = broker.state();
                    assert_eq!(state.acknowledged, state.ticks.len() as u64, "{case}");
                    forgotten += usize::from(state.keys.entries.contains_key("forgotten"));
                    let made = updates(&state.candles).into_iter().map(|update| {
                        let candle = update.candle;
                        let second = candle.start.as_second();
                        (candle.symbol.to_string(), second, update.revision, candle.trades)
                    });
                    let mut made: Vec<_> = made.collect();
                    made.sort_unstable();
                    let expected = [("A", 0), ("A", 70), ("B", 0), ("B", 50), ("B", 80)];
                    assert_eq!(made, expected.map(|(s, at)| (s.to_owned(), at, 1, 1)), "{case}");
                    state.calls.made
                });
                if calls <= call {
                    break;
                }
                call += 1;
            }
            assert!(call > 30 && forgotten == call + 1, "{forgotten} of {call} cases forgot");
        }
    }
}

#[test]
fn where_none_can_be_forgotten_a_new_one_has_no_candles() {
    let (config, calendars) = (config(&[CandleInterval::OneSecond]), Calendars::default());
    let mut book = Book::new(&config, &calendars, 2);
    let (begin, mut published) = (Instant::now(), Vec::new());
    let mut take = |book: &mut Book<'_>, seq, symbol, ts| {
        let outcome = book.take(&trade(seq, symbol, ts, "1", "1"), begin, &mut published);
        for (place, (stored, _)) in (1..).zip(&published) {
            book.confirm(stored, place);
        }
        outcome
    };
    assert_eq!(take(&mut book, 1, "A", 0), Counted);
    assert_eq!(take(&mut book, 2, "B", 50_000), Counted);
    assert_eq!(take(&mut book, 3, "C", 50_000), Crowded);
    let later = begin + Duration::from_secs(1);
    assert!(book.make_room(later).is_empty(), "the candle of A is not even closed");
    for (place, (stored, _)) in (2..).zip(book.sweep(later, 10)) {
        book.confirm(&stored, place);
    }
    book.sweep(later, 10);
    assert!(book.make_room(later).is_empty(), "it is not saved that A has none any more");
    book.saved(&Symbol::new("A").unwrap(), 7);
    assert_eq!(book.make_room(later), [(Symbol::new("A").unwrap(), Some(7))]);
    assert_eq!(take(&mut book, 4, "C", 100), Late);
    assert_eq!(take(&mut book, 5, "C", 50_000), Counted);
}
