//! The polled providers: what they document, and what they send instead.

use super::*;

/// The events of a payload that was asked for with this symbol, each as a line.
fn lines(format: Format, asked: Option<&str>, body: &str) -> Vec<String> {
    let symbol = asked.map(|symbol| Symbol::new(symbol).unwrap());
    let raw = RawTick { symbol, ..raw(format, body.as_bytes()) };
    let mut events = Vec::new();
    Decoder::new("USD", &[], &[]).unwrap().decode(&raw, &mut events);
    assert_sound(&events);
    events.iter().map(line).collect()
}

fn line(event: &Event) -> String {
    match event {
        Ok(event) => {
            let size = event.size.map(|size| size.to_string()).unwrap_or_default();
            let exchange = event.exchange.as_deref().unwrap_or_default();
            let (kind, ts, currency) = (event.kind.as_str(), event.ts, &event.currency);
            format!("{} {} {size} {currency} {exchange} {kind} {ts}", event.symbol, event.price)
        }
        Err(rejection) => format!("{}: {}", rejection.reason, rejection.detail),
    }
}

fn identities(format: Format, body: &str) -> Vec<String> {
    let raw = RawTick { symbol: Symbol::new("IBM").ok(), ..raw(format, body.as_bytes()) };
    let mut events = Vec::new();
    Decoder::new("USD", &[], &[]).unwrap().decode(&raw, &mut events);
    events.into_iter().filter_map(|event| event.ok()?.identity).collect()
}

const INTRADAY: &str = r#"{
    "Meta Data": {
        "1. Information": "Intraday (5min) open, high, low, close prices and volume",
        "2. Symbol": "IBM",
        "3. Last Refreshed": "2024-07-05 19:55:00",
        "4. Interval": "5min",
        "5. Output Size": "Compact",
        "6. Time Zone": "US/Eastern"
    },
    "Time Series (5min)": {
        "2024-07-05 19:55:00": {"1. open": "176.0000", "2. high": "176.2500", "3. low": "175.9900", "4. close": "176.0200", "5. volume": "34"},
        "2024-07-05 19:50:00": {"1. open": "176.0000", "4. close": "no", "5. volume": "1"},
        "2024-03-10 02:30:00": {"4. close": "1", "5. volume": "1"},
        "2024-01-05 09:30:00": {"1. open": "160.1", "4. close": "160.1230", "5. volume": "17"}
    }
}"#;

#[test]
fn intraday_bars_of_alpha_vantage_from_the_oldest_to_the_newest() {
    assert_eq!(
        lines(Format::AlphaVantageSeries, Some("IBM"), INTRADAY),
        [
            "IBM 160.1230 17 USD  bar 2024-01-05T14:30:00Z",
            "invalid_field: time: \"2024-03-10 02:30:00\" did not exist in US/Eastern: the clocks were set forward (row 3)",
            "invalid_field: 4. close: \"no\" is not a decimal number (row 2)",
            "IBM 176.0200 34 USD  bar 2024-07-05T23:55:00Z",
        ]
    );
    let identities = identities(Format::AlphaVantageSeries, INTRADAY);
    assert_eq!(identities, ["5min:1704465000:160.1230:17", "5min:1720223700:176.0200:34"]);
}

#[test]
fn daily_bars_of_alpha_vantage_are_of_the_day_in_their_time_zone() {
    let body = r#"{"Meta Data":{"1. Information":"Daily Prices","2. Symbol":"ibm","3. Last Refreshed":"2024-07-05","4. Output Size":"Compact","5. Time Zone":"US/Eastern"},
        "Time Series (Daily)":{"2024-07-05":{"4. close":"176.02","5. volume":"3405000"},"2024-01-05":{"4. close":"159.16","5. volume":"3700000"}}}"#;
    assert_eq!(
        lines(Format::AlphaVantageSeries, Some("IBM"), body),
        [
            "IBM 159.16 3700000 USD  bar 2024-01-05T05:00:00Z",
            "IBM 176.02 3405000 USD  bar 2024-07-05T04:00:00Z",
        ]
    );
}

#[test]
fn a_series_of_alpha_vantage_that_is_none_says_why() {
    let lines = |body: &str| lines(Format::AlphaVantageSeries, Some("IBM"), body);
    let of = |symbol: &str| INTRADAY.replace("\"IBM\"", &format!("\"{symbol}\""));
    for (body, expected) in [
        (r#"{"Note":"slow down"}"#.to_owned(), "provider_error: Note: \"slow down\""),
        (r#"{"Information":"pay"}"#.to_owned(), "provider_error: Information: \"pay\""),
        ("{}".to_owned(), "missing_field: Meta Data: is missing"),
        (
            r#"{"Meta Data":{"5. Time Zone":"Mars/Olympus"}}"#.to_owned(),
            "invalid_field: Meta Data.Time Zone: \"Mars/Olympus\" is not a time zone",
        ),
        (
            r#"{"Meta Data":{"5. Time Zone":"UTC"},"Time Series (Daily)":{}}"#.to_owned(),
            "missing_field: Time Series: is missing: it has no bars",
        ),
        (of("AAPL"), "invalid_field: Meta Data.Symbol: \"AAPL\" is not IBM, which was asked for"),
        ("<html>".to_owned(), "malformed: the payload is not a JSON object"),
    ] {
        assert_eq!(lines(&body), [expected], "{body}");
    }
}

const CHART: &str = r#"{"chart":{"result":[{"meta":{"currency":"USD","symbol":"IBM","exchangeName":"NYQ","instrumentType":"EQUITY","regularMarketTime":1720209602,"gmtoffset":-14400,"timezone":"EDT","exchangeTimezoneName":"America/New_York","regularMarketPrice":176.02,"dataGranularity":"1m","range":""},
    "timestamp":[1720209480,1720209540,1720209600],
    "indicators":{"quote":[{"open":[175.9,null,176.0],"close":[175.99000549316406,null,176.02],"volume":[12000,null,0],"high":[1],"low":[]}]}}],"error":null}}"#;

#[test]
fn bars_of_yahoo_keep_every_digit_and_those_without_trades_are_rejected() {
    assert_eq!(
        lines(Format::YahooChart, Some("IBM"), CHART),
        [
            "IBM 175.99000549316406 12000 USD NYQ bar 2024-07-05T19:58:00Z",
            "missing_field: close: is missing (row 2)",
            "IBM 176.02 0 USD NYQ bar 2024-07-05T20:00:00Z",
        ]
    );
    let identities = identities(Format::YahooChart, CHART);
    assert_eq!(identities, ["1m:1720209480:175.99000549316406:12000", "1m:1720209600:176.02:0"]);
}

#[test]
fn a_chart_of_yahoo_without_bars_is_its_quote() {
    let body = r#"{"chart":{"result":[{"meta":{"currency":"GBp","symbol":"BP.L","exchangeName":"LSE","regularMarketTime":1720209602,"regularMarketPrice":472.35},"indicators":{"quote":[{}]}}],"error":null}}"#;
    assert_eq!(
        lines(Format::YahooChart, Some("BP.L"), body),
        ["BP.L 472.35  GBp LSE quote 2024-07-05T20:00:02Z"]
    );
}

#[test]
fn a_chart_of_yahoo_that_is_none_says_why() {
    let unknown = r#"{"chart":{"result":null,"error":{"code":"Not Found","description":"No data found, symbol may be delisted"}}}"#;
    let more_closes = r#"{"chart":{"result":[{"meta":{"symbol":"A"},"timestamp":[1],"indicators":{"quote":[{"close":[1,2]}]}}]}}"#;
    let lines = |body: &str| lines(Format::YahooChart, None, body);
    assert!(lines(unknown)[0].starts_with("provider_error: chart.error: {\"code\":\"Not Found\""));
    assert_eq!(
        lines(r#"{"chart":{"result":[]}}"#),
        ["missing_field: chart.result: is missing: it is empty"]
    );
    assert_eq!(lines(more_closes)[1], "missing_field: timestamp: is missing (row 2)");
    assert_eq!(lines(more_closes).len(), 2);
    assert_eq!(
        lines(r#"{"chart":{"result":[{"meta":{"symbol":"A"},"timestamp":5}]}}"#),
        ["invalid_field: timestamp: 5 is not a list"]
    );
}

#[test]
fn a_quote_of_finnhub_has_the_symbol_that_was_asked_for() {
    let body = r#"{"c":261.74,"d":2.29,"dp":0.88,"h":263.31,"l":260.68,"o":261.07,"pc":259.45,"t":1582641000}"#;
    let lines = |asked, body: &str| lines(Format::FinnhubQuote, asked, body);
    assert_eq!(lines(Some("AAPL"), body), ["AAPL 261.74  USD  quote 2020-02-25T14:30:00Z"]);
    assert_eq!(lines(None, body), ["missing_field: symbol: is missing in the envelope"]);
    assert_eq!(
        lines(Some("NOPE"), r#"{"c":0,"d":null,"dp":null,"h":0,"l":0,"o":0,"pc":0,"t":0}"#),
        ["invalid_field: t: it is 0, as for an unknown symbol"]
    );
    assert_eq!(identities(Format::FinnhubQuote, body), ["quote:1582641000:261.74"]);
}

#[test]
fn quotes_of_twelve_data_are_of_one_symbol_or_of_many() {
    let one = r#"{"symbol":"AAPL","name":"Apple Inc","exchange":"NASDAQ","mic_code":"XNGS","currency":"USD","datetime":"2021-09-16","timestamp":1631772000,"last_quote_at":1631822340,"open":"148.44000","close":"148.85001","volume":"67903927","is_market_open":false}"#;
    let read = "AAPL 148.85001 67903927 USD NASDAQ quote 2021-09-16T19:59:00Z";
    assert_eq!(lines(Format::TwelveDataQuote, Some("AAPL"), one), [read]);
    let many = format!(
        r#"{{"AAPL":{one},"EUR/USD":{{"symbol":"EUR/USD","close":"1.0838","timestamp":1631772000}},"SBIN:NSE":{{"symbol":"SBIN","currency":"INR","close":"1","timestamp":1}},"NOPE":{{"code":404,"message":"**symbol** not found: NOPE","status":"error"}},"IBM":{one}}}"#
    );
    assert_eq!(
        lines(Format::TwelveDataQuote, None, &many),
        [
            read,
            "EUR/USD 1.0838  USD  quote 2021-09-16T06:00:00Z",
            "SBIN:NSE 1  INR  quote 1970-01-01T00:00:01Z",
            "provider_error: NOPE: code 404: \"**symbol** not found: NOPE\"",
            "invalid_field: symbol: \"AAPL\" is not IBM, which was asked for",
        ]
    );
}

#[test]
fn bars_of_twelve_data_are_in_the_time_of_their_exchange() {
    let ibm = r#"{"meta":{"symbol":"IBM","interval":"1min","currency":"USD","exchange_timezone":"America/New_York","exchange":"NYSE","mic_code":"XNYS","type":"Common Stock"},
        "values":[{"datetime":"2024-07-05 15:59:00","open":"1","close":"176.02000","volume":"345"},{"datetime":"2024-11-03 01:30:00","close":"1"},{"datetime":"2024-01-05 15:58:00","close":"159.1","volume":"1"}],"status":"ok"}"#;
    let read = [
        "IBM 159.1 1 USD NYSE bar 2024-01-05T20:58:00Z",
        "invalid_field: datetime: \"2024-11-03 01:30:00\" came twice in America/New_York: the clocks were set back (row 2)",
        "IBM 176.02000 345 USD NYSE bar 2024-07-05T19:59:00Z",
    ];
    assert_eq!(lines(Format::TwelveDataSeries, Some("IBM"), ibm), read);
    let euro = r#"{"meta":{"symbol":"EUR/GBP","interval":"1day","currency_base":"Euro","currency_quote":"British Pound"},"values":[{"datetime":"2024-07-05","close":"0.84620"}],"status":"ok"}"#;
    let many = format!(
        r#"{{"IBM":{ibm},"EUR/GBP":{euro},"NOPE":{{"code":400,"message":"no","status":"error"}},"X":{{"meta":{{}},"values":[]}}}}"#
    );
    let all = lines(Format::TwelveDataSeries, None, &many);
    assert_eq!(all[..3], read);
    assert_eq!(
        all[3..],
        [
            "EUR/GBP 0.84620  GBP  bar 2024-07-05T00:00:00Z",
            "provider_error: NOPE: code 400: \"no\"",
            "missing_field: values: is missing: there are no bars",
        ]
    );
    let identities = identities(Format::TwelveDataSeries, ibm);
    assert_eq!(identities, ["1min:1704488280:159.1:1", "1min:1720209540:176.02000:345"]);
}

#[test]
fn quotes_of_stooq_are_in_the_time_of_warsaw() {
    let body = "Symbol,Date,Time,Open,High,Low,Close,Volume\r\n\
        AAPL.US,2024-01-05,22:00:10,181.99,182.76,180.17,181.1800,62303254\r\n\
        NOPE,N/D,N/D,N/D,N/D,N/D,N/D,N/D\r\n\
        ^SPX,2024-07-05,23:00:00,1,1,1,5567.19,N/D\r\n\
        EURUSD,2024-07-05,23:00:00,1,1,1,l,0\r\n\
        SHORT,2024-07-05\r\n";
    assert_eq!(
        lines(Format::StooqQuotes, None, body),
        [
            "AAPL.US 181.1800 62303254 USD  quote 2024-01-05T21:00:10Z",
            "missing_field: Close: is missing: Stooq has no data (row 2)",
            "^SPX 5567.19  USD  quote 2024-07-05T21:00:00Z",
            "invalid_field: Close: \"l\" is not a decimal number (row 4)",
            "missing_field: Close: is missing (row 5)",
        ]
    );
    assert_eq!(
        lines(Format::StooqQuotes, None, "Symbol,Date"),
        ["malformed: it has no line after its header"]
    );
    assert_eq!(identities(Format::StooqQuotes, body)[0], "quote:1704488410:181.1800:62303254");
}

#[test]
fn a_payload_of_too_many_bars_is_one_rejection() {
    let nulls = "null,".repeat(MAX_EVENTS) + "null";
    let lines_of_stooq = "Symbol\n".to_owned() + &"A\n".repeat(MAX_EVENTS + 1);
    let results: String = (0..=MAX_EVENTS).map(|n| format!(",\"S{n}\":{{}}")).collect();
    let days: String = (0..=MAX_EVENTS).map(|n| format!(",\"{n}\":{{}}")).collect();
    for (format, body) in [
        (
            Format::YahooChart,
            format!(
                r#"{{"chart":{{"result":[{{"meta":{{"symbol":"A"}},"timestamp":[{nulls}]}}]}}}}"#
            ),
        ),
        (Format::TwelveDataSeries, format!(r#"{{"meta":{{"symbol":"A"}},"values":[{nulls}]}}"#)),
        (Format::TwelveDataQuote, format!("{{{}}}", &results[1..])),
        (
            Format::AlphaVantageSeries,
            format!(
                r#"{{"Meta Data":{{"2. Symbol":"A","5. Time Zone":"UTC"}},"Time Series (Daily)":{{{}}}}}"#,
                &days[1..]
            ),
        ),
        (Format::StooqQuotes, lines_of_stooq),
    ] {
        let lines = lines(format, None, &body);
        assert_eq!(lines.len(), 1, "{format:?}");
        assert!(lines[0].starts_with("malformed: it has more than 20000"), "{}", lines[0]);
    }
}

/// It is in every bar: half a megabyte of it would be 20,000 times that.
#[test]
fn what_all_bars_of_a_payload_share_is_short() {
    let long = "x".repeat(257);
    for (format, body, field) in [
        (Format::YahooChart, CHART.replace("NYQ", &long), "meta.exchangeName"),
        (Format::YahooChart, CHART.replace("\"1m\"", &format!("{long:?}")), "meta.dataGranularity"),
        (Format::YahooChart, CHART.replace("USD", &long), "meta.currency"),
        (
            Format::AlphaVantageSeries,
            INTRADAY.replace("\"5min\"", &format!("{long:?}")),
            "Meta Data.Interval",
        ),
        (
            Format::TwelveDataSeries,
            format!(r#"{{"meta":{{"symbol":"A","interval":"{long}"}},"values":[]}}"#),
            "meta.interval",
        ),
        (
            Format::TwelveDataSeries,
            format!(r#"{{"meta":{{"symbol":"A","exchange":"{long}"}},"values":[]}}"#),
            "meta.exchange",
        ),
        (
            Format::TwelveDataSeries,
            format!(r#"{{"meta":{{"symbol":"A","currency":"{long}"}},"values":[]}}"#),
            "currency",
        ),
    ] {
        let fault = format!("invalid_field: {field}: {:?}… is longer than 256 bytes", &long[..40]);
        assert_eq!(lines(format, Some("IBM"), &body.replace("\"A\"", "\"IBM\"")), [fault]);
    }
}

proptest! {
    /// In = out + rejected: as many events as rows, those that are right become ticks, and every
    /// digit is kept.
    #[test]
    fn every_bar_is_one_event(rows in proptest::collection::vec((any::<bool>(), "[1-9][0-9]{0,9}\\.[0-9]{1,9}"), 1..40)) {
        let price = |good: bool, price: &str| if good { price.to_owned() } else { format!("\"{price}x\"") };
        let closes: Vec<_> = rows.iter().map(|(good, text)| price(*good, text)).collect();
        let times: Vec<_> = (1..=rows.len()).map(|row| row.to_string()).collect();
        let minute = |row: usize| format!("2024-01-05 {:02}:{:02}:00", 10 + row / 60, row % 60);
        let chart = format!(
            r#"{{"chart":{{"result":[{{"meta":{{"symbol":"A"}},"timestamp":[{}],"indicators":{{"quote":[{{"close":[{}]}}]}}}}]}}}}"#,
            times.join(","), closes.join(",")
        );
        let values: Vec<_> = closes.iter().enumerate()
            .map(|(row, close)| format!(r#"{{"datetime":"{}","close":{close}}}"#, minute(row))).collect();
        let series = format!(r#"{{"meta":{{"symbol":"A"}},"values":[{}]}}"#, values.join(","));
        let bars: Vec<_> = closes.iter().enumerate()
            .map(|(row, close)| format!(r#""{}":{{"4. close":{close}}}"#, minute(row))).collect();
        let intraday = format!(r#"{{"Meta Data":{{"2. Symbol":"A","6. Time Zone":"US/Eastern"}},"Time Series (1min)":{{{}}}}}"#, bars.join(","));
        let quotes: String = rows.iter()
            .map(|(good, text)| format!("A,2024-01-05,22:00:10,{text}{}\n", if *good { "" } else { "x" })).collect();
        let good: Vec<_> = rows.iter().filter(|(good, _)| *good).map(|(_, text)| text.clone()).collect();
        for (format, body) in [
            (Format::YahooChart, chart),
            (Format::TwelveDataSeries, series),
            (Format::AlphaVantageSeries, intraday),
            (Format::StooqQuotes, format!("Symbol,Date,Time,Close\n{quotes}")),
        ] {
            let events = decode(format, body.as_bytes());
            prop_assert_eq!(events.len(), rows.len());
            let prices: Vec<_> = events.into_iter().filter_map(|event| Some(event.ok()?.price.to_string())).collect();
            prop_assert_eq!(prices, good.clone());
        }
    }
}
