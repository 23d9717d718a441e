use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::{Decimal, Symbol};

fn read(text: &str) -> Condition {
    text.parse().unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn number(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

#[test]
fn conditions_are_read_and_written_in_one_form() {
    for (text, written) in [
        ("AAPL > 200", "AAPL > 200"),
        ("  BRK.B<=200.50 ", "BRK.B <= 200.50"),
        ("EURUSD=X >= 1e-1", "EURUSD=X >= 0.1"),
        ("^GSPC<5000", "^GSPC < 5000"),
        ("BTC-USD>1", "BTC-USD > 1"),
        ("change(TSLA, 5m) < -2%", "change(TSLA, 5m) < -2%"),
        ("change ( EUR/USD ,300s )>=+0.5 %", "change(EUR/USD, 5m) >= 0.5%"),
        ("change(A,24h) > 1%", "change(A, 1d) > 1%"),
        ("volume(AAPL, 90s) > 1000", "volume(AAPL, 90s) > 1000"),
        ("volume(AAPL, 1m) > 3 * average(20)", "volume(AAPL, 1m) > 3 * average(20)"),
        ("volume(AAPL,1m)>=average(5)", "volume(AAPL, 1m) >= 1 * average(5)"),
        ("\"A > B\" > 2", "\"A > B\" > 2"),
        (r#""say \"hi\"" > 2"#, r#""say \"hi\"" > 2"#),
        ("\"AAPL\" > 2", "AAPL > 2"),
        ("change > 5", "change > 5"),
        ("volume(volume, 1s) > 5", "volume(volume, 1s) > 5"),
    ] {
        assert_eq!(read(text).to_string(), written, "{text}");
        assert_eq!(read(written), read(text), "{text}");
    }
    let expected = Condition {
        symbol: Symbol::new("AAPL").unwrap(),
        measure: Measure::Volume {
            window: Window::from_secs(60).unwrap(),
            bound: VolumeBound::Average { factor: number("2.5"), windows: 20 },
        },
        comparison: Comparison::AtLeast,
    };
    assert_eq!(read("volume(AAPL, 1m) >= 2.5 * average(20)"), expected);
}

#[test]
fn a_fault_says_where_it_is() {
    for (text, at, fault) in [
        ("", 1, "a symbol is empty"),
        ("> 5", 1, "a symbol is empty"),
        ("AAPL", 5, "one of >, >=, < and <= is due"),
        ("AAPL = 5", 6, "one of >"),
        ("AAPL > ", 8, "\"\" is not a decimal number"),
        ("AAPL > 0", 8, "a price is greater than 0"),
        ("AAPL > -5", 8, "a price is greater than 0"),
        ("AAPL > 5 5", 10, "nothing may follow"),
        ("AAPL > 5%", 9, "nothing may follow"),
        ("AAPL > abc", 8, "\"abc\" is not a decimal number"),
        ("AAPL > 0.12345678901234567890123456789", 8, "\"0.1234"),
        ("Ä B > 5", 3, "one of >"),
        ("\"A > 5", 1, "the closing quotation mark is missing"),
        ("change(TSLA 5m) < 2%", 13, ", is due"),
        ("change(TSLA, 5m < 2%", 17, ") is due"),
        ("change(TSLA, 5m) < 2", 21, "% is due"),
        ("change(TSLA, 0m) < 2%", 14, "a window is 1s to 1d"),
        ("change(TSLA, 25h) < 2%", 14, "a window is"),
        ("change(TSLA, +5m) < 2%", 14, "a window is"),
        ("change(TSLA, 99999999999d) < 2%", 14, "a window is"),
        ("volume(A, 1m) < 5", 15, "a volume is compared with > or >="),
        ("volume(A, 1m) > 3 * avg(2)", 21, "average(N) is due"),
        ("volume(A, 1m) > 0 * average(2)", 17, "a volume or its factor is greater than 0"),
        ("volume(A, 1m) > 3 * average(0)", 29, "an average is of 1 to 100 windows"),
        ("volume(A, 1m) > 3 * average(101)", 29, "an average is of"),
    ] {
        let error = text.parse::<Condition>().unwrap_err();
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.fault.starts_with(fault), "{text}: {error}");
    }
    let long = format!("A > {}", "1".repeat(MAX_CONDITION_BYTES));
    assert!(long.parse::<Condition>().is_err());
}

#[test]
fn an_address_of_a_webhook_is_checked() {
    for text in ["https://example.com/hook?key=1", "http://example.com:8080", "https://[2600::1]/"]
    {
        assert!(WebhookUrl::parse(text).is_ok(), "{text}");
    }
    for (text, fault) in [
        ("example.com", "it is not an absolute URL"),
        ("ftp://example.com", "it must begin with https://"),
        ("file:///etc/passwd", "it must begin with"),
        ("https://user:secret@example.com", "it may not hold a name"),
        ("https://user@example.com", "it may not hold a name"),
        (&format!("https://example.com/{}", "x".repeat(3_000)), "it has more than"),
    ] {
        let error = WebhookUrl::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(fault), "{text}: {error}");
    }
    for text in ["http://127.1/", "http://0x7f000001/", "http://2130706433/", "http://0177.0.0.1"] {
        let url = WebhookUrl::parse(text).unwrap();
        assert_eq!(url.ip(), Some("127.0.0.1".parse().unwrap()), "{text}");
    }
    assert_eq!(WebhookUrl::parse("https://example.com").unwrap().ip(), None);
    let shown = format!("{:?}", WebhookUrl::parse("https://example.com/hook?key=hush").unwrap());
    assert_eq!(shown, "https://example.com");
    assert_eq!(format!("{:?}", Secret::new("hush".into())), "(secret)");
}

#[test]
fn only_addresses_of_the_internet_are_public() {
    let is_public = |text: &str| is_public(text.parse::<IpAddr>().unwrap());
    for address in [
        "8.8.8.8",
        "1.1.1.1",
        "100.63.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ] {
        assert!(is_public(address), "{address}");
    }
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2001::1",
        "2001:db8::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!is_public(address), "{address}");
    }
}

fn decimal() -> impl Strategy<Value = Decimal> {
    "[1-9][0-9]{0,8}(\\.[0-9]{1,8})?".prop_map(|text| number(&text))
}

fn conditions() -> impl Strategy<Value = Condition> {
    let symbol = "\\PC{1,12}".prop_filter_map("a symbol", |text| Symbol::new(&text).ok());
    let window = (1..=MAX_WINDOW_SECS).prop_map(|seconds| Window::from_secs(seconds).unwrap());
    let bound = prop_oneof![
        decimal().prop_map(VolumeBound::Size),
        (decimal(), 1..=MAX_AVERAGED)
            .prop_map(|(factor, windows)| VolumeBound::Average { factor, windows }),
    ];
    let sides = [Comparison::Above, Comparison::AtLeast, Comparison::Below, Comparison::AtMost];
    let measure = prop_oneof![
        decimal().prop_map(|bound| Measure::Price { bound }),
        (window.clone(), "-?[0-9]{1,4}(\\.[0-9]{1,6})?")
            .prop_map(|(window, text)| Measure::Change { window, bound: number(&text) }),
        (window, bound).prop_map(|(window, bound)| Measure::Volume { window, bound }),
    ];
    (symbol, measure, 0..4_usize).prop_map(move |(symbol, measure, side)| {
        let side = if matches!(measure, Measure::Volume { .. }) { side % 2 } else { side };
        Condition { symbol, measure, comparison: sides[side] }
    })
}

proptest! {
    #[test]
    fn a_condition_that_is_written_reads_the_same(condition in conditions()) {
        let text = condition.to_string();
        prop_assert_eq!(text.parse::<Condition>(), Ok(condition), "{}", text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = text.parse::<Condition>();
    }

    #[test]
    fn nothing_made_of_the_language_panics(
        parts in proptest::collection::vec(
            prop_oneof![
                "change|volume|average|AAPL|\"|\\\\|\\(|\\)|,|%|\\*|<|>|=|-2|5m|1e9| |ß",
            ],
            0..20,
        ),
    ) {
        let text = parts.concat();
        if let Ok(condition) = text.parse::<Condition>() {
            prop_assert_eq!(condition.to_string().parse(), Ok(condition));
        }
    }
}
