//! The generic formats: every row is one event, whatever is in it.

use proptest::prelude::*;
use schemas::NumberFormat;

use super::*;

fn mapping() -> Records {
    Records {
        source: "push:desk".into(),
        symbol: "Ticker".into(),
        price: "Last".into(),
        size: "Qty".into(),
        exchange: String::new(),
        currency: "Ccy".into(),
        time: "When".into(),
        time_format: "%d.%m.%Y %H:%M:%S".into(),
        time_zone: "Europe/Berlin".into(),
        numbers: NumberFormat::Auto,
        delimiter: ';',
        kind: TickKind::Quote,
    }
}

fn decode_as(format: Format, records: &[Records], body: &str) -> Vec<Event> {
    let raw = RawTick { source: Source::new("push:desk").unwrap(), ..raw(format, body.as_bytes()) };
    let mut events = Vec::new();
    Decoder::new("EUR", &[], records).unwrap().decode(&raw, &mut events);
    assert_sound(&events);
    events
}

fn said(event: &Event) -> String {
    match event {
        Ok(event) => {
            let size = event.size.map(|size| size.to_string()).unwrap_or_default();
            format!("{} {} {size} {} {}", event.symbol, event.price, event.currency, event.ts)
        }
        Err(rejection) => rejection.detail.clone(),
    }
}

#[test]
fn a_csv_file_of_people_is_read_as_configured() {
    let body = "When;Ticker;Last;Qty;Ccy;Note\r\n\
        07.10.2013 15:30:00;SAP;1.234,50;1.000;;x\r\n\
        07.10.2013 15:30:01;\"A;B\";12,5;;USD;\"two\nlines\"\r\n\
        07.10.2013 15:30:02;BMW;soon;;;\r\n\
        27.10.2013 02:30:00;BMW;1,5;;;\r\n\
        07.10.2013 15:30:04;;1,5;;;\r\n\
        07.10.2013 15:30:05;BMW\r\n";
    let read: Vec<_> = decode_as(Format::Csv, &[mapping()], body).iter().map(said).collect();
    assert_eq!(
        read,
        [
            "SAP 1234.50 1000 EUR 2013-10-07T13:30:00Z",
            "A;B 12.5  USD 2013-10-07T13:30:01Z",
            "Last: \"soon\" is not a number (row 3, column 3)",
            "When: \"27.10.2013 02:30:00\" came twice in Europe/Berlin: the clocks were set back (row 4, column 1)",
            "Ticker: is missing (row 5, column 2)",
            "row 6 has 2 fields, not 6",
        ]
    );
}

#[test]
fn ndjson_keeps_every_digit_and_finds_inner_fields() {
    let records = Records {
        source: "push:desk".into(),
        symbol: "s".into(),
        price: "data.p".into(),
        size: "data.q.n".into(),
        time: "t".into(),
        time_format: "epoch_us".into(),
        ..Records::default()
    };
    let body = r#"{"s":"A","data":{"p":218.3100,"q":{"n":"1e-7"}},"t":1381152600123456,"more":[1]}

        {"s":"B","data":{"p":"7.50"},"t":"1381152600123456","currency":"USD"}
        {"s":"C","data":{"p":true},"t":1}
        {"s":"D","data":{},"t":1}
        [1]
        {"s":"E"#;
    let read: Vec<_> = decode_as(Format::Ndjson, &[records], body).iter().map(said).collect();
    assert_eq!(read[0], "A 218.3100 0.0000001 EUR 2013-10-07T13:30:00.123456Z");
    assert_eq!(read[1], "B 7.50  USD 2013-10-07T13:30:00.123456Z");
    assert_eq!(read[2], "data.p: true is neither a text nor a number (row 3)");
    assert_eq!(read[3], "data.p: is missing (row 4)");
    assert_eq!(read[4], "row 5: the payload is not a JSON object");
    assert!(
        read[5].starts_with("row 6: the payload is not a JSON object as expected"),
        "{}",
        read[5]
    );
    assert_eq!(read.len(), 6);
}

#[test]
fn five_hundred_good_rows_and_a_bad_one() {
    let row = |number: usize| match number {
        250 => "2024-01-01T00:00:00Z,A,no\n".to_owned(),
        _ => format!("2024-01-01T00:00:00Z,A,{number}.5\n"),
    };
    let body = "ts,symbol,price\n".to_owned() + &(0..501).map(row).collect::<String>();
    let events = decode_as(Format::Csv, &[], &body);
    assert_eq!((events.len(), events.iter().filter(|event| event.is_ok()).count()), (501, 500));
}

/// A quotation mark that nothing closes takes no other row with it.
#[test]
fn a_row_with_an_open_quote_is_one_rejection() {
    for bad in [0, 1, 250, 499, 500] {
        let row = |number: usize| match number {
            _ if number == bad => "2024-01-01T00:00:00Z,\"A,1\n".to_owned(),
            // Right, and over two lines.
            7 => "2024-01-01T00:00:00Z,A,\"7.5\n\"\n".to_owned(),
            _ => format!("2024-01-01T00:00:00Z,\"A\",{number}.5\n"),
        };
        let body = "ts,symbol,price\n".to_owned() + &(0..501).map(row).collect::<String>();
        let events = decode_as(Format::Csv, &[], &body);
        let read = events.iter().filter(|event| event.is_ok()).count();
        assert_eq!((events.len(), read), (501, 500), "{bad}");
        let fault = format!("row {}: a quoted field does not end where it should", bad + 1);
        assert_eq!(said(&events[bad]), fault);
    }
    // Each of these would be read to the end.
    let body = "ts,symbol,price\n".to_owned() + &"x\",z,\"y\n".repeat(5_000);
    let events = decode_as(Format::Csv, &[], &body);
    assert!(events.len() > 100 && events.iter().all(Result::is_err));
}

#[test]
fn a_byte_order_mark_is_no_part_of_what_follows() {
    let row = r#"{"symbol":"A","price":1,"ts":"2024-01-01T00:00:00Z"}"#;
    for (format, body) in [
        (Format::Ndjson, format!("\u{feff}{row}\n{row}")),
        (
            Format::Csv,
            "\u{feff}symbol,price,ts\nA,1,2024-01-01T00:00:00Z\nA,1,2024-01-01T00:00:00Z"
                .to_owned(),
        ),
    ] {
        let read: Vec<_> = decode_as(format, &[], &body).iter().map(said).collect();
        assert_eq!(read, ["A 1  EUR 2024-01-01T00:00:00Z"; 2]);
    }
}

#[test]
fn a_payload_of_too_many_rows_is_one_rejection() {
    for (format, body) in [
        (Format::Csv, "a\n".repeat(MAX_EVENTS + 3)),
        (Format::Ndjson, "1\n".repeat(MAX_EVENTS + 1)),
        (Format::Html, "<tr class=row>".repeat(MAX_EVENTS + 1)),
    ] {
        let mut events = match format {
            Format::Html => decode(format, format!("<table>{body}").as_bytes()),
            _ => decode_as(format, &[], &body),
        };
        assert_eq!(events.len(), 1, "{format:?}");
        let rejection = events.remove(0).unwrap_err();
        assert!(rejection.detail.starts_with("it has more than 20000"), "{}", rejection.detail);
    }
}

/// It was searched for every row, and every row had the room for as many fields: 60 GB.
#[test]
fn a_header_as_long_as_its_file_is_no_burden() {
    let body = ",".repeat(400_000) + "\n" + &"A\n".repeat(19_000);
    for format in [Format::Csv, Format::StooqQuotes] {
        assert_eq!(decode(format, body.as_bytes()).len(), 19_000, "{format:?}");
    }
}

#[test]
fn a_mapping_that_does_not_work_names_its_key() {
    let change = |change: fn(&mut Records)| {
        let mut records = mapping();
        change(&mut records);
        Decoder::new("EUR", &[], &[mapping(), records]).err().unwrap().to_string()
    };
    for (fault, expected) in [
        (change(|records| records.source = "no source".into()), "records[1].source: "),
        (change(|records| records.price.clear()), "records[1].price: every record needs one"),
        (change(|records| records.time_zone = "Mars".into()), "records[1].time_format: \"Mars\""),
        (change(|records| records.delimiter = '"'), "records[1].delimiter: '\"' cannot"),
        (change(|_| {}), "records[1].source: \"push:desk\" is there twice"),
    ] {
        assert!(fault.starts_with(expected), "{fault}");
    }
}

proptest! {
    /// In = out + rejected: as many events as rows, and those that are right become ticks.
    #[test]
    fn every_row_is_one_event(rows in proptest::collection::vec((any::<bool>(), 1..1_000_000_u32), 1..40)) {
        let price = |good: bool, cents: u32| match good {
            true => format!("{}.{:02}", cents / 100, cents % 100),
            false => format!("{cents}x"),
        };
        let good = rows.iter().filter(|(good, _)| *good).count();
        let csv: String = rows.iter()
            .map(|(good, cents)| format!("2024-01-01T00:00:00Z,A,{}\n", price(*good, *cents)))
            .collect();
        let ndjson: String = rows.iter()
            .map(|(good, cents)| format!("{{\"ts\":\"2024-01-01T00:00:00Z\",\"symbol\":\"A\",\"price\":\"{}\"}}\n", price(*good, *cents)))
            .collect();
        for events in [
            decode_as(Format::Csv, &[], &format!("ts,symbol,price\n{csv}")),
            decode_as(Format::Ndjson, &[], &ndjson),
        ] {
            prop_assert_eq!(events.len(), rows.len());
            prop_assert_eq!(events.iter().filter(|event| event.is_ok()).count(), good);
        }
    }
}

#[test]
fn the_rows_of_a_file_are_read_one_by_one_as_configured() {
    let row = |delimiter, columns: &str, body: &str| {
        let raw = RawTick {
            source: Source::new("push:desk").unwrap(),
            columns: Some(columns.into()),
            ..raw(Format::CsvRow, body.as_bytes())
        };
        let mut events = Vec::new();
        let mapping = Records { delimiter, ..mapping() };
        Decoder::new("EUR", &[], &[mapping]).unwrap().decode(&raw, &mut events);
        assert_sound(&events);
        assert_eq!(events.len(), 1);
        said(&events[0])
    };
    const COLUMNS: &str = "Note; when ;\"Ticker\";Last;Qty;CCY";
    for (body, expected) in [
        (
            "\"a;\nb\";07.10.2013 15:30:00;SAP;1.234,50;1.000;",
            "SAP 1234.50 1000 EUR 2013-10-07T13:30:00Z",
        ),
        (";07.10.2013 15:30:00; \"SAP\" ;12,5;;USD\r\n", "SAP 12.5  USD 2013-10-07T13:30:00Z"),
        (";07.10.2013 15:30:00;SAP;;1;", "Last: is missing (column 4)"),
        (
            ";yesterday;SAP;1,5;;",
            "When: \"yesterday\" is not a time like %d.%m.%Y %H:%M:%S (column 2)",
        ),
        (";07.10.2013 15:30:00;SAP;1.234;;", "Last: \"1.234\" may have a decimal point"),
        (";07.10.2013 15:30:00", "the row has 2 fields, not 6"),
    ] {
        let said = row(';', COLUMNS, body);
        assert!(said.starts_with(expected), "{said}");
    }
    let tabs = |text: &str| text.replace(';', "\t");
    assert_eq!(
        row('\t', &tabs(COLUMNS), &tabs(" \"a;b\" ;07.10.2013 15:30:00;\"A\";12,5;;\"USD\"")),
        "A 12.5  USD 2013-10-07T13:30:00Z",
    );
    assert_eq!(row(';', "When;Ticker", "07.10.2013 15:30:00;SAP"), "Last: is missing");
}
