//! RabbitMQ as the broker, against a real server.

use std::time::Duration;

use nats::{
    Broker, BrokerError, Exclusivity, RabbitMq, RabbitMqConfig,
    topology::{STORE, Stream, StreamsConfig},
};

use crate::{
    broker_conformance::{
        self as conformance, conformance_tests, number, publish, read_all, tick, within,
    },
    gate::Gate,
    servers::{VirtualHost, rabbitmq},
};

async fn open(url: &str) -> RabbitMq {
    connect(url).await.unwrap()
}

async fn connect(url: &str) -> Result<RabbitMq, BrokerError> {
    let config = RabbitMqConfig { url: url.to_owned() };
    within("connect", RabbitMq::connect(&config, StreamsConfig::default())).await
}

async fn start() -> (VirtualHost, RabbitMq) {
    let host = rabbitmq().await;
    let broker = open(&host.url).await;
    within("declare", broker.declare()).await.unwrap();
    (host, broker)
}

conformance_tests!(start);

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_ends_its_sessions_and_loses_nothing() {
    let host = rabbitmq().await;
    let broker = open(&host.url).await;
    broker.declare().await.unwrap();
    let mut gate = Gate::open_to(&host.url).await;
    let far = open(gate.url()).await;

    let mut publisher = far.publisher(&[Stream::Ticks], Exclusivity::Exclusive).await.unwrap();
    publish(&mut *publisher, (1..=100).map(|n| tick("AAPL", n)).collect()).await;
    let mut consumer = far.consumer(&STORE).await.unwrap();
    let mut sequence = 0;
    for expected in 1..=60 {
        let message = within("a message", consumer.next()).await.unwrap();
        assert_eq!(number(&message), expected);
        if expected <= 50 {
            sequence = message.sequence;
            consumer.acknowledge(sequence).await.unwrap();
        }
    }
    // The acknowledgements are confirmed while the consumer waits for more than there is.
    let rest = async { while consumer.next().await.is_ok() {} };
    assert!(tokio::time::timeout(Duration::from_millis(500), rest).await.is_err());
    for number in 101..=150 {
        publisher.send(tick("AAPL", number)).await.unwrap();
    }
    gate.shut().await;
    let unreachable = |error| matches!(error, BrokerError::Unreachable(_));
    let ended = async {
        loop {
            if let Err(error) = consumer.next().await {
                return error;
            }
        }
    };
    assert!(unreachable(within("the end", ended).await));
    let ended = async {
        loop {
            if let Err(error) = publisher.confirmed().await {
                return error;
            }
        }
    };
    assert!(unreachable(within("the end", ended).await));

    // What is stored of the session is a prefix; whoever comes next goes on after it.
    let mut newer = broker.publisher(&[Stream::Ticks], Exclusivity::Exclusive).await.unwrap();
    let stored = broker.state(Stream::Ticks).await.unwrap().messages;
    assert!((100..=150).contains(&stored), "{stored}");
    publish(&mut *newer, (stored + 1..=200).map(|n| tick("AAPL", n)).collect()).await;
    let all: Vec<_> = (1..=200).collect();
    assert_eq!(read_all(&broker, Stream::Ticks, 200).await, all);
    let mut consumer = within("a consumer", broker.consumer(&STORE)).await.unwrap();
    for expected in 51..=200 {
        let message = within("a message", consumer.next()).await.unwrap();
        assert_eq!(number(&message), expected);
        assert!(message.sequence > sequence);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_was_taken_over_cannot_turn_the_position_back() {
    let host = rabbitmq().await;
    let broker = open(&host.url).await;
    broker.declare().await.unwrap();
    let mut publisher = broker.publisher(&[Stream::Ticks], Exclusivity::Shared).await.unwrap();
    publish(&mut *publisher, (1..=10).map(|n| tick("AAPL", n)).collect()).await;
    let mut older = broker.consumer(&STORE).await.unwrap();
    let first = older.next().await.unwrap();
    let mut newer = broker.consumer(&STORE).await.unwrap();
    for _ in 1..=8 {
        let message = within("a message", newer.next()).await.unwrap();
        newer.acknowledge(message.sequence).await.unwrap();
    }
    // The older sends its position all the same, and nobody takes it.
    older.acknowledge(first.sequence).await.unwrap();
    let outcome = within("the end of the older", older.next()).await;
    assert!(matches!(outcome, Err(BrokerError::TakenOver("store"))), "{outcome:?}");
    drop((older, newer));
    let mut consumer = within("a consumer", broker.consumer(&STORE)).await.unwrap();
    assert_eq!(number(&within("a message", consumer.next()).await.unwrap()), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_openings_at_once_one_writer_remains() {
    let host = rabbitmq().await;
    let broker = open(&host.url).await;
    broker.declare().await.unwrap();
    let open = || broker.publisher(&[Stream::Ticks, Stream::Rejected], Exclusivity::Exclusive);
    let (a, b, c) = tokio::join!(open(), open(), open());
    let mut writers = 0;
    for (number, session) in (1..).zip([a, b, c]) {
        let mut session = session.unwrap();
        session.send(tick("AAPL", number)).await.unwrap();
        match within("a receipt", session.confirmed()).await {
            Ok(_) => writers += 1,
            Err(BrokerError::Fenced(Stream::Ticks)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(writers, 1);
    assert_eq!(broker.state(Stream::Ticks).await.unwrap().messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused_or_unreachable() {
    let host = rabbitmq().await;
    let broker = open(&host.url).await;
    let refused = |error| matches!(error, BrokerError::Refused(_));
    let publisher = broker.publisher(&[Stream::Ticks], Exclusivity::Shared).await;
    assert!(refused(publisher.err().unwrap()), "the streams are not declared");
    assert!(refused(broker.state(Stream::Ticks).await.unwrap_err()));

    let wrong_password = host.url.replace("guest:guest", "guest:wrong-secret");
    let error = connect(&wrong_password).await.err().unwrap();
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
    assert!(refused(error));
    let error = connect("http://guest:secret@somewhere").await.err().unwrap();
    assert!(!error.to_string().contains("secret"), "{error}");
    assert!(refused(error));
    let nobody = connect("amqp://guest:guest@127.0.0.1:1/%2f").await.err().unwrap();
    assert!(matches!(nobody, BrokerError::Unreachable(_)), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_limits_leave_a_stream_as_it_is() {
    let host = rabbitmq().await;
    let broker = open(&host.url).await;
    broker.declare().await.unwrap();
    let config = RabbitMqConfig { url: host.url.clone() };
    let limits = StreamsConfig { ticks_max_mib: 64, ..StreamsConfig::default() };
    let changed = RabbitMq::connect(&config, limits).await.unwrap();
    within("declare", changed.declare()).await.unwrap();
    conformance::declaring_again_is_harmless(&changed).await;
}
