//! What every store has to keep, run against SQLite here and against PostgreSQL in the
//! integration tests.

use std::{collections::BTreeMap, path::Path};

use jiff::Timestamp;
use schemas::{
    Candle, CandleInterval, Decimal, Flag, Source, Symbol, Tick, TickKind, calendar::Calendars,
};

use super::{
    Position, Span, StoreConfig, StoredTick, TickReader, TickWriter, open_reader, open_writer,
};

const ALL: u32 = 10_000;

/// Runs everything on a store that is empty.
pub(super) async fn all(config: &StoreConfig, data_dir: &Path) {
    let mut writer = open_writer(config, data_dir).await.unwrap();
    let reader = open_reader(config, data_dir, Calendars::default()).await.unwrap();
    let (writer, reader) = (writer.as_mut(), reader.as_ref());
    an_empty_store_answers(reader).await;
    a_batch_written_twice_is_there_once(writer, reader).await;
    every_field_comes_back(writer, reader).await;
    every_digit_comes_back(writer, reader).await;
    every_nanosecond_comes_back(writer, reader).await;
    a_batch_larger_than_a_statement_is_written(writer, reader).await;
    a_cursor_stays_where_it_is_while_ticks_are_added(writer, reader).await;
    a_span_begins_with_from_and_ends_before_to(writer, reader).await;
    the_newest_is_the_newest_by_event_time(writer, reader).await;
    symbols_are_found_letter_for_letter(writer, reader).await;
    candles_are_those_of_a_naive_computation(writer, reader).await;
    // Opening again, as after a restart, changes nothing.
    open_writer(config, data_dir).await.unwrap();
    assert_eq!(page(reader, "TWICE").await.len(), 2);
}

async fn an_empty_store_answers(reader: &dyn TickReader) {
    let nothing = symbol("NOTHING");
    assert!(page(reader, "NOTHING").await.is_empty());
    assert!(reader.newest(std::slice::from_ref(&nothing)).await.unwrap().is_empty());
    assert!(reader.newest(&[]).await.unwrap().is_empty());
    assert!(reader.symbols("", ALL).await.unwrap().is_empty());
    let all = Span::new(None, None);
    let none = reader.candles(&nothing, CandleInterval::OneDay, all, ALL).await.unwrap();
    assert!(none.is_empty());
}

async fn a_batch_written_twice_is_there_once(writer: &mut dyn TickWriter, reader: &dyn TickReader) {
    let (first, second) = (tick("TWICE", 1), tick("TWICE", 2));
    assert_eq!(writer.write(&[]).await.unwrap(), 0);
    // Twice within a batch, too.
    assert_eq!(writer.write(&[first.clone(), first.clone()]).await.unwrap(), 1);
    let other = Tick { price: decimal("9.99"), ..first.tick().clone() };
    let again = StoredTick::new(other, 1).unwrap();
    assert_eq!(writer.write(&[again, second.clone()]).await.unwrap(), 1);
    assert_eq!(page(reader, "TWICE").await, [first, second]);
}

async fn every_field_comes_back(writer: &mut dyn TickWriter, reader: &dyn TickReader) {
    for (seq, kind) in [(1, TickKind::Trade), (2, TickKind::Quote), (3, TickKind::Bar)] {
        let written = StoredTick::new(
            Tick {
                size: Some(decimal("0")),
                exchange: Some("NYSE Ärca \"'\\".into()),
                source: Source::new("html:example").unwrap(),
                raw_seq: u64::try_from(i64::MAX).unwrap(),
                flags: vec![Flag::Outlier, Flag::PostMarket],
                kind,
                ..tick("FIELDS", seq).into_tick()
            },
            seq,
        )
        .unwrap();
        writer.write(std::slice::from_ref(&written)).await.unwrap();
        assert_eq!(page(reader, "FIELDS").await.last(), Some(&written));
    }
}

async fn every_digit_comes_back(writer: &mut dyn TickWriter, reader: &dyn TickReader) {
    let prices = [
        "218.3100",
        "0.00000001",
        "150",
        "0.10",
        "79228162514264337593543950335",
        "0.0000000000000000000000000001",
        "7.9228162514264337593543950335",
        "10000.0000",
        "12345678901234567890.1230",
    ];
    let sizes = ["0", "0.00", "100", "100.00", "0.5", "1000000", "0.000", "3.10", "0.0000000000"];
    for (seq, (price, size)) in (1..).zip(prices.into_iter().zip(sizes)) {
        let digits = Tick {
            price: decimal(price),
            size: Some(decimal(size)),
            ..tick("DIGITS", seq).into_tick()
        };
        writer.write(&[StoredTick::new(digits, seq).unwrap()]).await.unwrap();
    }
    for (row, (price, size)) in
        page(reader, "DIGITS").await.iter().zip(prices.into_iter().zip(sizes))
    {
        assert_eq!(row.tick().price.to_string(), price);
        assert_eq!(row.tick().size.unwrap().to_string(), size);
    }
    assert_eq!(page(reader, "DIGITS").await.len(), prices.len());
}

async fn every_nanosecond_comes_back(writer: &mut dyn TickWriter, reader: &dyn TickReader) {
    let times = [
        "1677-09-22T00:00:00.000000001Z",
        "1969-12-31T23:59:59.999999999Z",
        "1970-01-01T00:00:00Z",
        "2024-09-14T12:34:56.123456789Z",
        "2024-09-14T12:34:56.12345679Z",
        "2262-04-11T23:47:16.854775806Z",
    ];
    let mut written = Vec::new();
    for (seq, time) in (1..).zip(times) {
        let ts: Timestamp = time.parse().unwrap();
        let tick = Tick { ts, received_at: ts, ..tick("NANOS", seq).into_tick() };
        written.push(StoredTick::new(tick, seq).unwrap());
    }
    writer.write(&written).await.unwrap();
    assert_eq!(page(reader, "NANOS").await, written);
}

async fn a_batch_larger_than_a_statement_is_written(
    writer: &mut dyn TickWriter,
    reader: &dyn TickReader,
) {
    let many: Vec<StoredTick> = (1..=2_500).map(|seq| tick("MANY", seq)).collect();
    assert_eq!(writer.write(&many).await.unwrap(), 2_500);
    assert_eq!(page(reader, "MANY").await, many);
}

async fn a_cursor_stays_where_it_is_while_ticks_are_added(
    writer: &mut dyn TickWriter,
    reader: &dyn TickReader,
) {
    let pages = symbol("PAGES");
    let all = Span::new(None, None);
    // Three ticks of each millisecond: the sequence decides between them.
    let at = |seq: u64| {
        let ts = Timestamp::from_millisecond(i64::try_from(seq / 3).unwrap()).unwrap();
        StoredTick::new(Tick { ts, ..tick("PAGES", seq).into_tick() }, seq).unwrap()
    };
    let even: Vec<StoredTick> = (0..200).step_by(2).map(at).collect();
    writer.write(&even).await.unwrap();
    let (mut seen, mut cursor): (Vec<StoredTick>, Option<Position>) = (Vec::new(), None);
    let mut odd = (1..200).step_by(2);
    loop {
        let page = reader.ticks(&pages, all, cursor, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        cursor = Some(last.position());
        seen.extend(page);
        // Some come before the cursor and some behind it.
        if let Some(seq) = odd.next() {
            writer.write(&[at(seq), at(199 - seq % 40 / 2 * 2)]).await.unwrap();
        }
    }
    assert!(seen.windows(2).all(|two| two[0].position() < two[1].position()));
    for tick in even {
        assert!(seen.contains(&tick), "{tick:?} was skipped");
    }
}

async fn a_span_begins_with_from_and_ends_before_to(
    writer: &mut dyn TickWriter,
    reader: &dyn TickReader,
) {
    let ticks: Vec<StoredTick> = (1..=5).map(|seq| tick("SPAN", seq)).collect();
    writer.write(&ticks).await.unwrap();
    let (from, to) = (ticks[1].tick().ts, ticks[3].tick().ts);
    let spanned = symbol("SPAN");
    let inside = reader.ticks(&spanned, Span::new(Some(from), Some(to)), None, ALL).await.unwrap();
    assert_eq!(inside, ticks[1..3]);
    // A cursor from before the span does not widen it.
    let before = Some(ticks[0].position());
    let inside = reader.ticks(&spanned, Span::new(Some(from), None), before, ALL).await.unwrap();
    assert_eq!(inside, ticks[1..]);
}

async fn the_newest_is_the_newest_by_event_time(
    writer: &mut dyn TickWriter,
    reader: &dyn TickReader,
) {
    let older = Tick { ts: time(10), ..tick("NEWEST-A", 7).into_tick() };
    let newer = Tick { ts: time(20), ..tick("NEWEST-A", 5).into_tick() };
    let same_time = Tick { ts: time(20), ..tick("NEWEST-A", 6).into_tick() };
    let older = StoredTick::new(older, 7).unwrap();
    let newer = StoredTick::new(newer, 5).unwrap();
    let newest = StoredTick::new(same_time, 6).unwrap();
    let other = tick("NEWEST-B", 1);
    writer.write(&[newest.clone(), newer, other.clone(), older]).await.unwrap();
    let asked = [symbol("NEWEST-B"), symbol("NEWEST-NONE"), symbol("NEWEST-A")];
    assert_eq!(reader.newest(&asked).await.unwrap(), [other, newest]);
}

async fn symbols_are_found_letter_for_letter(writer: &mut dyn TickWriter, reader: &dyn TickReader) {
    let odd =
        ["q.BRK.B", "q*", "q>", "q%", "q_", "qÖ", "q東京", "q'--", "q\"", "q\\", "qa b", "Q^"];
    for (seq, text) in (1..).zip(odd) {
        writer.write(&[tick(text, seq)]).await.unwrap();
        assert_eq!(page(reader, text).await, [tick(text, seq)], "{text}");
    }
    let mut sorted: Vec<Symbol> = odd.into_iter().map(symbol).collect();
    sorted.sort();
    assert_eq!(reader.symbols("q", ALL).await.unwrap(), sorted);
    assert_eq!(reader.symbols("Q", 3).await.unwrap(), sorted[..3]);
    for (query, found) in [
        ("*", "q*"),
        ("q%", "q%"),
        ("q_", "q_"),
        ("brk.b", "q.BRK.B"),
        ("Ö", "qÖ"),
        ("京", "q東京"),
        ("'--", "q'--"),
    ] {
        assert_eq!(reader.symbols(query, ALL).await.unwrap(), [symbol(found)], "{query}");
    }
    assert!(reader.symbols("no such symbol", ALL).await.unwrap().is_empty());
}

async fn candles_are_those_of_a_naive_computation(
    writer: &mut dyn TickWriter,
    reader: &dyn TickReader,
) {
    let mut random = Random(2_024);
    let mut ticks: Vec<StoredTick> = (1..=12_000)
        .map(|seq| {
            let kind = if random.below(10) == 0 { TickKind::Quote } else { TickKind::Trade };
            let size = (random.below(5) > 0).then(|| hundredths(random.below(100_000)));
            let milliseconds = i64::try_from(random.below(7_200_000)).unwrap() - 3_600_000;
            let tick = Tick {
                price: hundredths(10_000 + random.below(500)),
                ts: Timestamp::from_millisecond(milliseconds).unwrap(),
                size,
                kind,
                ..tick("CANDLES", seq).into_tick()
            };
            StoredTick::new(tick, seq).unwrap()
        })
        .collect();
    // In an order that is neither that of time nor that of the sequence.
    ticks.sort_by_key(|tick| tick.seq().wrapping_mul(7_919) % 12_007);
    for batch in ticks.chunks(1_000) {
        writer.write(batch).await.unwrap();
    }
    let everything = symbol("CANDLES");
    for interval in CandleInterval::ALL {
        let expected = naive(&ticks, interval);
        let all = Span::new(None, None);
        let read = reader.candles(&everything, interval, all, ALL).await.unwrap();
        assert_eq!(read, expected, "{interval}");
        // A limit takes the first; a span takes those that it touches, whole.
        let middle = expected.len() / 2;
        let some = reader.candles(&everything, interval, all, 3).await.unwrap();
        assert_eq!(some, expected[..expected.len().min(3)]);
        let inside = expected[middle].start + interval.duration() / 2;
        let span = Span::new(Some(inside), Some(inside + interval.duration() / 4));
        let one = reader.candles(&everything, interval, span, ALL).await.unwrap();
        assert_eq!(one, expected[middle..=middle], "{interval}");
    }
}

/// Candles the slow and obvious way.
fn naive(ticks: &[StoredTick], interval: CandleInterval) -> Vec<Candle> {
    let length = i64::try_from(interval.duration().as_millis()).unwrap();
    let mut buckets: BTreeMap<i64, Vec<&StoredTick>> = BTreeMap::new();
    for tick in ticks.iter().filter(|tick| tick.tick().kind == TickKind::Trade) {
        let milliseconds = tick.tick().ts.as_millisecond();
        buckets.entry(milliseconds.div_euclid(length) * length).or_default().push(tick);
    }
    let candle = |(start, mut trades): (i64, Vec<&StoredTick>)| {
        trades.sort_by_key(|trade| (trade.tick().ts, trade.seq()));
        let prices = || trades.iter().map(|trade| trade.tick().price);
        let sizes = trades.iter().filter_map(|trade| trade.tick().size);
        let hundreds =
            |number: Decimal| number.to_string().replace('.', "").parse::<u64>().unwrap();
        let volume: u64 = sizes.map(hundreds).sum();
        let turnover = trades
            .iter()
            .map(|trade| trade.tick())
            .map(|tick| hundreds(tick.price) * tick.size.map_or(0, hundreds))
            .sum::<u64>();
        let turnover = decimal(&format!("{}.{:04}", turnover / 10_000, turnover % 10_000));
        Candle {
            symbol: symbol("CANDLES"),
            interval,
            start: Timestamp::from_millisecond(start).unwrap(),
            end: Timestamp::from_millisecond(start + length).unwrap(),
            open: prices().next().unwrap(),
            high: prices().max().unwrap(),
            low: prices().min().unwrap(),
            close: prices().next_back().unwrap(),
            volume: hundredths(volume),
            turnover: Some(turnover),
            vwap: turnover.ratio(hundredths(volume), 12),
            trades: trades.len() as u64,
            first_trade: trades[0].tick().ts,
            last_trade: trades[trades.len() - 1].tick().ts,
        }
    };
    buckets.into_iter().map(candle).collect()
}

/// A small generator (Knuth's MMIX constants), so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn hundredths(number: u64) -> Decimal {
    decimal(&format!("{}.{:02}", number / 100, number % 100))
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

fn symbol(text: &str) -> Symbol {
    Symbol::new(text).unwrap()
}

fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
}

/// The tick of a symbol with a sequence, which is also its time.
fn tick(text: &str, seq: u64) -> StoredTick {
    let tick = Tick {
        id: format!("test:{text}:{seq}"),
        symbol: symbol(text),
        price: decimal("150.2300"),
        size: None,
        currency: "USD".into(),
        exchange: None,
        kind: TickKind::Trade,
        ts: time(i64::try_from(seq).unwrap()),
        received_at: time(0),
        source: Source::new("test").unwrap(),
        raw_seq: seq,
        flags: Vec::new(),
    };
    StoredTick::new(tick, seq).unwrap()
}

async fn page(reader: &dyn TickReader, text: &str) -> Vec<StoredTick> {
    reader.ticks(&symbol(text), Span::new(None, None), None, ALL).await.unwrap()
}
