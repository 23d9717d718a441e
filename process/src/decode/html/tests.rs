use bytes::Bytes;
use schemas::{Format, HtmlField, HtmlSite, NumberFormat, RawTick, Source, Symbol};

use crate::decode::{Decoder, Event};

fn select(select: &str) -> HtmlField {
    HtmlField { select: select.into(), ..HtmlField::default() }
}

fn attribute(select: &str, attribute: &str) -> HtmlField {
    HtmlField { select: select.into(), attribute: attribute.into(), ..HtmlField::default() }
}

/// One quote a page.
fn single() -> HtmlSite {
    HtmlSite {
        name: "shop".into(),
        url: "https://example.com/{symbol}".into(),
        price: select(".price"),
        currency: "EUR".into(),
        ..HtmlSite::default()
    }
}

/// Many quotes on one page.
fn table() -> HtmlSite {
    HtmlSite {
        url: "https://example.com/".into(),
        rows: "tr".into(),
        symbol: Some(attribute("a", "href")),
        price: select(".price"),
        ..single()
    }
}

fn decode(site: HtmlSite, symbol: Option<&str>, body: &[u8]) -> Vec<Event> {
    let raw = RawTick {
        id: "e".into(),
        source: Source::new("html:shop").unwrap(),
        symbol: symbol.map(|symbol| Symbol::new(symbol).unwrap()),
        received_at: "2024-01-01T00:00:00Z".parse().unwrap(),
        content_type: "text/html; charset=windows-1252".into(),
        format: Format::Html,
        columns: None,
        body: Bytes::copy_from_slice(body),
    };
    let mut events = Vec::new();
    Decoder::new("USD", &[site], &[]).unwrap().decode(&raw, &mut events);
    events
}

/// Each event as text: symbol, price, size, currency and time, or why it is rejected.
fn read(site: HtmlSite, symbol: Option<&str>, body: &[u8]) -> Vec<String> {
    let told = |event: Event| match event {
        Ok(event) => {
            let size = event.size.map_or("-".to_owned(), |size| size.to_string());
            let (symbol, price, currency) = (event.symbol, event.price, event.currency);
            format!("{symbol} {price} {size} {currency} {}", event.ts)
        }
        Err(rejection) => format!("{}: {}", rejection.reason.as_str(), rejection.detail),
    };
    decode(site, symbol, body).into_iter().map(told).collect()
}

#[test]
fn a_page_without_rows_is_one_quote_of_the_symbol_in_its_address() {
    let page = b"<h1>SAP SE</h1><p>Kurs: <b class=price>1.234,50 \x80</b>";
    assert_eq!(read(single(), Some("SAP"), page), ["SAP 1234.50 - EUR 2024-01-01T00:00:00Z"]);
    assert_eq!(read(single(), Some("SAP"), b""), ["missing_field: price: is missing"]);
    assert_eq!(
        read(single(), None, page),
        ["invalid_field: symbol: the payload was not fetched for a symbol"]
    );
}

#[test]
fn a_page_of_another_symbol_than_was_asked_for_is_rejected() {
    let site = || HtmlSite { symbol: Some(select("h1")), ..single() };
    let page = b"<h1>SAP</h1><p class=price>5,25";
    assert_eq!(read(site(), Some("SAP"), page), ["SAP 5.25 - EUR 2024-01-01T00:00:00Z"]);
    assert_eq!(
        read(site(), Some("BMW"), page),
        ["invalid_field: symbol: the page of \"BMW\" is about \"SAP\""]
    );
}

#[test]
fn a_value_is_cut_out_of_what_stands_around_it() {
    let symbol =
        HtmlField { after: "/quote/".into(), before: "?".into(), ..attribute("a", "href") };
    let price = HtmlField { after: "Last:".into(), before: "(".into(), ..select(".price") };
    let site = HtmlSite { symbol: Some(symbol), price, ..table() };
    let page = b"<table>\
        <tr><td><a href='/en/quote/SAP?x=/quote/no'>SAP</a><td class=price>Last: 5,25 EUR (delayed)\
        <tr><td><a href='/quote/BMW'>BMW</a><td class=price>Last: 7,50\
        <tr><td><a href='/news/VOW'>VOW</a><td class=price>Last: 1,50\
        <tr><td><a href='/quote/BAS'>BAS</a><td class=price>Bid: 1,50";
    assert_eq!(
        read(site, None, page),
        [
            "SAP 5.25 - EUR 2024-01-01T00:00:00Z",
            "BMW 7.50 - EUR 2024-01-01T00:00:00Z",
            "missing_field: symbol: is missing (row 3)",
            "missing_field: price: is missing (row 4)",
        ]
    );
}

#[test]
fn size_currency_and_time_are_read_where_a_page_has_them() {
    let site = HtmlSite {
        size: Some(select(".size")),
        currency_field: Some(attribute(".price", "data-currency")),
        time: Some(select("time")),
        time_format: "%d.%m.%Y %H:%M:%S".into(),
        time_zone: "Europe/Berlin".into(),
        decimal_separator: NumberFormat::Comma,
        ..table()
    };
    let page = b"<table>\
        <tr><td><a href=SAP></a><td class=price>5,25<td class=size>1.000<td><time>24.07.2023 17:35:00</time>\
        <tr><td><a href=UBS></a><td class=price data-currency=CHF>CHF 7,50<td><time>24.01.2023 17:35:00</time>\
        <tr><td><a href=BMW></a><td class=price>5,25<td class=size>many<td><time>24.07.2023 17:35:00</time>\
        <tr><td><a href=VOW></a><td class=price>5,25<td><time>soon</time>\
        <tr><td><a href=BAS></a><td class=price>5,25";
    assert_eq!(
        read(site, None, page),
        [
            "SAP 5.25 1000 EUR 2023-07-24T15:35:00Z",
            "UBS 7.50 - CHF 2023-01-24T16:35:00Z",
            "invalid_field: size: \"many\" is not a number (row 3)",
            "invalid_field: time: \"soon\" is not a time like %d.%m.%Y %H:%M:%S (row 4)",
            "missing_field: time: is missing (row 5)",
        ]
    );
}

#[test]
fn bytes_that_are_no_characters_spoil_only_their_own_value() {
    let page = b"<meta charset=utf-8><table><tr><td><a href='S\xffP'></a><td class=price>1,5\
        <tr><td><a href=BMW></a><td class=price>7,50 \x80\
        <tr><td><a href=VOW>\xff</a><td class=price>8,50";
    let raw = RawTick {
        id: "e".into(),
        source: Source::new("html:shop").unwrap(),
        symbol: None,
        received_at: "2024-01-01T00:00:00Z".parse().unwrap(),
        content_type: "text/html".into(),
        format: Format::Html,
        columns: None,
        body: Bytes::from_static(page),
    };
    let mut events = Vec::new();
    Decoder::new("USD", &[table()], &[]).unwrap().decode(&raw, &mut events);
    let faults: Vec<_> =
        events.iter().map(|event| event.as_ref().err().map(|r| &*r.detail)).collect();
    assert_eq!(
        faults,
        [
            Some("symbol: it is not written in the page's charset (row 1)"),
            Some("price: it is not written in the page's charset (row 2)"),
            None,
        ]
    );
}

#[test]
fn a_site_that_cannot_be_read_names_its_key() {
    let fault = |sites: &[HtmlSite]| Decoder::new("USD", sites, &[]).err().unwrap().to_string();
    for (site, expected) in [
        (HtmlSite { symbol: None, ..table() }, "html[0].symbol: where does it stand?"),
        (
            HtmlSite { symbol: Some(select("a[")), ..table() },
            "html[0].symbol.select: \"a[\" is not",
        ),
        (
            HtmlSite { price: select("::x"), ..table() },
            "html[0].price.select: \"::x\" is not a CSS",
        ),
        (
            HtmlSite { size: Some(select(">")), ..table() },
            "html[0].size.select: \">\" is not a CSS",
        ),
        (HtmlSite { wait_for: "##".into(), ..table() }, "html[0].wait_for: \"##\" is not a CSS"),
        (HtmlSite { currency: String::new(), ..table() }, "html[0].currency: it must have 2 to 10"),
        (
            HtmlSite { time: Some(select("time")), time_format: "iso".into(), ..table() },
            "html[0].time_format: \"iso\" is none of rfc3339",
        ),
    ] {
        let told = fault(&[site]);
        assert!(told.starts_with(expected), "{told}");
    }
    assert_eq!(fault(&[table(), single()]), "html[1].name: \"shop\" is there twice");
}
#[test]
fn rows_do_not_stand_in_one_another_without_end() {
    let site = || HtmlSite {
        rows: "div".into(),
        symbol: Some(attribute("", "id")),
        price: HtmlField::default(),
        ..single()
    };
    let page = |rows: usize| "<div id=A>".repeat(rows) + &"1".repeat(20);
    let read = |rows| read(site(), None, page(rows).as_bytes());
    assert_eq!(read(3), ["A 11111111111111111111 - EUR 2024-01-01T00:00:00Z"; 3]);
    // The text is that of every row: so many times it would take gigabytes.
    assert_eq!(
        read(20_000),
        ["malformed: the elements of the page stand in one another more than 512 deep"]
    );
}
