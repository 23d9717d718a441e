mod feeds;
mod providers;
mod records;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use proptest::prelude::*;
use schemas::{HtmlField, NumberFormat, Source, Stage};

use super::*;

const COLUMNS: &str = "ts_ms,symbol,price,size,exchange,conditions";

fn site(rows: &str) -> HtmlSite {
    HtmlSite {
        name: "shop".into(),
        rows: rows.into(),
        symbol: Some(HtmlField {
            select: "td.symbol".into(),
            attribute: "data-symbol".into(),
            ..HtmlField::default()
        }),
        price: HtmlField { select: "td.price".into(), ..HtmlField::default() },
        currency: "EUR".into(),
        decimal_separator: NumberFormat::Comma,
        ..HtmlSite::default()
    }
}

fn raw(format: Format, body: &[u8]) -> RawTick {
    let source = if format == Format::Html { "html:shop" } else { "sim" };
    RawTick {
        id: "e".into(),
        source: Source::new(source).unwrap(),
        symbol: None,
        received_at: "2024-01-01T00:00:00Z".parse().unwrap(),
        content_type: "text/plain".into(),
        format,
        columns: (format == Format::CsvRow).then(|| COLUMNS.into()),
        body: Bytes::copy_from_slice(body),
    }
}

fn decode(format: Format, body: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let decoder = Decoder::new("USD", &[site("tr.row")], &[]).unwrap();
    decoder.decode(&raw(format, body), &mut events);
    assert_sound(&events);
    events
}

/// No decoder has panicked.
fn assert_sound(events: &[Event]) {
    for rejection in events.iter().filter_map(|event| event.as_ref().err()) {
        assert_ne!(rejection.reason, Reason::Poison, "{}", rejection.detail);
    }
}

fn one(format: Format, body: &str) -> Event {
    let mut events = decode(format, body.as_bytes());
    assert_eq!(events.len(), 1);
    events.remove(0)
}

/// Symbol, price, size, currency, exchange, kind and time.
fn tick(format: Format, body: &str) -> String {
    let event = one(format, body).unwrap();
    let size = event.size.map(|size| size.to_string()).unwrap_or_default();
    let exchange = event.exchange.unwrap_or_default();
    let (kind, ts) = (event.kind.as_str(), event.ts);
    format!("{} {} {size} {} {exchange} {kind} {ts}", event.symbol, event.price, event.currency)
}

fn rejection(format: Format, body: &str) -> (Reason, String) {
    let rejection = one(format, body).unwrap_err();
    assert_eq!(rejection.stage, Stage::Decode);
    (rejection.reason, rejection.detail)
}

#[test]
fn a_tick_of_the_simulator() {
    let body = r#"{"symbol":"AAPL","price":"150.2300","size":100,"exchange":"X","ts":"2024-01-01T00:00:00.123456789Z"}"#;
    let read = tick(Format::Sim, body);
    assert_eq!(read, "AAPL 150.2300 100 USD X trade 2024-01-01T00:00:00.123456789Z");
    let body = r#"{"symbol":"AAPL","price":1,"ts":"2024-01-01T00:00:00Z","trade":"7:1"}"#;
    assert_eq!(one(Format::Sim, body).unwrap().identity.as_deref(), Some("7:1"));
}

#[test]
fn a_row_of_a_file() {
    for (body, read) in [
        (
            "1381152600123,IBM,184.2100,100,P,@ F",
            "IBM 184.2100 100 USD P trade 2013-10-07T13:30:00.123Z",
        ),
        ("1381152600000,IBM,1,,,\r\n", "IBM 1  USD  trade 2013-10-07T13:30:00Z"),
        (
            "1381152600000,\"A \"\"B\"\", C\",\"1.0\" ,2 , P,\"\"",
            "A \"B\", C 1.0 2 USD P trade 2013-10-07T13:30:00Z",
        ),
    ] {
        assert_eq!(tick(Format::CsvRow, body), read);
    }
}

#[test]
fn a_match_of_coinbase() {
    let body = r#"{"type":"match","trade_id":10,"sequence":50,"maker_order_id":"a","taker_order_id":"b","time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"5.23512000","price":"400.23","side":"sell"}"#;
    assert_eq!(
        tick(Format::CoinbaseMatch, body),
        "BTC-USD 400.23 5.23512000 USD coinbase trade 2014-11-07T08:19:27.028459Z"
    );
}

#[test]
fn a_quote_of_alpha_vantage() {
    let body = r#"{"Global Quote":{"01. symbol":"IBM","02. open":"1","05. price":"218.3100","06. volume":"3190000","07. latest trading day":"2024-01-01"}}"#;
    assert_eq!(
        tick(Format::AlphaVantageQuote, body),
        "IBM 218.3100 3190000 USD  quote 2024-01-01T00:00:00Z"
    );
}

#[test]
fn a_page_with_a_bad_row() {
    let page = r#"<table>
        <tr class=row><td class=symbol data-symbol=SAP>x<td class=price>€ 1.234,50
        <tr class=row><td class=symbol data-symbol=BMW><td class=price>soon
        <tr class=row><td class=symbol><td class=price>1
        <tr class=row><td class=symbol data-symbol=VOW><td>1
        <tr class=row><td class=symbol data-symbol=BAS><td class=price><b>47</b>,10 EUR
    </table>"#;
    let read: Vec<String> = decode(Format::Html, page.as_bytes())
        .into_iter()
        .map(|event| match event {
            Ok(event) => format!("{} {} {}", event.symbol, event.price, event.currency),
            Err(rejection) => rejection.detail,
        })
        .collect();
    assert_eq!(
        read,
        [
            "SAP 1234.50 EUR",
            "price: \"soon\" is not a number (row 2)",
            "symbol: is missing (row 3)",
            "price: is missing (row 4)",
            "BAS 47.10 EUR",
        ]
    );
    let (reason, detail) = rejection(Format::Html, "<p>");
    assert_eq!(reason, Reason::Malformed);
    assert!(detail.contains("tr.row"), "{detail}");
}

#[test]
fn a_rejection_names_field_value_and_place() {
    use Format::{AlphaVantageQuote, CoinbaseMatch, CsvRow, Sim};
    use Reason::{InvalidField, Malformed, MissingField, ProviderError};
    for (format, body, reason, detail) in [
        (Sim, "", Malformed, "the payload is not a JSON object"),
        (Sim, "[\"AAPL\"]", Malformed, "the payload is not a JSON object"),
        (Sim, "{", Malformed, "the payload is not a JSON object as expected: EOF"),
        (Sim, "{} {}", Malformed, "the payload is not a JSON object as expected: trailing"),
        (Sim, "{}", MissingField, "symbol: is missing"),
        (Sim, r#"{"symbol":null}"#, MissingField, "symbol: is missing"),
        (Sim, r#"{"symbol":7}"#, InvalidField, "symbol: 7 is not a text"),
        (Sim, r#"{"symbol":""}"#, InvalidField, "symbol: a symbol is empty"),
        (Sim, r#"{"symbol":"A","price":true}"#, InvalidField, "price: \"true\" is not a decimal"),
        (Sim, r#"{"symbol":"A","price":1e99}"#, InvalidField, "price: \"1e99\" has more digits"),
        (Sim, r#"{"symbol":"A","price":1}"#, MissingField, "ts: is missing"),
        (
            Sim,
            r#"{"symbol":"A","price":1,"ts":"noon"}"#,
            InvalidField,
            "ts: \"noon\" is not a time",
        ),
        (CsvRow, "", Malformed, "the row has 1 fields, not 6"),
        (CsvRow, "1,A,1,1,P", Malformed, "the row has 5 fields, not 6"),
        (CsvRow, "1,A,1,1,P,,x,y", Malformed, "the row has 8 fields, not 6"),
        (CsvRow, "1,\"A,1,1,P,", Malformed, "a quoted field has no closing quote"),
        (CsvRow, "1,\"A\"x,1,1,P,", Malformed, "a quoted field goes on"),
        (CsvRow, ",A,1,1,P,", MissingField, "ts_ms: is missing (column 1)"),
        (CsvRow, "1,,1,1,P,", MissingField, "symbol: is missing (column 2)"),
        (CsvRow, "1,A, ,1,P,", MissingField, "price: is missing (column 3)"),
        (CsvRow, "x,A,1,1,P,", InvalidField, "ts_ms: \"x\" is not a time in milliseconds"),
        (CsvRow, "1,A,1,1O,P,", InvalidField, "size: \"1O\" is not a decimal number (column 4)"),
        (CoinbaseMatch, r#"{"type":"subscriptions"}"#, Malformed, "type: \"subscriptions\""),
        (CoinbaseMatch, r#"{"type":"error","message":"slow"}"#, ProviderError, "error: \"slow\""),
        (
            CoinbaseMatch,
            r#"{"type":"match","product_id":"BTC"}"#,
            InvalidField,
            "product_id: \"BTC\"",
        ),
        (AlphaVantageQuote, r#"{"Note":"slow down"}"#, ProviderError, "Note: \"slow down\""),
        (AlphaVantageQuote, r#"{"Information":"pay"}"#, ProviderError, "Information: \"pay\""),
        (AlphaVantageQuote, r#"{"Error Message":"no"}"#, ProviderError, "Error Message: \"no\""),
        (
            AlphaVantageQuote,
            r#"{"Global Quote":{}}"#,
            MissingField,
            "Global Quote: is missing: it is empty",
        ),
        (AlphaVantageQuote, r#"{}"#, MissingField, "Global Quote: is missing"),
    ] {
        let (found, text) = rejection(format, body);
        assert_eq!(found, reason, "{body}: {text}");
        assert!(text.starts_with(detail), "{body}: {text}");
    }
}

#[test]
fn a_decoder_that_panics_rejects_its_payload_and_nothing_else() {
    let mut events = vec![one(Format::Sim, "{}")];
    guarded(&mut events, |events| {
        events.push(Err(malformed("half")));
        let nothing: [u8; 0] = [];
        assert!(nothing.contains(&1), "a fault of ours");
    });
    assert_eq!(events.len(), 2);
    let rejection = events.remove(1).unwrap_err();
    assert_eq!(rejection.reason, Reason::Poison);
    assert_eq!(rejection.detail, "the decoder has a fault: a fault of ours");
}

#[test]
fn a_bad_selector_names_its_key() {
    let error = Decoder::new("USD", &[site("tr"), site("tr[")], &[]).err().unwrap().to_string();
    assert!(error.starts_with("html[1].rows: \"tr[\""), "{error}");
}

/// With seeds from which the fuzzer comes past the first checks.
#[test]
fn every_format_has_a_fuzz_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let read = |path: PathBuf| {
        fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
    };
    let manifest = read(fuzz.join("Cargo.toml"));
    for format in Format::ALL {
        let name = format.as_str().replace('-', "_");
        assert!(manifest.contains(&format!("name = {name:?}")), "{name} is not in the manifest");
        let target = read(fuzz.join(format!("fuzz_targets/{name}.rs")));
        assert!(target.contains(&format!("schemas::Format::{format:?},")), "{name}: {target}");
        let ticks = |seed: io::Result<fs::DirEntry>| {
            let source = if format == Format::Html { "html:fuzz" } else { "push:fuzz" };
            let raw = RawTick {
                source: Source::new(source).unwrap(),
                symbol: (format == Format::FinnhubQuote).then(|| Symbol::new("A").unwrap()),
                columns: Some("ts_ms,symbol,price,size,exchange".into()),
                ..raw(format, &fs::read(seed.unwrap().path()).unwrap())
            };
            crate::outcome(&raw).unwrap().ticks
        };
        let seeds = fs::read_dir(fuzz.join("seeds").join(&name)).unwrap();
        assert_ne!(seeds.map(ticks).sum::<usize>(), 0, "no seed of {name} becomes a tick");
    }
}

/// Pieces of payloads, so that random ones come far.
fn soup() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\u",
        "null",
        "1",
        "-",
        "e9",
        ".",
        "AAPL",
        "BTC-USD",
        "\"symbol\":\"A\"",
        "\"price\":1.5",
        "\"ts\":\"2024-01-01T00:00:00Z\"",
        "\"type\":\"match\"",
        "\"channel\":\"trade\",\"data\":[",
        "\"symbol\":\"BTC/USD\",",
        "\"e\":\"trade\",\"s\":\"BTCUSDT\",",
        "\"type\":\"trade\",\"data\":[",
        "[{\"T\":\"t\",\"S\":",
        "\"Global Quote\":{",
        "\"Meta Data\":{\"2. Symbol\":\"A\",\"6. Time Zone\":\"US/Eastern\"},",
        "\"Time Series (5min)\":{\"2024-01-05 19:55:00\":{",
        "\"4. close\":\"1.5\"",
        "\"chart\":{\"result\":[{\"meta\":{",
        "},\"timestamp\":[1,null,",
        "\"indicators\":{\"quote\":[{\"close\":[",
        "\"c\":1.5,\"t\":1582641000",
        "\"meta\":{\"symbol\":\"A\"},\"values\":[{\"datetime\":\"2024-01-05\",",
        "\"close\":\"1.5\",\"timestamp\":1582641000",
        "\"code\":404",
        "Symbol,Date,Time,Close\n",
        "2024-01-05,22:00:10,",
        "N/D",
        "\"05. price\":",
        "1381152600000",
        "\n",
        " ",
        "<tr class=row>",
        "<td class=price>",
        "<td class=symbol data-symbol=\"B\">",
        "</table>",
        "<table>",
        "€",
        "'",
    ];
    let piece = prop_oneof![4 => proptest::sample::select(PIECES).prop_map(str::to_owned), 1 => "\\PC{0,3}"];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_panic_or_vanish(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        for format in Format::ALL {
            prop_assert!(!decode(format, &bytes).is_empty());
        }
    }

    #[test]
    fn no_soup_panics_or_vanishes(soup in soup()) {
        for format in Format::ALL {
            let events = decode(format, soup.as_bytes());
            let is_one = matches!(
                format,
                Format::Sim
                    | Format::CsvRow
                    | Format::AlphaVantageQuote
                    | Format::CoinbaseMatch
                    | Format::BinanceTrade
                    | Format::FinnhubQuote
            );
            prop_assert!(events.len() == 1 || !is_one && !events.is_empty());
            let bytes: usize = events.iter().map(text_bytes).sum();
            prop_assert!(bytes <= 8 * soup.len() + 1_024 * events.len());
        }
    }

    #[test]
    fn every_digit_is_kept(price in "[1-9][0-9]{0,11}(\\.[0-9]{1,12})?", size in "[1-9][0-9]{0,8}") {
        let ts = "2024-01-01T00:00:00Z";
        for (format, body) in [
            (Format::Sim, format!(r#"{{"symbol":"A","price":{price},"size":"{size}","ts":"{ts}"}}"#)),
            (Format::Sim, format!(r#"{{"symbol":"A","price":"{price}","size":{size},"ts":"{ts}"}}"#)),
            (Format::CsvRow, format!("0,A,{price},{size},,")),
            (Format::CoinbaseMatch, format!(r#"{{"type":"match","product_id":"A-B","price":"{price}","size":"{size}","time":"{ts}"}}"#)),
            (Format::AlphaVantageQuote, format!(r#"{{"Global Quote":{{"01. symbol":"A","05. price":"{price}","06. volume":"{size}"}}}}"#)),
        ] {
            let event = one(format, &body).unwrap();
            prop_assert_eq!(event.price.to_string(), price.clone());
            prop_assert_eq!(event.size.unwrap().to_string(), size.clone());
        }
        let comma = price.replace('.', ",");
        let page = format!("<table><tr class=row><td class=symbol data-symbol=A><td class=price>{comma} €");
        prop_assert_eq!(one(Format::Html, &page).unwrap().price.to_string(), price);
    }

    #[test]
    fn every_row_of_a_page_is_one_event(rows in proptest::collection::vec("[0-9a-z,]{0,6}", 1..20)) {
        let page: String = rows
            .iter()
            .map(|price| format!("<tr class=row><td class=symbol data-symbol=A><td class=price>{price}"))
            .collect();
        prop_assert_eq!(decode(Format::Html, format!("<table>{page}").as_bytes()).len(), rows.len());
    }
}
