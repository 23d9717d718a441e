mod net;
mod owners;

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::SignedDuration;
use nats::{Handler, Headers, ServiceRequest};
use schemas::{DryRun, Flag, Format, Records, Symbol, calendar::Calendars};
use tokio::runtime;

use super::*;
use crate::{
    decode::Decoder,
    engine::peek::Excerpt,
    validate::{Action, Listings, Rules, RulesConfig, State},
};
use net::{Memory, Net};

const NOW: &str = "2024-01-02T03:04:05Z";
const MATCH: &str = r#"{"type":"match","trade_id":7,"side":"sell","size":"0.5","price":"400.23","product_id":"BTC-USD","sequence":50,"time":"2024-01-02T03:04:04.5Z"}"#;

fn reading() -> Reading {
    let desk =
        Records { source: "push:desk".to_owned(), price: "last".to_owned(), ..Records::default() };
    Reading {
        decoder: Decoder::new("USD", &[], &[desk]).unwrap(),
        rules: Rules {
            config: RulesConfig { outlier: Action::Reject, ..RulesConfig::default() },
            max_future: SignedDuration::from_secs(5),
            calendars: Calendars::default(),
            listings: Listings::default(),
        },
    }
}

fn request(body: &str, headers: &[(&str, &str)]) -> Result<Request, Refusal> {
    let mut request = Request::new(Bytes::copy_from_slice(body.as_bytes()))?;
    request.received_at = NOW.parse().unwrap();
    for (name, value) in headers {
        request.set(name, value)?;
    }
    Ok(request)
}

/// The answer where the pipeline remembers this; `None` where nobody processes.
fn answered(body: &str, headers: &[(&str, &str)], known: Option<Excerpt>) -> DryRun {
    let asked = request(body, headers);
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let net = Net::of(1);
        let runs = net.instance("a", Memory::Once(known));
        let answer = runs.run(asked).await.unwrap();
        serde_json::from_str(&answer.json).unwrap()
    })
}

fn fresh() -> Option<Excerpt> {
    Some(Excerpt { state: State::new(100), sequence: 9, elsewhere: BTreeSet::new() })
}

fn row(symbol: &str, price: &str) -> String {
    format!("{{\"symbol\":\"{symbol}\",\"price\":{price},\"ts\":\"2024-01-02T03:04:00Z\"}}\n")
}

fn refused(body: &str, headers: &[(&str, &str)]) -> String {
    let read = request(body, headers)
        .and_then(|request| format::read(request, &reading().decoder).map(drop));
    read.unwrap_err().to_string()
}

#[test]
fn what_is_good_is_accepted_as_the_tick_that_it_would_be() {
    let headers = [("lizards-source", "coinbase"), ("Nats-Msg-Id", "coinbase:BTC-USD:7")];
    let run = answered(MATCH, &headers, fresh());
    assert_eq!((run.status, run.tick_count, run.rejection_count), (DryRunStatus::Accepted, 1, 0));
    assert_eq!((run.format.as_str(), run.detected, run.not_asked), ("coinbase-match", false, None));
    let json = serde_json::to_string(&run.ticks[0]).unwrap();
    for part in [
        r#""symbol":"BTC-USD","price":"400.23","size":"0.5","currency":"USD""#,
        r#""ts":"2024-01-02T03:04:04.5Z","received_at":"2024-01-02T03:04:05Z","source":"coinbase","raw_seq":0"#,
    ] {
        assert!(json.contains(part), "{json}");
    }
}

#[test]
fn five_hundred_good_rows_and_a_bad_one_are_that_many_ticks_and_a_rejection() {
    let mut rows: Vec<_> = (0..500).map(|n| row(&format!("S{n}"), "1.50")).collect();
    rows.insert(7, row("BAD", "\"soon\""));
    let run = answered(&rows.concat(), &[], fresh());
    assert_eq!(run.status, DryRunStatus::PartlyRejected);
    assert_eq!((run.ticks.len(), run.tick_count, run.left_out), (500, 500, 0));
    let [rejection] = run.rejections.as_slice() else { panic!("{:?}", run.rejections) };
    assert_eq!((rejection.event, rejection.reason.as_str()), (7, "invalid_field"));
    let error = &rejection.error;
    assert!(error.starts_with("price: ") && error.contains("soon"), "{error}");
    assert!(error.ends_with("(row 8)"), "{error}");
}

#[test]
fn what_no_decoder_reads_is_rejected_with_the_reason() {
    let run = answered("{\"symbol\":", &[], fresh());
    assert_eq!((run.status, run.tick_count), (DryRunStatus::Rejected, 0));
    assert_eq!(run.rejections[0].reason, "malformed");
    assert_eq!(run.not_asked, None, "there is no symbol to ask about");
}

/// The memory of someone who has seen prices around 100 of each of these, in payloads 1, 2, 3 and so on.
fn remembered(symbols: &[&str]) -> State {
    let reading = reading();
    let mut state = State::new(100);
    let prices = ["100", "100.1", "100", "99.9", "100", "100.1", "100", "99.9", "100"];
    let rows = symbols.iter().flat_map(|symbol| prices.map(|price| row(symbol, price)));
    for (sequence, row) in (1..).zip(rows) {
        let id = sequence.to_string();
        let request = request(&row, &[("nats-msg-id", &id)]).unwrap();
        let payload = format::read(request, &reading.decoder).unwrap();
        let context = crate::validate::Context {
            raw: &payload.raw,
            place: (sequence, 0),
            was_rejected: false,
            is_repeat: false,
        };
        let event = payload.events[0].clone().unwrap();
        reading.rules.judge(event, &context, &mut state).unwrap();
    }
    state
}

#[test]
fn it_is_judged_by_what_the_pipeline_remembers() {
    let state = remembered(&["AAPL"]);
    let symbols = [Symbol::new("AAPL").unwrap()];
    let known = |ids: &[&str]| {
        let ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
        let state = state.excerpt(symbols.iter(), &ids);
        Some(Excerpt { state, sequence: 10, elsewhere: BTreeSet::new() })
    };
    let run = answered(&row("AAPL", "1000"), &[], known(&[]));
    assert_eq!(run.rejections[0].reason, "outlier");
    assert_eq!(run.rejections[0].symbol, Symbol::new("AAPL").ok());
    assert_eq!(run.rejections[0].price.as_ref().unwrap().to_string(), "1000");
    let run = answered(&row("AAPL", "100"), &[("nats-msg-id", "3")], known(&["3.0"]));
    assert_eq!(run.rejections[0].reason, "duplicate");
    let old = row("AAPL", "100").replace("03:04:00", "03:03:00");
    assert_eq!(answered(&old, &[], known(&[])).ticks[0].flags, [Flag::OutOfOrder]);
}

#[test]
fn rules_that_could_not_be_asked_are_named() {
    let run = answered(&row("AAPL", "1"), &[], None);
    assert_eq!(run.status, DryRunStatus::Accepted);
    let not_asked = run.not_asked.unwrap();
    assert_eq!(not_asked.rules, ["duplicate", "out_of_order", "outlier"]);
    assert_eq!(not_asked.why, "no instance owns their partitions at present");
}

#[test]
fn a_format_that_nobody_names_is_the_one_that_makes_most_ticks() {
    let kraken = r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":4136.4,"qty":0.2,"ord_type":"market","trade_id":7,"timestamp":"2024-01-02T03:04:04Z"}]}"#;
    let csv = "symbol,price,ts\nIBM,1.50,2024-01-02T03:04:00Z\n";
    for (body, source, format) in [
        (MATCH, "coinbase", "coinbase-match"),
        (kraken, "kraken", "kraken-trade"),
        (csv, "push:dry-run", "csv"),
        (&row("IBM", "1"), "push:dry-run", "ndjson"),
    ] {
        let run = answered(body, &[], fresh());
        assert_eq!((run.source.as_str(), run.format.as_str()), (source, format));
        assert!(run.detected && run.status == DryRunStatus::Accepted, "{run:?}");
    }
    // What is said counts, though it makes nothing.
    let run = answered(&row("IBM", "1"), &[("lizards-source", "push:desk")], fresh());
    assert_eq!(
        (run.status, run.rejections[0].reason.as_str()),
        (DryRunStatus::Rejected, "missing_field")
    );
    let run = answered(csv, &[("lizards-format", "ndjson")], fresh());
    assert_eq!((run.status, run.detected), (DryRunStatus::Rejected, false));
    let headers = [("lizards-source", "push:ledger"), ("Content-Type", "text/csv; charset=utf-8")];
    assert!(!answered(csv, &headers, fresh()).detected);
    let headers = [("lizards-source", "file"), ("lizards-columns", "ts_ms,symbol,price")];
    let run = answered("1704164640000,IBM,1.50", &headers, fresh());
    assert_eq!((run.format.as_str(), run.tick_count), ("csv-row", 1));
}

#[test]
fn every_format_has_a_source() {
    for format in Format::ALL.into_iter().filter(|format| *format != Format::Html) {
        let headers = [("lizards-format", format.as_str()), ("lizards-columns", "a")];
        let run = answered("?", &headers, fresh());
        assert_eq!(run.format, format.as_str());
    }
}

#[test]
fn a_request_that_means_nothing_names_its_header() {
    let large = " ".repeat(MAX_CONTENT_BYTES) + "x";
    for (body, header, value, said) in [
        ("", "x", "", "content: is empty"),
        (" \n", "x", "", "content: is empty"),
        (&large, "x", "", "content: has 524289 bytes; at most 524288 are read"),
        ("x", "lizards-source", "A B", "lizards-source: \"A B\" is not a source name"),
        ("x", "lizards-source", "nasdaq", "lizards-source: \"nasdaq\" is of no kind that is known"),
        ("x", "Lizards-Symbol", "", "Lizards-Symbol: is empty"),
        ("x", "lizards-received-at", "now", "lizards-received-at: \"now\" is no time"),
        ("x", "lizards-format", "xls", "lizards-format: \"xls\" is none of sim, csv-row"),
        ("x", "lizards-soruce", "sim", "lizards-soruce: is none of Lizards-Source"),
        ("x", "lizards-source", "file", "lizards-columns: is missing"),
        ("x", "lizards-format", "html", "lizards-source: is missing"),
    ] {
        let refused = refused(body, &[(header, value)]);
        assert!(refused.starts_with(said), "{refused}");
    }
}

#[test]
fn a_long_answer_says_what_it_leaves_out() {
    let body: String = (0..5_000).map(|n| row(&format!("S{n}"), "1")).collect();
    let run = answered(&body, &[], fresh());
    assert_eq!((run.tick_count, run.status), (5_000, DryRunStatus::Accepted));
    assert!(run.left_out > 0 && run.ticks.len() + run.left_out == 5_000, "{}", run.left_out);
    let length = serde_json::to_vec(&run).unwrap().len();
    assert!(length < 1024 * 1024 - 64 * 1024, "{length} bytes do not fit into a message");
}

#[test]
fn the_symbols_that_could_not_be_asked_about_fit_beside_a_long_answer() {
    let symbol = |n: usize| format!("{n:0>30}");
    let body: String = (0..5_000).map(|n| row(&symbol(n), "1")).collect();
    let run = answered(&body, &[], None);
    let length = serde_json::to_vec(&run).unwrap().len();
    assert!(length < 1024 * 1024 - 64 * 1024, "{length} bytes do not fit into a message");
    let not_asked = run.not_asked.unwrap();
    let more = format!(" (and {} symbols more)", 5_000 - not_asked.symbols.len());
    assert!(not_asked.symbols.len() > 1_000 && not_asked.why.ends_with(&more), "{}", not_asked.why);
}

#[tokio::test(start_paused = true)]
async fn one_too_many_is_refused_and_the_next_is_not() {
    let runs = Net::of(1).instance("a", Memory::Once(None));
    let body = Bytes::from(row("AAPL", "1"));
    let ask = || runs.answer(ServiceRequest { headers: Headers::default(), body: body.clone() });
    let permits = runs.permits.clone().acquire_many_owned(4).await.unwrap();
    let refused = ask().await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (429, "4 dry runs are under way; try again")
    );
    drop(permits);
    let answer: DryRun = serde_json::from_slice(&ask().await.unwrap()).unwrap();
    assert!(answer.not_asked.is_some());
    assert_eq!(runs.permits.available_permits(), MAX_AT_ONCE);
}

#[tokio::test]
async fn a_header_of_nats_that_means_nothing_is_a_bad_request() {
    let headers = [("Lizards-Source", "?")].into_iter().collect();
    let refused = Net::of(1)
        .instance("a", Memory::Once(None))
        .answer(ServiceRequest { headers, body: "x".into() })
        .await
        .unwrap_err();
    assert_eq!(refused.code, 400);
    assert!(refused.reason.starts_with("Lizards-Source: "), "{}", refused.reason);
}
