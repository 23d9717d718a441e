//! Resuming and replaying: without a hole or a double, whatever happens at the same time.

use super::*;

/// Every update of each symbol follows the one before it: nothing missing, doubled or swapped.
fn assert_chained(prices: &[Price]) {
    let mut last = std::collections::HashMap::new();
    for price in prices {
        if let Some(last) = last.insert(&price.symbol, price.seq) {
            assert_eq!(price.prev, last, "{price:?}");
        }
    }
}

#[tokio::test]
async fn everything_kept_then_live() {
    let broker = Arc::<MemoryBroker>::default();
    for symbol in ["A", "B", "A", "A"] {
        broker.publish(symbol, "1");
    }
    let server = Fixture::with(WebSocketConfig::default(), broker).await;
    let mut client = server.client("?symbols=A&from_seq=0").await;
    assert_eq!(client.subscribed().await, ["A"]);
    let mut prices = Vec::new();
    for _ in 0..3 {
        prices.push(client.price().await);
    }
    server.publish("A", "1").await;
    prices.push(client.price().await);
    assert_eq!(prices.iter().map(|price| price.seq).collect::<Vec<_>>(), [1, 3, 4, 5]);
    assert_eq!(prices.iter().map(|price| price.prev).collect::<Vec<_>>(), [0, 1, 3, 4]);
    client.is_quiet().await;
}

#[tokio::test]
async fn the_first_replayed_tick_knows_the_one_before_it() {
    let broker = Arc::<MemoryBroker>::default();
    for symbol in ["A", "A", "B", "B", "A", "A"] {
        broker.publish(symbol, "1");
    }
    // From the stream, and from memory.
    let server = Fixture::with(WebSocketConfig::default(), broker).await;
    let mut client = server.client("?symbols=A&from_seq=4").await;
    client.subscribed().await;
    let price = client.price().await;
    assert_eq!((price.seq, price.prev), (5, 2));
    for symbol in ["A", "B", "A"] {
        server.publish(symbol, "1").await;
    }
    let mut client = server.client("?symbols=A&from_seq=8").await;
    client.subscribed().await;
    let price = client.price().await;
    assert_eq!((price.seq, price.prev), (9, 7));
}

#[tokio::test]
async fn from_a_time_on() {
    let broker = Arc::<MemoryBroker>::default();
    for _ in 0..4 {
        broker.publish("A", "1");
    }
    let server = Fixture::with(WebSocketConfig::default(), broker).await;
    // The test stream stores one message a second.
    let time = jiff::Timestamp::from_second(1_700_000_003).unwrap();
    let mut client = server.client(&format!("?symbols=A&from_time={time}")).await;
    client.subscribed().await;
    server.broker.publish("A", "1");
    assert_eq!(client.sequences(3).await, [3, 4, 5]);
    // Nothing is stored from that time on: live at once.
    let later = jiff::Timestamp::from_second(1_700_000_009).unwrap();
    let mut client = server.client(&format!("?symbols=A&from_time={later}")).await;
    client.subscribed().await;
    client.is_quiet().await;
    server.publish("A", "1").await;
    assert_eq!(client.price().await.seq, 6);
}

#[tokio::test]
async fn missing_history_is_said_aloud() {
    let broker = Arc::<MemoryBroker>::default();
    for _ in 0..9 {
        broker.publish("A", "1");
    }
    broker.truncate(6);
    let server = Fixture::with(WebSocketConfig::default(), broker).await;
    for (start, is_truncated) in [
        ("from_seq=2", true),
        ("from_seq=4", true),
        ("from_seq=5", false),
        ("from_seq=0", false),
        ("from_time=2023-11-14T00:00:00Z", true),
        ("from_time=2023-11-14T22:13:26Z", false),
    ] {
        let mut client = server.client(&format!("?symbols=A&{start}")).await;
        client.subscribed().await;
        if is_truncated {
            assert_eq!(client.error().await.code, ErrorCode::HistoryTruncated, "{start}");
        }
        assert_eq!(client.sequences(4).await, [6, 7, 8, 9], "{start}");
    }
}

#[tokio::test]
async fn a_start_that_does_not_exist_yet_is_said_aloud() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    let mut client = server.client(&format!("?symbols=A&from_seq={}", u64::MAX)).await;
    client.subscribed().await;
    assert_eq!(client.error().await.code, ErrorCode::InvalidMessage);
    let sequence = server.publish("A", "1").await;
    assert_eq!(client.price().await.seq, sequence);
}

#[tokio::test]
async fn an_expired_newest_tick_holds_nothing_up() {
    let server = Fixture::start().await;
    for symbol in ["A", "B"] {
        server.publish(symbol, "1").await;
    }
    server.broker.truncate(2);
    let mut client = server.client("?symbols=A&from_seq=0").await;
    client.subscribed().await;
    let mut seen = vec![client.price().await.seq];
    let sequence = server.publish("A", "1").await;
    seen.push(client.price().await.seq);
    assert_eq!(seen, [1, sequence], "the hub's memory still has it");
}

#[tokio::test]
async fn the_newest_request_for_a_symbol_counts() {
    let broker = Arc::<MemoryBroker>::default();
    for symbol in ["A", "B", "A", "B"] {
        broker.publish(symbol, "1");
    }
    let server = Fixture::with(WebSocketConfig::default(), broker).await;
    let mut client = server.client("?symbols=*").await;
    client.subscribed().await;
    assert_eq!(client.sequences(2).await, [3, 4]);
    client.send(r#"{"type":"subscribe","symbols":["A"],"from_seq":0}"#).await;
    assert_eq!(client.subscribed().await, ["*", "A"]);
    assert_eq!(client.sequences(2).await, [1, 3]);
    for symbol in ["A", "B"] {
        server.publish(symbol, "1").await;
    }
    assert_eq!(client.sequences(2).await, [5, 6]);
    client.is_quiet().await;
}

#[tokio::test]
async fn a_symbol_can_leave_a_replay() {
    let broker = Arc::<MemoryBroker>::default();
    for _ in 0..2_000 {
        broker.publish("A", "1");
    }
    broker.publish("B", "1");
    let server = Fixture::with(WebSocketConfig::default(), broker).await;
    let mut client = server.client("?symbols=A,B&from_seq=0").await;
    client.send(r#"{"type":"unsubscribe","symbols":["A"]}"#).await;
    // The replay may have come to B before it heard of that.
    let mut has_b = false;
    loop {
        match client.receive().await.unwrap() {
            ServerMessage::Subscribed(subscribed) if subscribed.symbols == ["B"] => break,
            ServerMessage::Subscribed(_) => {}
            ServerMessage::PriceUpdate { data, .. } => has_b |= data.contains_key("B"),
            other => panic!("{other:?}"),
        }
    }
    if !has_b {
        assert_eq!(client.price().await.symbol, "B");
    }
    server.publish("A", "1").await;
    server.publish("B", "1").await;
    assert_eq!(client.price().await.symbol, "B");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hole_and_no_double_under_fire() {
    under_fire(WebSocketConfig { queue_frames: 50_000, ..WebSocketConfig::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_without_io_uring_and_with_long_holds() {
    let config = WebSocketConfig { io_uring: false, coalesce_ms: 20, ..WebSocketConfig::default() };
    under_fire(WebSocketConfig { queue_frames: 50_000, ..config }).await;
}

/// Clients join at every moment of a fast stream whose readers break now and then.
async fn under_fire(config: WebSocketConfig) {
    const BEFORE: u64 = 8_000;
    const DURING: u64 = 6_000;
    const SYMBOLS: [&str; 4] = ["A", "B", "BTC-EUR", "BTC-USD"];
    let broker = Arc::<MemoryBroker>::default();
    let symbol = |at: u64| SYMBOLS[(at % 7 % 4) as usize];
    for at in 1..=BEFORE {
        broker.publish(symbol(at), "1");
    }
    let server = Fixture::with(config, broker).await;
    let publishing = tokio::spawn({
        let broker = Arc::clone(&server.broker);
        async move {
            for at in BEFORE + 1..=BEFORE + DURING {
                broker.publish(symbol(at), "1");
                if at % 5 == 0 {
                    tokio::time::sleep(Duration::from_micros(50)).await;
                }
                if at % 1_500 == 0 {
                    broker.break_readers();
                }
            }
        }
    });
    let mut clients = Vec::new();
    for number in 0..24u64 {
        let from = match number % 4 {
            0 => 0,
            1 => BEFORE - number * 100,
            // The newest there is, from memory.
            2 => server.hub.last_sequence().saturating_sub(number * 10),
            _ => server.hub.last_sequence(),
        };
        let (name, matches): (&str, fn(&str) -> bool) = match number % 3 {
            0 => ("*", |_| true),
            1 => ("BTC-*", |symbol| symbol.starts_with("BTC-")),
            _ => ("A,B", |symbol| symbol.len() == 1),
        };
        let mut client = server.client(&format!("?symbols={name}&from_seq={from}")).await;
        let expected: Vec<u64> =
            (from + 1..=BEFORE + DURING).filter(|at| matches(symbol(*at))).collect();
        clients.push(tokio::spawn(async move {
            client.subscribed().await;
            let mut prices = Vec::new();
            while prices.len() < expected.len() {
                prices.push(client.price().await);
            }
            assert_chained(&prices);
            let sequences: HashSet<_> = prices.iter().map(|price| price.seq).collect();
            assert!(expected.iter().all(|at| sequences.contains(at)), "from {from} {name}");
            client.is_quiet().await;
        }));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    publishing.await.unwrap();
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn the_past_is_played_at_its_pace_and_then_it_is_live() {
    let broker = Arc::<MemoryBroker>::default();
    for symbol in ["A", "B", "A", "A"] {
        broker.publish(symbol, "1");
    }
    let server = Fixture::with(WebSocketConfig::default(), broker).await;
    // The test stream stores one message a second, from November 2023 on.
    let mut client = server.client("?symbols=A&from_seq=0&speed=10").await;
    client.subscribed().await;
    let begun = std::time::Instant::now();
    for (seq, prev, due) in [(1, 0, 0), (3, 1, 200), (4, 3, 300)] {
        match client.receive().await {
            Ok(ServerMessage::PriceUpdate { replay: true, data }) => {
                assert_eq!((data["A"].seq, data["A"].prev), (seq, prev));
            }
            other => panic!("not replayed but {other:?}"),
        }
        assert!(begun.elapsed() >= Duration::from_millis(due), "{seq} came early");
    }
    // What is stored while it plays is part of it.
    server.publish("A", "1").await;
    match client.receive().await {
        Ok(ServerMessage::PriceUpdate { replay: true, data }) => assert_eq!(data["A"].seq, 5),
        other => panic!("not replayed but {other:?}"),
    }
    for text in [
        r#"{"type":"subscribe","symbols":["A"],"speed":60}"#,
        r#"{"type":"subscribe","symbols":["A"],"from_seq":1,"speed":0}"#,
    ] {
        client.send(text).await;
        let error = client.error().await;
        assert!(error.message.starts_with("speed: "), "{}", error.message);
    }
}

#[tokio::test]
async fn a_replay_that_reaches_the_present_goes_on_live() {
    let broker = Arc::<MemoryBroker>::default();
    broker.keep_time();
    for _ in 0..3 {
        broker.publish("A", "1");
    }
    let server = Fixture::with(WebSocketConfig::default(), broker).await;
    let mut client = server.client("?symbols=A&from_seq=0&speed=10000").await;
    client.subscribed().await;
    let mut replayed = Vec::new();
    loop {
        let sequence = server.publish("A", "1").await;
        let mut newest = 0;
        while newest < sequence {
            let Ok(ServerMessage::PriceUpdate { replay, data }) = client.receive().await else {
                panic!("no price")
            };
            newest = data["A"].seq;
            replayed.push((newest, replay));
        }
        if !replayed.last().unwrap().1 {
            break;
        }
    }
    let sequences: Vec<_> = replayed.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    assert!(replayed[0].1, "it began in the past");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_come_back_at_once_share_a_reader_and_all_get_everything() {
    let broker = Arc::<MemoryBroker>::default();
    // The hub has just started and remembers nothing.
    for _ in 0..600 {
        broker.publish("A", "1");
    }
    let server = Fixture::with(WebSocketConfig::default(), broker).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..150 {
        let mut client = server.client("?symbols=A&from_seq=100").await;
        clients.spawn(async move {
            client.subscribed().await;
            let mut prices = Vec::new();
            for _ in 0..500 {
                prices.push(client.price().await);
            }
            assert_eq!((prices[0].seq, prices[0].prev, prices[499].seq), (101, 100, 600));
            assert_chained(&prices);
        });
    }
    clients.join_all().await;
    // One is the hub's own, the other read the page for all of them.
    let readers = server.broker.readers.lock().unwrap();
    assert_eq!((readers.open, readers.opened), (1, 2));
}

#[tokio::test]
async fn from_far_behind_only_its_own_symbols_are_read_up_to_the_shared_pages() {
    let broker = Arc::<MemoryBroker>::default();
    for at in 0..60_000 {
        broker.publish(if at % 20_000 == 0 { "A" } else { "B" }, "1");
    }
    let server = Fixture::with(WebSocketConfig::default(), broker).await;
    let mut client = server.client("?symbols=A&from_seq=0").await;
    client.subscribed().await;
    let mut prices = Vec::new();
    for _ in 0..3 {
        prices.push(client.price().await);
    }
    server.publish("A", "1").await;
    prices.push(client.price().await);
    assert_eq!(prices.iter().map(|it| it.seq).collect::<Vec<_>>(), [1, 20_001, 40_001, 60_001]);
    assert_chained(&prices);
}
