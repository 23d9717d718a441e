//! An instance restarts, and all its clients come back at once.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use schemas::{Decimal, ServerMessage, Source, Symbol, Tick, TickKind, subject};
use tokio::task::JoinSet;
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::{
    eventually::eventually,
    lizards::{Installation, Registry},
    servers::NatsServer,
};

const TICKS: u64 = 3_000;
const CLIENTS: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn tick(number: u64) -> Tick {
    Tick {
        id: format!("test:{number}"),
        symbol: Symbol::new(if number.is_multiple_of(2) { "EVEN" } else { "ODD" }).unwrap(),
        price: Decimal::parse(&number.to_string()).unwrap(),
        size: None,
        currency: "USD".to_owned(),
        exchange: None,
        kind: TickKind::Trade,
        ts: "2024-09-14T12:34:56Z".parse().unwrap(),
        received_at: "2024-09-14T12:34:57Z".parse().unwrap(),
        source: Source::new("file").unwrap(),
        raw_seq: number,
        flags: Vec::new(),
    }
}

/// Everything after `from`, up to the newest, as a client of its own gets it.
async fn resume(address: String, from: u64) -> Vec<u64> {
    let url = format!("ws://{address}/ws?symbols=*&from_seq={from}");
    let (mut socket, _) = connect_async(url).await.unwrap();
    let mut sequences = Vec::new();
    while sequences.last() != Some(&TICKS) {
        let Message::Text(text) = socket.next().await.unwrap().unwrap() else { continue };
        if let ServerMessage::PriceUpdate { data, .. } = ServerMessage::from_json(&text).unwrap() {
            sequences.extend(data.values().map(|update| update.seq));
        }
    }
    sequences
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_that_come_back_are_a_handful_of_consumers() {
    let nats = NatsServer::start().await;
    let installation = Installation::at(&nats.url());
    let registry = Arc::new(Registry::at(&nats.url()).await);
    let mut provide = installation.role("provide");
    registry.address("provide").await;

    let client = async_nats::connect(nats.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client.clone());
    for number in 1..=TICKS {
        let tick = tick(number);
        let body = serde_json::to_vec(&tick).unwrap();
        let stored = jetstream.publish(subject::tick(&tick.symbol), body.into()).await.unwrap();
        if number == TICKS {
            assert_eq!(stored.await.unwrap().sequence, TICKS);
        }
    }
    provide.kill().await;
    eventually(PATIENCE, "the killed one is forgotten", async || {
        registry.instances("provide").is_empty().then_some(())
    })
    .await;
    // What it remembered is gone.
    provide.start_again().await;
    let address = registry.address("provide").await;
    let advisories = "$JS.EVENT.ADVISORY.CONSUMER.CREATED.TICKS.>";
    let mut created = client.subscribe(advisories).await.unwrap();
    client.flush().await.unwrap();

    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let from = TICKS - 100 - number % 100;
        let address = address.clone();
        clients.spawn(async move { (from, resume(address, from).await) });
    }
    while let Some(resumed) = tokio::time::timeout(PATIENCE, clients.join_next()).await.unwrap() {
        let (from, sequences) = resumed.unwrap();
        assert_eq!(sequences, (from + 1..=TICKS).collect::<Vec<_>>(), "from {from}");
    }
    created.unsubscribe().await.unwrap();
    let consumers = created.count().await;
    assert!(consumers <= 5, "{consumers} consumers for {CLIENTS} clients");
}
