//! Messages of streaming feeds, as their providers document them.

use super::*;

/// What [`tick`] tells of each event, with its identity, or why it is none.
fn all(format: Format, body: &[u8]) -> Vec<String> {
    let told = |event: Event| match event {
        Ok(event) => {
            let size = event.size.map(|size| size.to_string()).unwrap_or_default();
            let (exchange, identity) =
                (event.exchange.unwrap_or_default(), event.identity.unwrap_or_default());
            let (symbol, price, currency, ts) =
                (event.symbol, event.price, event.currency, event.ts);
            format!("{symbol} {price} {size} {currency} {exchange} {ts} {identity}")
        }
        Err(rejection) => rejection.detail,
    };
    decode(format, body).into_iter().map(told).collect()
}

/// <https://docs.kraken.com/api/docs/websocket-v2/trade>
#[test]
fn trades_of_kraken() {
    let body = br#"{"channel":"trade","type":"update","data":[
        {"symbol":"MATIC/USD","side":"sell","price":0.511700,"qty":40.0,"ord_type":"market","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"},
        {"symbol":"MATIC/USD","side":"sell","price":"x","qty":40.0,"ord_type":"market","trade_id":4665907,"timestamp":"2023-09-25T07:49:37.708706Z"},
        7,
        {"symbol":"BTC/EUR","side":"buy","price":1e-7,"qty":0.00013,"ord_type":"unknown","trade_id":9,"timestamp":"2023-09-25T07:49:37.708706123Z","new":{}}]}"#;
    assert_eq!(
        all(Format::KrakenTrade, body),
        [
            "MATIC/USD 0.511700 40.0 USD kraken 2023-09-25T07:49:37.708706Z 4665906",
            "price: \"x\" is not a decimal number (trade 2)",
            "the payload is not a JSON object (trade 3)",
            "BTC/EUR 0.0000001 0.00013 EUR kraken 2023-09-25T07:49:37.708706123Z 9",
        ]
    );
    for (body, fault) in [
        (r#"{"channel":"heartbeat"}"#, "channel: \"heartbeat\" is not trade"),
        (r#"{"channel":"trade","data":[]}"#, "data: is missing: there is no trade in it"),
        (
            r#"{"channel":"trade","data":[{"symbol":"BTC"}]}"#,
            "symbol: \"BTC\" does not name its currency, as BTC/USD does (trade 1)",
        ),
        (r#"{"channel":"trade","data":7}"#, "the payload is not a JSON object as expected"),
    ] {
        let told = all(Format::KrakenTrade, body.as_bytes());
        assert!(told.len() == 1 && told[0].starts_with(fault), "{told:?}");
    }
}

/// <https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams>
#[test]
fn a_trade_of_binance() {
    let trade = r#"{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.00100000","q":"100","T":1672515782136,"m":true,"M":true}"#;
    let read = "BNBBTC 0.00100000 100 BTC binance 2022-12-31T19:43:02.136Z ";
    assert_eq!(all(Format::BinanceTrade, trade.as_bytes()), [read]);
    let wrapped = format!(r#"{{"stream":"bnbbtc@trade","data":{trade}}}"#);
    assert_eq!(all(Format::BinanceTrade, wrapped.as_bytes()), [read]);
    let micros = trade.replace("\"T\":1672515782136", "\"T\":1672515782136789");
    let told = all(Format::BinanceTrade, micros.as_bytes());
    assert_eq!(told, [read.replace(".136Z", ".136789Z")]);
    for (from, to, fault) in [
        ("\"trade\"", "\"kline\"", "e: \"kline\" is not trade"),
        ("BNBBTC", "FOO", "s: \"FOO\" is in no currency that is known"),
        ("\"T\":1672515782136", "\"T\":-1", "T: -1 is not a whole number"),
        (
            "\"T\":1672515782136",
            "\"T\":99999999999999999999",
            "T: 99999999999999999999 is not a whole",
        ),
        (
            "\"T\":1672515782136",
            "\"T\":9999999999999999999",
            "T: \"9999999999999999999\" is not a time",
        ),
    ] {
        let told = all(Format::BinanceTrade, trade.replace(from, to).as_bytes());
        assert!(told.len() == 1 && told[0].starts_with(fault), "{told:?}");
    }
}

/// <https://docs.alpaca.markets/docs/real-time-stock-pricing-data>
const ALPACA: &str = r#"[
    {"T":"t","i":96921,"S":"AAPL","x":"D","p":126.55,"s":1,"t":"2021-02-22T15:51:44.208Z","c":["@","I"],"z":"C"},
    {"T":"x","S":"AAPL","i":96921,"x":"D","p":126.55,"s":1,"a":"C","t":"2021-02-22T15:51:45Z","z":"C"},
    {"T":"t","i":96922,"S":"BRK.B","x":"V","p":"soon","s":1,"t":"2021-02-22T15:51:44.208Z"},
    {"T":"t","i":96923,"S":"BRK.B","x":"V","p":240.1,"s":1,"t":"2021-02-22T15:51:44.208123456Z"}]"#;
const ALPACA_READ: [&str; 4] = [
    "AAPL 126.55 1 USD D 2021-02-22T15:51:44.208Z D:96921:1614009104208000000",
    "T: \"x\" is the cancellation of a trade, not a trade (trade 2)",
    "p: \"soon\" is not a decimal number (trade 3)",
    "BRK.B 240.1 1 USD V 2021-02-22T15:51:44.208123456Z V:96923:1614009104208123456",
];

#[test]
fn trades_of_alpaca_are_the_same_in_both_encodings() {
    assert_eq!(all(Format::AlpacaJson, ALPACA.as_bytes()), ALPACA_READ);
    let json: serde_json::Value = serde_json::from_str(ALPACA).unwrap();
    let body = schemas::msgpack::from_json(json);
    assert_eq!(all(Format::AlpacaMsgpack, &body), ALPACA_READ);
    for body in ["", "{}", "7", "[", "[]"] {
        let told = all(Format::AlpacaJson, body.as_bytes());
        assert_eq!(told.len(), 1, "{told:?}");
    }
    let told = all(Format::AlpacaJson, br#"[{"T":"q"},7]"#);
    assert_eq!(told.len(), 2, "{told:?}");
}

/// One trade in MessagePack, with this as its price, and a time of MessagePack's own.
fn packed(price: &[u8]) -> Vec<u8> {
    let time = 1_614_009_104_u64 | 208_123_456_u64 << 34;
    let mut body = b"\x91\x87\xa1T\xa1t\xa1i\x01\xa1S\xa4AAPL\xa1x\xa1D\xa1s\x64\xa1p".to_vec();
    body.extend(price);
    body.extend(b"\xa1t\xd7\xff");
    body.extend(time.to_be_bytes());
    body
}

#[test]
fn messagepack_has_floats_and_times_of_its_own() {
    let read = |price: &[u8]| all(Format::AlpacaMsgpack, &packed(price)).concat();
    let expected = |price| {
        format!("AAPL {price} 100 USD D 2021-02-22T15:51:44.208123456Z D:1:1614009104208123456")
    };
    assert_eq!(read(&[&[0xcb][..], &126.55_f64.to_be_bytes()].concat()), expected("126.55"));
    assert_eq!(read(&[&[0xca][..], &126.55_f32.to_be_bytes()].concat()), expected("126.55"));
    assert_eq!(read(&[&[0xcd][..], &127_u16.to_be_bytes()].concat()), expected("127"));
    let not_a_number = read(&[&[0xcb][..], &f64::NAN.to_be_bytes()].concat());
    assert_eq!(not_a_number, "p: is missing (trade 1)");
    // An extension of somebody else's spoils its own trade only.
    let mut two = packed(b"\xd4\x05\x00");
    two[0] = 0x92;
    two.extend(&packed(b"\x07")[1..]);
    let told = all(Format::AlpacaMsgpack, &two);
    assert_eq!(
        told,
        [
            "an extension type is none of the values that the protocol uses (trade 1)",
            &expected("7")
        ]
    );
}

/// <https://finnhub.io/docs/api/websocket-trades>
#[test]
fn trades_of_finnhub() {
    let body = br#"{"data":[{"p":7296.89,"s":"BINANCE:BTCUSDT","t":1575526691134,"v":0.011467},
        {"c":["1","12"],"p":129.580,"s":"AAPL","t":1672348887666,"v":1},
        {"p":1.1,"s":"OANDA:EUR_USD","t":1672348887666,"v":0},
        {"p":1.1,"s":"IC:US500","t":1672348887666,"v":0},
        {"p":null,"s":"AAPL","t":1672348887666,"v":1}],"type":"trade"}"#;
    assert_eq!(
        all(Format::FinnhubTrades, body),
        [
            "BINANCE:BTCUSDT 7296.89 0.011467 USDT BINANCE 2019-12-05T06:18:11.134Z ",
            "AAPL 129.580 1 USD  2022-12-29T21:21:27.666Z ",
            "OANDA:EUR_USD 1.1 0 USD OANDA 2022-12-29T21:21:27.666Z ",
            "s: \"IC:US500\" is in no currency that is known (trade 4)",
            "p: is missing (trade 5)",
        ]
    );
    let told = all(Format::FinnhubTrades, br#"{"type":"ping"}"#);
    assert_eq!(told, ["type: \"ping\" is not trade"]);
}

proptest! {
    #[test]
    fn every_price_that_became_a_float_comes_back(cents in 1_u64..100_000_000_000) {
        let price = format!("{}.{:02}", cents / 100, cents % 100);
        let float: f64 = price.parse().unwrap();
        let mut events = decode(Format::AlpacaMsgpack, &packed(&[&[0xcb][..], &float.to_be_bytes()].concat()));
        let read = events.remove(0).unwrap().price;
        prop_assert_eq!(read, Decimal::parse(&price).unwrap());
    }
}

proptest! {
    /// In = out + rejected: as many events as trades, and those that are right become ticks.
    #[test]
    fn every_trade_of_a_message_is_one_event(rows in proptest::collection::vec((any::<bool>(), 1..1_000_000_u32), 1..40)) {
        let good = rows.iter().filter(|(good, _)| *good).count();
        let all = |trade: fn(&str) -> String| {
            let trades = rows.iter().map(|(good, price)| trade(&if *good { price.to_string() } else { "true".to_owned() }));
            trades.collect::<Vec<_>>().join(",")
        };
        let kraken = all(|price| format!(r#"{{"symbol":"A/B","price":{price},"qty":1,"trade_id":1,"timestamp":"2024-01-01T00:00:00Z"}}"#));
        let finnhub = all(|price| format!(r#"{{"s":"A","p":{price},"v":1,"t":1672348887666}}"#));
        let alpaca = all(|price| format!(r#"{{"T":"t","i":1,"S":"A","x":"D","p":{price},"s":1,"t":"2021-02-22T15:51:44Z"}}"#));
        let packed = schemas::msgpack::from_json(serde_json::from_str(&format!("[{alpaca}]")).unwrap());
        let mut names = 0..;
        let quotes: Vec<_> = all(|price| format!(r#"{{"close":{price},"timestamp":1}}"#))
            .replace("},{", "}\n{")
            .lines()
            .map(|quote| format!(r#""S{}":{quote}"#, names.next().unwrap()))
            .collect();
        for (format, body) in [
            (Format::KrakenTrade, format!(r#"{{"channel":"trade","data":[{kraken}]}}"#).into_bytes()),
            (Format::FinnhubTrades, format!(r#"{{"type":"trade","data":[{finnhub}]}}"#).into_bytes()),
            (Format::AlpacaJson, format!("[{alpaca}]").into_bytes()),
            (Format::AlpacaMsgpack, packed),
            (Format::TwelveDataQuote, format!("{{{}}}", quotes.join(",")).into_bytes()),
        ] {
            let events = decode(format, &body);
            prop_assert_eq!(events.len(), rows.len());
            prop_assert_eq!(events.iter().filter(|event| event.is_ok()).count(), good);
        }
    }

    #[test]
    fn every_digit_of_a_json_number_is_kept(price in "[1-9][0-9]{0,11}(\\.[0-9]{1,12})?") {
        let body = format!(r#"{{"channel":"trade","data":[{{"symbol":"A/B","price":{price},"qty":{price},"trade_id":1,"timestamp":"2024-01-01T00:00:00Z"}}]}}"#);
        let event = one(Format::KrakenTrade, &body).unwrap();
        prop_assert_eq!(event.price.to_string(), price.clone());
        prop_assert_eq!(event.size.unwrap().to_string(), price);
    }
}
