//! Slow clients, idle clients, and the end.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_closed_and_the_others_get_everything() {
    let config = WebSocketConfig { queue_frames: 200, ..WebSocketConfig::default() };
    let server = Fixture::with(config, Arc::default()).await;
    server.publish("A", "1").await;
    let mut slow = server.client("?symbols=A").await;
    let mut quick = server.client("?symbols=A").await;
    slow.subscribed().await;
    quick.subscribed().await;
    let reading = tokio::spawn(async move {
        let mut count = 0;
        loop {
            let price = quick.price().await;
            count += 1;
            assert_eq!(price.seq, count);
            if price.price == "99" {
                return count;
            }
        }
    });
    // Until the buffers of the slow one's socket are full, and its queue too.
    while server.hub.subscribers() == 2 {
        for _ in 0..50 {
            server.broker.publish("A", "1");
        }
        server.publish("A", "1").await;
    }
    let last = server.publish("A", "99").await;
    let mut prices = Vec::new();
    let (closing, code) = slow.closed(&mut prices).await;
    assert_eq!((closing.reason, code), (schemas::CloseReason::TooSlow, 4008));
    assert_eq!(timeout(PATIENCE, reading).await.unwrap().unwrap(), last);
    assert!((prices.len() as u64) < last);
    assert_eq!(prices, (1..=prices.len() as u64).collect::<Vec<_>>());
    assert_eq!(closing.resume_from, prices.last().copied());
    let mut back = server.client(&format!("?symbols=A&from_seq={}", prices.len())).await;
    back.subscribed().await;
    assert_eq!(back.price().await.seq, prices.len() as u64 + 1);
}

#[tokio::test]
async fn an_idle_connection_hears_a_heartbeat_and_a_dead_one_is_closed() {
    let config = WebSocketConfig { heartbeat_secs: 1, ..WebSocketConfig::default() };
    let server = Fixture::with(config, Arc::default()).await;
    let sequence = server.publish("A", "1").await;
    // Its pongs are never sent, because it is never read.
    let dead = server.client("").await;
    let mut idle = server.client("").await;
    for _ in 0..4 {
        let heard = idle.receive().await;
        assert!(
            matches!(heard, Ok(ServerMessage::Heartbeat { seq }) if seq == sequence),
            "{heard:?}"
        );
    }
    assert_eq!(server.connections.load().load(std::sync::atomic::Ordering::Relaxed), 1);
    drop(dead);
}

#[tokio::test]
async fn at_shutdown_clients_are_told_where_to_go_on() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    let sequence = server.publish("B", "1").await;
    let mut client = server.client("?symbols=A").await;
    client.subscribed().await;
    client.price().await;
    let mut silent = server.client("").await;
    silent.send("ping").await;
    silent.error().await;
    server.shutdown.cancel();
    let (closing, code) = client.closed(&mut Vec::new()).await;
    assert_eq!((closing.reason, code), (schemas::CloseReason::Shutdown, 1001));
    assert_eq!(closing.resume_from, Some(sequence));
    assert!(closing.retry_after_ms >= 100);
    assert_eq!(silent.closed(&mut Vec::new()).await.0.resume_from, None);
    timeout(PATIENCE, server.connections.closed()).await.unwrap();
}

#[tokio::test]
async fn a_stream_made_anew_is_noticed_and_clients_are_told_to_begin_with_it() {
    let server = Fixture::start().await;
    for _ in 0..5 {
        server.publish("A", "1").await;
    }
    // Shorter than it was: nothing comes, and the stream is asked why. Longer: the newest tick seen
    // is not where it was.
    for (count, is_heard) in [(2, false), (9, true)] {
        let mut client = server.client("?symbols=A").await;
        client.subscribed().await;
        client.price().await;
        server.broker.make_anew();
        for _ in 0..count {
            server.broker.publish("A", "2");
        }
        if is_heard {
            server.broker.break_readers();
        }
        let (closing, code) = client.closed(&mut Vec::new()).await;
        assert_eq!((closing.reason, code), (schemas::CloseReason::StreamBreak, 1012));
        assert_eq!(closing.resume_from, Some(0));
        let mut back = server.client("?symbols=A&from_seq=0").await;
        back.subscribed().await;
        assert_eq!(back.sequences(count).await, (1..=count as u64).collect::<Vec<_>>());
        server.publish("A", "3").await;
        assert_eq!(back.sequences(1).await, [count as u64 + 1]);
    }
}

#[tokio::test]
async fn ticks_dropped_before_they_were_seen_are_no_secret() {
    let server = Fixture::start().await;
    let seen = server.publish("A", "1").await;
    let mut client = server.client("?symbols=A").await;
    client.subscribed().await;
    client.price().await;
    for _ in 0..3 {
        server.broker.store_unnoticed("A", "2");
    }
    server.broker.truncate(seen + 2);
    server.broker.break_readers();
    let mut prices = Vec::new();
    let (closing, _) = client.closed(&mut prices).await;
    assert_eq!(closing.reason, schemas::CloseReason::StreamBreak);
    assert_eq!((closing.resume_from, prices), (Some(seen), vec![]));
}

#[tokio::test]
async fn a_client_that_goes_leaves_nothing_behind() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    let mut client = server.client("?symbols=A,*").await;
    client.subscribed().await;
    client.0.close(None).await.unwrap();
    timeout(PATIENCE, server.connections.closed()).await.unwrap();
    assert_eq!(server.hub.subscribers(), 0);
}

#[tokio::test]
async fn a_plain_request_is_told_what_is_missing() {
    let server = Fixture::start().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answer = reqwest::get(format!("http://{}/ws", server.address)).await.unwrap();
    assert!(answer.status().is_client_error());
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
}
