//! Whichever instance is asked, the answer is that of the instances that own the symbols.

use std::sync::atomic::Ordering;

use schemas::Records;
use tokio::time::{Instant, sleep};

use super::{
    super::{Question, endpoint::OfInstance, judge::Part, question::Partitions},
    *,
};

const COUNT: u16 = 5;

/// Two instances: the first owns AAPL and remembers it, the second owns MSFT.
fn two() -> (Arc<Net>, [Arc<DryRuns>; 2]) {
    let net = Net::of(COUNT);
    let runs = [("a", "AAPL"), ("b", "MSFT")]
        .map(|(name, symbol)| net.instance(name, Memory::Of(remembered(&[symbol]))));
    net.move_to(Some("b"), "MSFT");
    (net, runs)
}

/// A price that is far off for each, one of the payload 3 once more, one that is good, and none.
fn body() -> String {
    ["1000", "100", "\"soon\""].map(|price| row("AAPL", price) + &row("MSFT", price)).concat()
}

async fn asked(runs: &DryRuns, body: &str, headers: &[(&str, &str)]) -> DryRun {
    let answer = runs.run(request(body, headers)).await.unwrap();
    serde_json::from_str(&answer.json).unwrap()
}

fn reasons(run: &DryRun) -> Vec<(usize, &str)> {
    run.rejections.iter().map(|why| (why.event, why.reason.as_str())).collect()
}

#[tokio::test]
async fn whoever_is_asked_says_what_the_owners_say() {
    let (net, [a, b]) = two();
    // As one says it who owns both.
    let both = remembered(&["AAPL", "MSFT"]);
    let whole = Net::of(COUNT).instance("whole", Memory::Of(both));
    let expected = asked(&whole, &body(), &[]).await;
    assert_eq!(
        reasons(&expected),
        [(0, "outlier"), (1, "outlier"), (4, "invalid_field"), (5, "invalid_field")]
    );
    assert_eq!((expected.tick_count, &expected.not_asked), (2, &None));
    for runs in [&a, &b] {
        assert_eq!(asked(runs, &body(), &[]).await, expected);
    }
    // Each was asked once by the other, about what is the other's alone.
    assert_eq!(net.questions.load(Ordering::Relaxed), 2);
    for (runs, symbol) in [(&a, "MSFT"), (&b, "AAPL")] {
        let run = asked(runs, &row(symbol, "100"), &[("nats-msg-id", "3")]).await;
        assert_eq!((reasons(&run), &run.not_asked), (vec![(0, "duplicate")], &None));
        // Whatever is in it, it is judged where the symbol is that it is published for.
        let run = asked(runs, &row("IBM", "1"), &[("lizards-symbol", symbol)]).await;
        assert_eq!((run.tick_count, run.not_asked), (1, None));
    }
    assert_eq!(net.questions.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn a_long_payload_over_two_owners_is_as_long_as_one_of_a_sole_owner() {
    let (net, [a, _]) = two();
    let body: String = (0..4_000).map(|n| row(&format!("S{n}"), "1")).collect();
    let sole = Net::of(1).instance("sole", Memory::Once(fresh()));
    let expected = asked(&sole, &body, &[]).await;
    assert!(expected.left_out > 0);
    let run = asked(&a, &body, &[]).await;
    assert!(net.questions.load(Ordering::Relaxed) > 0);
    assert!(run == expected, "{:?}", (run.tick_count, run.left_out, run.not_asked));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_has_gone_or_stalls_is_named_in_time() {
    let (net, [a, _]) = two();
    let why = async || {
        let since = Instant::now();
        let run = asked(&a, &body(), &[]).await;
        assert!(since.elapsed() <= OWNERS_WITHIN, "{:?}", since.elapsed());
        // What is known is said all the same; of MSFT that is what comes in the payload.
        let rejected = [(0, "outlier"), (3, "outlier"), (4, "invalid_field"), (5, "invalid_field")];
        assert_eq!(reasons(&run), rejected);
        let not_asked = run.not_asked.unwrap();
        assert_eq!(not_asked.symbols, [Symbol::new("MSFT").unwrap()].into());
        not_asked.why
    };
    net.kill("b");
    let gone = "instance b owns their partitions, but does not answer: it has gone, or only begins";
    assert_eq!(why().await, gone);
    net.stall("b");
    assert_eq!(why().await, "instance b owns their partitions, but did not answer in time");
    net.move_to(None, "MSFT");
    assert_eq!(why().await, "no instance owns their partitions at present");
    assert_eq!(a.permits.available_permits(), MAX_AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_moves_meanwhile_is_asked_about_again() {
    for before in [None, Some("gone"), Some("b")] {
        let (net, [a, b]) = two();
        net.move_to(before, "MSFT");
        let busy = match before {
            Some("b") => b.permits_of_others.clone().acquire_many_owned(4).await.ok(),
            _ => None,
        };
        let move_later = async {
            sleep(Duration::from_millis(500)).await;
            net.move_to(Some("b"), "MSFT");
            drop(busy);
        };
        let body = body();
        let (run, ()) = tokio::join!(asked(&a, &body, &[]), move_later);
        assert_eq!((run.tick_count, run.rejection_count, &run.not_asked), (2, 4, &None));
        assert_eq!(reasons(&run)[..2], [(0, "outlier"), (1, "outlier")], "{before:?}");
    }
}

#[tokio::test]
async fn a_question_is_not_passed_on() {
    let (net, [_, b]) = two();
    let raw = format::read(request(&body(), &[]).unwrap(), &reading().decoder).unwrap().raw;
    let partitions = Partitions { asked: (0..COUNT).collect(), count: COUNT };
    let question = Question::message(&raw, &partitions);
    let answer = OfInstance(b).answer(question).await.unwrap();
    let part: Part = serde_json::from_slice(&answer).unwrap();
    assert_eq!((part.tick_count, part.rejection_count), (1, 1));
    assert_eq!(part.elsewhere.len(), 1, "it says that AAPL is another's");
    assert_eq!(net.questions.load(Ordering::Relaxed), 0, "and asks nobody");
}

#[tokio::test]
async fn whoever_reads_a_payload_in_another_way_is_not_believed() {
    let net = Net::of(COUNT);
    let a = net.instance("a", Memory::Of(remembered(&["AAPL"])));
    let other = Records { source: "push:desk".to_owned(), ..Records::default() };
    let decoder = Decoder::new("USD", &[], &[other]).unwrap();
    net.configured("b", Memory::Of(remembered(&["MSFT"])), Reading { decoder, ..reading() });
    net.move_to(Some("b"), "MSFT");
    let body = row("MSFT", "100").replace("price", "last");
    let run = asked(&a, &body, &[("lizards-source", "push:desk")]).await;
    assert_eq!(run.tick_count, 1);
    let why = run.not_asked.unwrap().why;
    assert_eq!(why, "instance b owns their partitions, but finds other events in this payload");
}

#[test]
fn a_question_is_read_back_as_it_was() {
    let headers = [
        ("lizards-source", "file"),
        ("lizards-symbol", "BRK.B"),
        ("lizards-columns", "ts_ms,symbol,price"),
        ("content-type", "text/csv"),
    ];
    let raw = format::read(request("1,IBM,2", &headers).unwrap(), &reading().decoder).unwrap().raw;
    let partitions = Partitions { asked: [0, 3, 14].into(), count: 15 };
    let message = Question::message(&raw, &partitions);
    assert_eq!(message.headers.get("Lizards-Partitions"), Some("0,3,14/15"));
    assert_eq!(Question::read(message).unwrap(), Question { raw: raw.clone(), partitions });
    let refused = |changed: (&str, &str), body: &str| {
        let mut headers = raw.headers();
        headers.push(("Lizards-Partitions", "0/1".to_owned()));
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers = headers.filter(|(name, _)| *name != changed.0).chain([changed]).collect();
        let body = Bytes::copy_from_slice(body.as_bytes());
        Question::read(ServiceRequest { headers, body }).unwrap_err().to_string()
    };
    for asked in ["", "0", "/3", "0,x/3", "0/0", "0/70000"] {
        let said = refused(("Lizards-Partitions", asked), "x");
        assert!(said.starts_with("Lizards-Partitions: names no partitions"), "{said}");
    }
    assert!(refused(("Lizards-Format", "xls"), "x").contains("Lizards-Format"));
    let large = " ".repeat(MAX_CONTENT_BYTES + 1);
    assert_eq!(refused(("x", ""), &large), "content: is too long");
}
