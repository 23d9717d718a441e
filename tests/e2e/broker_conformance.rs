//! What every broker behind the trait does, whichever it is. Each check wants a broker of its own
//! whose streams are declared and empty.

use std::{collections::VecDeque, future::Future, ops::RangeInclusive, time::Duration};

use jiff::Timestamp;
use nats::{
    Broker, BrokerError, Consumer, Exclusivity, Message, NewMessage, Publisher, Reader, Start,
    StreamState,
    topology::{PROCESS, STORE, Stream},
};
use schemas::headers;

/// One test per check. `$start` gives a server that is kept alive meanwhile, and a broker with freshly
/// declared, empty streams.
macro_rules! conformance_tests {
    ($start:path) => {
        conformance_tests!(@each $start:
            a_message_is_stored_as_it_was_sent,
            a_foreign_subject_is_refused,
            a_reader_replays_and_follows,
            a_reader_filters,
            a_consumer_goes_on_after_what_it_acknowledged,
            a_consumer_has_a_window,
            the_newest_consumer_takes_over,
            the_newest_writer_fences_the_older,
            a_busy_writer_is_fenced_at_one_point,
            the_newest_are_found,
            many_messages_stay_in_order,
            declaring_again_is_harmless,
        );
    };
    (@each $start:path: $($check:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $check() {
            let (_server, broker) = $start().await;
            $crate::broker_conformance::$check(&broker).await;
        }
    )*};
}
pub(crate) use conformance_tests;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Symbols whose tokens are not plain letters: `BRK.B`, `EUR/USD`, `^GSPC`.
const TOKENS: [&str; 4] = ["AAPL", "BRK=2EB", "EUR/USD", "=5EGSPC"];

pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} takes longer than {PATIENCE:?}"),
    }
}

/// A tick of a symbol's token, told from all others by its number.
pub(crate) fn tick(token: &str, number: u64) -> NewMessage {
    NewMessage {
        subject: format!("ticks.norm.{token}"),
        headers: vec![
            (headers::MESSAGE_ID, format!("{token}-{number}")),
            (headers::SOURCE, "tëst".to_owned()),
        ],
        body: number.to_string().into(),
    }
}

pub(crate) fn number(message: &Message) -> u64 {
    std::str::from_utf8(&message.body).unwrap().parse().unwrap()
}

/// Publishes all of it, with at most 1,000 in flight.
pub(crate) async fn publish(publisher: &mut dyn Publisher, messages: Vec<NewMessage>) {
    for message in messages {
        within("send", publisher.send(message)).await.unwrap();
        if publisher.in_flight() >= 1_000 {
            within("a receipt", publisher.confirmed()).await.unwrap();
        }
    }
    while publisher.in_flight() > 0 {
        within("a receipt", publisher.confirmed()).await.unwrap();
    }
}

async fn shared(broker: &dyn Broker, stream: Stream) -> Box<dyn Publisher> {
    within("a publisher", broker.publisher(&[stream], Exclusivity::Shared)).await.unwrap()
}

pub(crate) async fn read(reader: &mut dyn Reader, count: usize) -> Vec<Message> {
    let mut messages = Vec::with_capacity(count);
    for _ in 0..count {
        messages.push(within("a message", reader.next()).await.unwrap());
    }
    messages
}

pub(crate) async fn read_all(broker: &dyn Broker, stream: Stream, count: usize) -> Vec<u64> {
    let reader = broker.reader(stream, &[], Start::Sequence(1));
    let mut reader = within("a reader", reader).await.unwrap();
    read(&mut *reader, count).await.iter().map(number).collect()
}

async fn consume(consumer: &mut dyn Consumer, count: usize) -> Vec<Message> {
    let mut messages = Vec::with_capacity(count);
    for _ in 0..count {
        messages.push(within("a message", consumer.next()).await.unwrap());
    }
    messages
}

fn numbers(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(number).collect()
}

/// Subject, headers and body come back as they were sent; sequences grow; receipts count down.
pub(crate) async fn a_message_is_stored_as_it_was_sent(broker: &dyn Broker) {
    let before = Timestamp::now() - Duration::from_secs(1);
    let mut publisher = shared(broker, Stream::Ticks).await;
    let mut bodies: VecDeque<_> =
        [&b""[..], b"{\"price\":\"1.50\"}", b"\0\xff\xfe", &[b'x'; 200_000]].into();
    for (body, token) in bodies.iter().zip(TOKENS) {
        let body = body.to_vec().into();
        publisher.send(NewMessage { body, ..tick(token, 1) }).await.unwrap();
    }
    for left in (0..TOKENS.len()).rev() {
        let receipt = within("a receipt", publisher.confirmed()).await.unwrap();
        assert!(!receipt.duplicate);
        assert_eq!(publisher.in_flight(), left);
    }
    let mut reader = broker.reader(Stream::Ticks, &[], Start::Sequence(1)).await.unwrap();
    let mut last = 0;
    for (message, token) in read(&mut *reader, TOKENS.len()).await.iter().zip(TOKENS) {
        assert_eq!(message.subject, format!("ticks.norm.{token}"));
        assert_eq!(message.body, bodies.pop_front().unwrap());
        assert_eq!(message.header(headers::SOURCE), Some("tëst"));
        assert_eq!(message.header(headers::MESSAGE_ID), Some(&*format!("{token}-1")));
        assert_eq!(message.headers.iter().count(), 2);
        assert!(message.sequence > last);
        assert!(message.stored_at >= before);
        assert!(message.stored_at <= Timestamp::now() + Duration::from_secs(1));
        last = message.sequence;
    }
}

/// A subject of no stream, or of another than the session's, is an error and is stored nowhere.
pub(crate) async fn a_foreign_subject_is_refused(broker: &dyn Broker) {
    for subject in ["orders.AAPL", "candles.1m.AAPL"] {
        let mut publisher = shared(broker, Stream::Ticks).await;
        let message = NewMessage { subject: subject.to_owned(), ..tick("AAPL", 1) };
        let outcome = match publisher.send(message).await {
            Ok(()) => within("a receipt", publisher.confirmed()).await.map(|_| ()),
            refused => refused,
        };
        assert!(outcome.is_err(), "{subject}");
    }
    for stream in Stream::ALL {
        assert_eq!(broker.state(stream).await.unwrap().messages, 0, "{stream}");
    }
}

/// A reader starts at a sequence or a time, then follows live; waiting can be given up.
pub(crate) async fn a_reader_replays_and_follows(broker: &dyn Broker) {
    let mut publisher = shared(broker, Stream::Ticks).await;
    publish(&mut *publisher, (1..=5).map(|n| tick("AAPL", n)).collect()).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    publish(&mut *publisher, (6..=9).map(|n| tick("AAPL", n)).collect()).await;
    let mut all = broker.reader(Stream::Ticks, &[], Start::Sequence(1)).await.unwrap();
    let stored = read(&mut *all, 9).await;
    assert_eq!(numbers(&stored), [1, 2, 3, 4, 5, 6, 7, 8, 9]);

    let from = |start| broker.reader(Stream::Ticks, &[], start);
    let mut from_fourth = from(Start::Sequence(stored[3].sequence)).await.unwrap();
    assert_eq!(numbers(&read(&mut *from_fourth, 6).await), [4, 5, 6, 7, 8, 9]);
    for place in [5, 7] {
        let mut from_time = from(Start::Time(stored[place].stored_at)).await.unwrap();
        let rest: Vec<_> = (place as u64 + 1..=9).collect();
        assert_eq!(numbers(&read(&mut *from_time, rest.len()).await), rest);
    }
    let between = stored[5].stored_at - Duration::from_millis(500);
    let mut from_time = from(Start::Time(between)).await.unwrap();
    assert_eq!(number(&within("a message", from_time.next()).await.unwrap()), 6);

    let mut live = from(Start::Sequence(stored[8].sequence + 1)).await.unwrap();
    let brief = Duration::from_millis(200);
    assert!(tokio::time::timeout(brief, live.next()).await.is_err(), "nothing is there yet");
    publish(&mut *publisher, vec![tick("AAPL", 10)]).await;
    for reader in [&mut live, &mut all, &mut from_fourth, &mut from_time] {
        let mut next = within("a message", reader.next()).await.unwrap();
        while number(&next) < 10 {
            next = within("a message", reader.next()).await.unwrap();
        }
        assert_eq!(number(&next), 10);
    }
}

/// A reader of subjects or patterns gets these and no others.
pub(crate) async fn a_reader_filters(broker: &dyn Broker) {
    let mut publisher = shared(broker, Stream::Raw).await;
    let subjects = ["ticks.raw.sim.AAPL", "ticks.raw.file.AAPL", "ticks.raw.sim.BRK=2EB"];
    for (number, subject) in (1..).zip(subjects) {
        let message = NewMessage { subject: subject.to_owned(), ..tick(subject, number) };
        publish(&mut *publisher, vec![message]).await;
    }
    for (patterns, expected) in [
        (vec!["ticks.raw.sim.*"], vec![1, 3]),
        (vec!["ticks.raw.*.AAPL"], vec![1, 2]),
        (vec!["ticks.raw.sim.BRK=2EB", "ticks.raw.file.>"], vec![2, 3]),
        (vec!["ticks.raw.>"], vec![1, 2, 3]),
    ] {
        let patterns: Vec<_> = patterns.into_iter().map(str::to_owned).collect();
        let reader = broker.reader(Stream::Raw, &patterns, Start::Sequence(1));
        let mut reader = within("a reader", reader).await.unwrap();
        let read = read(&mut *reader, expected.len()).await;
        assert_eq!(numbers(&read), expected, "{patterns:?}");
    }
}

/// A consumer goes on after what it acknowledged, and sees again what it did not.
pub(crate) async fn a_consumer_goes_on_after_what_it_acknowledged(broker: &dyn Broker) {
    let mut publisher = shared(broker, Stream::Ticks).await;
    publish(&mut *publisher, (1..=10).map(|n| tick("AAPL", n)).collect()).await;
    let mut consumer = within("a consumer", broker.consumer(&STORE)).await.unwrap();
    let messages = consume(&mut *consumer, 6).await;
    assert_eq!(numbers(&messages), [1, 2, 3, 4, 5, 6]);
    consumer.acknowledge(messages[3].sequence).await.unwrap();
    drop(consumer);

    let (mut consumer, messages) = resumed(broker, 5..=10).await;
    for message in &messages {
        consumer.acknowledge(message.sequence).await.unwrap();
    }
    // An acknowledgement never takes one back.
    consumer.acknowledge(messages[0].sequence).await.unwrap();
    let brief = Duration::from_millis(200);
    assert!(tokio::time::timeout(brief, consumer.next()).await.is_err(), "nothing is left");
    drop(consumer);

    publish(&mut *publisher, vec![tick("AAPL", 11)]).await;
    resumed(broker, 11..=11).await;
}

/// Opens the consumer where it begins with these ticks. An acknowledgement that has not arrived when
/// the next session is opened is lost; given again, and a little time, it holds.
async fn resumed(
    broker: &dyn Broker,
    expected: RangeInclusive<u64>,
) -> (Box<dyn Consumer>, Vec<Message>) {
    let expected: Vec<_> = expected.collect();
    let resuming = async {
        loop {
            let mut consumer = broker.consumer(&STORE).await.unwrap();
            let messages = consume(&mut *consumer, expected.len()).await;
            if numbers(&messages) == expected {
                return (consumer, messages);
            }
            let before = messages.iter().filter(|message| number(message) < expected[0]);
            let before = before.last().expect("only what was acknowledged comes again");
            consumer.acknowledge(before.sequence).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    within("the acknowledgement", resuming).await
}

/// A consumer gets more than its window as long as it acknowledges, and holds no more unless.
pub(crate) async fn a_consumer_has_a_window(broker: &dyn Broker) {
    let count = u64::from(PROCESS.window) * 2 + 100;
    let mut publisher = shared(broker, Stream::Raw).await;
    let raw = |n| NewMessage { subject: "ticks.raw.sim.AAPL".to_owned(), ..tick("AAPL", n) };
    publish(&mut *publisher, (1..=count).map(raw).collect()).await;
    let mut consumer = within("a consumer", broker.consumer(&PROCESS)).await.unwrap();
    let first = consume(&mut *consumer, PROCESS.window as usize).await;
    let brief = Duration::from_millis(300);
    assert!(tokio::time::timeout(brief, consumer.next()).await.is_err(), "the window is full");
    consumer.acknowledge(first[first.len() - 1].sequence).await.unwrap();
    for expected in u64::from(PROCESS.window) + 1..=count {
        let message = within("a message", consumer.next()).await.unwrap();
        assert_eq!(number(&message), expected);
        if expected % 100 == 0 {
            consumer.acknowledge(message.sequence).await.unwrap();
        }
    }
}

/// Whoever opens a consumer last has it; the one before gets no new message.
pub(crate) async fn the_newest_consumer_takes_over(broker: &dyn Broker) {
    let mut publisher = shared(broker, Stream::Ticks).await;
    publish(&mut *publisher, (1..=3).map(|n| tick("AAPL", n)).collect()).await;
    let mut older = within("a consumer", broker.consumer(&STORE)).await.unwrap();
    let messages = consume(&mut *older, 3).await;
    older.acknowledge(messages[0].sequence).await.unwrap();
    // The acknowledgement is on its way when `next` has been polled.
    let brief = Duration::from_millis(300);
    assert!(tokio::time::timeout(brief, older.next()).await.is_err(), "nothing is left");

    let mut newer = within("a consumer", broker.consumer(&STORE)).await.unwrap();
    assert_eq!(numbers(&consume(&mut *newer, 2).await), [2, 3]);
    publish(&mut *publisher, vec![tick("AAPL", 4)]).await;
    assert_eq!(numbers(&consume(&mut *newer, 1).await), [4]);
    let outcome = within("the end of the older", older.next()).await;
    assert!(matches!(outcome, Err(BrokerError::TakenOver("store"))), "{outcome:?}");
    // The other durables of the stream are nobody's business.
    let mut other = within("a consumer", broker.consumer(&PROCESS)).await.unwrap();
    publish(&mut *publisher, vec![tick("AAPL", 5)]).await;
    assert_eq!(numbers(&consume(&mut *newer, 1).await), [5]);
    let nothing = tokio::time::timeout(brief, other.next()).await;
    assert!(nothing.is_err(), "raw has no messages");
}

/// Whoever opened last writes alone, and an idle older session learns of it when it writes.
pub(crate) async fn the_newest_writer_fences_the_older(broker: &dyn Broker) {
    const OWN: [Stream; 3] = [Stream::Ticks, Stream::Rejected, Stream::Candles];
    let exclusive = || broker.publisher(&OWN, Exclusivity::Exclusive);
    let mut older = within("a publisher", exclusive()).await.unwrap();
    publish(&mut *older, (1..=3).map(|n| tick("AAPL", n)).collect()).await;
    let mut newer = within("a publisher", exclusive()).await.unwrap();
    publish(&mut *newer, vec![tick("AAPL", 4)]).await;
    let mut refused = older.send(tick("AAPL", 100)).await;
    while refused.is_ok() && older.in_flight() > 0 {
        refused = within("the end of the older", older.confirmed()).await.map(|_| ());
    }
    assert!(matches!(refused, Err(BrokerError::Fenced(Stream::Ticks))), "{refused:?}");
    publish(&mut *newer, vec![tick("AAPL", 5)]).await;
    assert_eq!(read_all(broker, Stream::Ticks, 5).await, [1, 2, 3, 4, 5]);
    assert_eq!(broker.state(Stream::Ticks).await.unwrap().messages, 5);
}

/// An older session that is busy writing when the newer opens: what is stored of it is a prefix,
/// and all before the first message of the newer.
pub(crate) async fn a_busy_writer_is_fenced_at_one_point(broker: &dyn Broker) {
    const COUNT: u64 = 20_000;
    const NEWER: u64 = 1_000_000;
    let exclusive = || broker.publisher(&[Stream::Ticks], Exclusivity::Exclusive);
    let mut older = within("a publisher", exclusive()).await.unwrap();
    let busy = async {
        for number in 1..=COUNT {
            older.send(tick("AAPL", number)).await?;
            if older.in_flight() >= 500 {
                older.confirmed().await?;
            }
        }
        while older.in_flight() > 0 {
            older.confirmed().await?;
        }
        Ok(())
    };
    let take_over = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        loop {
            // A broker may count the older's last messages against the newer, until the newer has
            // stored its first.
            let mut newer = within("a publisher", exclusive()).await.unwrap();
            newer.send(tick("AAPL", NEWER)).await.unwrap();
            match within("a receipt", newer.confirmed()).await {
                Ok(_) => return newer,
                Err(BrokerError::Fenced(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let (fenced, mut newer): (Result<(), BrokerError>, _) = tokio::join!(busy, take_over);
    // A broker may also let the newer wait until the older is idle.
    let all = match fenced {
        Ok(()) => true,
        Err(BrokerError::Fenced(Stream::Ticks)) => false,
        Err(error) => panic!("{error}"),
    };
    publish(&mut *newer, vec![tick("AAPL", NEWER + 1)]).await;
    let StreamState { messages, .. } = broker.state(Stream::Ticks).await.unwrap();
    let stored = read_all(broker, Stream::Ticks, messages as usize).await;
    let prefix = stored.iter().position(|number| *number == NEWER).unwrap();
    assert!(prefix > 0, "the older was busy");
    assert_eq!(prefix == COUNT as usize, all, "{prefix}");
    assert_eq!(stored[..prefix], (1..=prefix as u64).collect::<Vec<_>>());
    assert_eq!(stored[prefix..], [NEWER, NEWER + 1]);
}

/// The newest of each subject, the newest of a pattern, and the bounds.
pub(crate) async fn the_newest_are_found(broker: &dyn Broker) {
    assert_eq!(broker.last(Stream::Ticks, "ticks.norm.*").await.unwrap(), None);
    let (state, newest) = broker.newest_per_subject(Stream::Ticks).await.unwrap();
    assert_eq!((state.messages, newest.len()), (0, 0));
    assert_eq!(broker.state(Stream::Ticks).await.unwrap().last_sequence, 0);

    let mut publisher = shared(broker, Stream::Ticks).await;
    publish(&mut *publisher, vec![tick("MSFT", 1)]).await;
    // Questions leave no trace between messages that anybody could see.
    assert_eq!(broker.state(Stream::Ticks).await.unwrap().messages, 1);
    let more = (0..200).flat_map(|round| TOKENS.map(|token| tick(token, round))).collect();
    publish(&mut *publisher, more).await;
    let (state, newest) = within("newest", broker.newest_per_subject(Stream::Ticks)).await.unwrap();
    let found: Vec<_> = newest.iter().map(|m| (m.subject.clone(), number(m))).collect();
    let expected: Vec<_> = [("MSFT", 1)]
        .into_iter()
        .chain(TOKENS.map(|token| (token, 199)))
        .map(|(token, number)| (format!("ticks.norm.{token}"), number))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(state, broker.state(Stream::Ticks).await.unwrap());
    assert_eq!(state.messages, 801);
    assert_eq!(state.first_sequence, newest[0].sequence);
    assert_eq!(state.last_sequence, newest[4].sequence);

    for (pattern, expected) in [
        ("ticks.norm.BRK=2EB", Some(("BRK=2EB", 199))),
        ("ticks.norm.EUR/USD", Some(("EUR/USD", 199))),
        ("ticks.norm.MSFT", Some(("MSFT", 1))),
        ("ticks.norm.*", Some(("=5EGSPC", 199))),
        ("ticks.norm.NONE", None),
    ] {
        let last = within("last", broker.last(Stream::Ticks, pattern)).await.unwrap();
        let found = last.map(|message| (message.subject.clone(), number(&message)));
        let expected = expected.map(|(token, number)| (format!("ticks.norm.{token}"), number));
        assert_eq!(found, expected, "{pattern}");
    }
    // A reader from there misses none.
    let start = Start::Sequence(state.last_sequence + 1);
    let mut reader = broker.reader(Stream::Ticks, &[], start).await.unwrap();
    publish(&mut *publisher, vec![tick("AAPL", 200)]).await;
    assert_eq!(numbers(&read(&mut *reader, 1).await), [200]);
}

/// Twenty thousand messages are all there, once, in order.
pub(crate) async fn many_messages_stay_in_order(broker: &dyn Broker) {
    const COUNT: u64 = 20_000;
    let mut publisher = shared(broker, Stream::Ticks).await;
    let messages = (1..=COUNT).map(|n| tick(TOKENS[n as usize % TOKENS.len()], n)).collect();
    let start = std::time::Instant::now();
    publish(&mut *publisher, messages).await;
    println!(
        "{:.0} messages/s published with receipts",
        COUNT as f64 / start.elapsed().as_secs_f64()
    );
    let start = std::time::Instant::now();
    let numbers = read_all(broker, Stream::Ticks, COUNT as usize).await;
    println!("{:.0} messages/s read", COUNT as f64 / start.elapsed().as_secs_f64());
    assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>());
    assert_eq!(broker.state(Stream::Ticks).await.unwrap().messages, COUNT);
}

/// Declaring what is there changes nothing.
pub(crate) async fn declaring_again_is_harmless(broker: &dyn Broker) {
    let mut publisher = shared(broker, Stream::Ticks).await;
    publish(&mut *publisher, vec![tick("AAPL", 1)]).await;
    broker.declare().await.unwrap();
    publish(&mut *publisher, vec![tick("AAPL", 2)]).await;
    assert_eq!(read_all(broker, Stream::Ticks, 2).await, [1, 2]);
}
