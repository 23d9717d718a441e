//! JetStream behind the broker trait.

use std::time::Duration;

use nats::{
    Broker, BrokerError, Exclusivity, JetStream, Nats, NatsConfig, NewMessage, Start,
    topology::{self, Stream, StreamsConfig},
};

use crate::{
    broker_conformance::conformance_tests, eventually::eventually, gate::Gate, servers::NatsServer,
};

async fn connect(url: String, lease_ttl: Duration) -> Nats {
    let config = NatsConfig { url, ..NatsConfig::default() };
    Nats::connect(&config, lease_ttl, 1).await.unwrap()
}

async fn start() -> (NatsServer, JetStream) {
    let server = NatsServer::start().await;
    let nats = connect(server.url(), Duration::from_secs(5)).await;
    let broker = JetStream::new(nats, StreamsConfig::default());
    broker.declare().await.unwrap();
    (server, broker)
}

conformance_tests!(start);

/// An acknowledgement carries the delivery number of the session that sends it, and the successor's
/// numbers are lower. One that arrives after a take-over must not hide the successor's.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_acknowledgement_of_a_predecessor_does_no_harm() {
    const WINDOW: u32 = 8;
    let durable = topology::Durable {
        name: "small",
        stream: Stream::Raw,
        description: "a small window",
        window: WINDOW,
    };
    let (_server, broker) = start().await;
    let mut publisher = broker.publisher(&[Stream::Raw], Exclusivity::Shared).await.unwrap();
    for number in 0..100 {
        let subject = "ticks.raw.sim.A".to_owned();
        let body = number.to_string().into();
        publisher.send(NewMessage { subject, headers: Vec::new(), body }).await.unwrap();
        publisher.confirmed().await.unwrap();
    }
    let mut stalled = broker.consumer(&durable).await.unwrap();
    for sequence in 1..=50 {
        assert_eq!(stalled.next().await.unwrap().sequence, sequence);
        stalled.acknowledge(sequence).await.unwrap();
    }
    assert_eq!(stalled.next().await.unwrap().sequence, 51);
    let mut sessions = vec![broker.consumer(&durable).await.unwrap()];
    tokio::time::sleep(Duration::from_millis(200)).await;
    stalled.acknowledge(51).await.unwrap();
    let mut last = 0;
    let all = async {
        while last < 100 {
            let session = sessions.last_mut().unwrap();
            match session.next().await {
                Ok(message) => {
                    last = last.max(message.sequence);
                    session.acknowledge(message.sequence).await.unwrap();
                }
                Err(BrokerError::Unreachable(_)) => {
                    sessions.push(broker.consumer(&durable).await.unwrap());
                }
                Err(other) => panic!("{other}"),
            }
        }
    };
    // At the latest when the server delivers again.
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("it goes on");
}

/// What is larger than the server takes is refused for good, not a connection to be made anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused() {
    let (_server, broker) = start().await;
    let mut publisher = broker.publisher(&[Stream::Raw], Exclusivity::Shared).await.unwrap();
    let subject = "ticks.raw.sim.A".to_owned();
    // The server's default limit is 1 MiB.
    let body = vec![b'x'; 2 << 20].into();
    let sent = publisher.send(NewMessage { subject, headers: Vec::new(), body }).await;
    assert!(matches!(sent, Err(BrokerError::Refused(_))), "{sent:?}");
}

/// The server sends a reader megabytes ahead. What is renewed each third of a second must not wait
/// behind them: whoever has much to catch up with would lose what it owns, and begin again, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_kept_while_a_reader_has_much_to_read() {
    const MESSAGES: u64 = 250;
    const BODY: usize = 100_000;
    const BYTES_PER_SEC: u32 = 4_000_000;
    const LEASE_TTL: Duration = Duration::from_secs(1);
    let (server, broker) = start().await;
    let mut publisher = broker.publisher(&[Stream::Raw], Exclusivity::Shared).await.unwrap();
    for _ in 0..MESSAGES {
        let subject = "ticks.raw.sim.A".to_owned();
        let body = vec![b'x'; BODY].into();
        publisher.send(NewMessage { subject, headers: Vec::new(), body }).await.unwrap();
        publisher.confirmed().await.unwrap();
    }

    let gate = Gate::slow_to(&server.url(), BYTES_PER_SEC).await;
    let nats = connect(gate.url().to_owned(), LEASE_TTL).await;
    let lease = nats.lease("catching.up", "somebody").await.unwrap();
    let broker = JetStream::new(nats, StreamsConfig::default());
    let mut reader = broker.reader(Stream::Raw, &[], Start::Sequence(1)).await.unwrap();
    for sequence in 1..=MESSAGES {
        assert_eq!(reader.next().await.unwrap().sequence, sequence);
        assert!(!lease.lost().is_cancelled(), "lost while message {sequence} is read");
    }
}

/// The server sends ahead by bytes, the client library drops by number: of small messages there may be
/// very many.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_falls_behind_misses_nothing() {
    const MESSAGES: u64 = 250_000;
    // By then the server sends so much ahead that far more than 65,536 of them wait.
    const READ_BEFORE: u64 = 100_000;
    let (server, broker) = start().await;
    let client = async_nats::connect(server.url()).await.unwrap();
    for sent in 1..=MESSAGES {
        client.publish("ticks.raw.sim.A", "small".into()).await.unwrap();
        // It drops what it is sent faster than it can store.
        if sent % 10_000 == 0 {
            eventually(Duration::from_secs(60), "the messages are stored", async || {
                let stored = broker.state(Stream::Raw).await.ok()?.messages;
                (stored == sent).then_some(())
            })
            .await;
        }
    }
    let mut reader = broker.reader(Stream::Raw, &[], Start::Sequence(1)).await.unwrap();
    for sequence in 1..=MESSAGES {
        if sequence == READ_BEFORE {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(reader.next().await.unwrap().sequence, sequence);
    }
}
