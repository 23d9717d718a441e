//! Symbols that would break a subject, a key or a query go from end to end all the same.

use std::collections::BTreeSet;

use schemas::{ClientMessage, ServerMessage, Subscribe, http};

use crate::{
    eventually::eventually,
    lizards::{Installation, Registry},
    servers::{NatsServer, install_crypto},
    subscriber::{connect, next, send},
};

const ODD: [&str; 10] =
    ["BRK.B", "BTC-USD", "^GSPC", "EUR/USD", "0700.HK", "A B", "*", ">", "Ünïcode株", "_"];

#[tokio::test(flavor = "multi_thread")]
async fn odd_symbols_go_end_to_end() {
    let nats = NatsServer::start().await;
    let mut installation = Installation::at(&nats.url());
    let rows = ODD
        .iter()
        .enumerate()
        .map(|(n, symbol)| format!("{},{symbol},{n}.50,{n},P,0\n", 1_381_152_600_000 + n));
    let file = installation.folder().join("odd.csv");
    let text = format!("{}\n{}", crate::trades::HEADER, rows.collect::<String>());
    std::fs::write(&file, text).expect("the folder is ours");
    installation.set("ingest.sources", "file");
    installation.set("ingest.file.path", file.display());
    installation.set("ingest.file.speed", "max");
    // The last is 9.50; the first, 0.50, is a price too.
    let registry = Registry::at(&nats.url()).await;
    let _processes =
        ["ingest", "process", "provide", "gateway"].map(|role| installation.role(role));
    let provide = registry.address("provide").await;
    install_crypto();
    eventually(std::time::Duration::from_secs(60), "all symbols are known", async || {
        let url = format!("http://{provide}/symbols");
        let known: http::Symbols = reqwest::get(url).await.ok()?.json().await.ok()?;
        (known.symbols.len() == ODD.len()).then_some(())
    })
    .await;

    let mut socket = connect(&registry).await.expect("the gateway tunnels");
    // Each by its own name; a symbol that is called `*` comes with everything.
    let symbols = ODD.iter().map(ToString::to_string).collect();
    let subscribe = Subscribe { symbols, ..Subscribe::default() };
    send(&mut socket, &ClientMessage::Subscribe(subscribe)).await.expect("open");
    let mut missing: BTreeSet<&str> = ODD.into();
    while !missing.is_empty() {
        let data = next(&mut socket, |message| match message {
            ServerMessage::PriceUpdate { data, .. } => Some(data),
            ServerMessage::Error(error) => panic!("{error:?}"),
            _ => None,
        })
        .await;
        for (symbol, update) in data {
            let n = ODD.iter().position(|odd| *odd == symbol).expect("one of ours");
            assert_eq!(update.price.get(), format!("{n}.50"));
            missing.remove(ODD[n]);
        }
    }

    let client = reqwest::Client::new();
    for symbol in ODD {
        let mut url = reqwest::Url::parse(&format!("http://{provide}/quotes/")).expect("a URL");
        url.path_segments_mut().expect("a path").pop_if_empty().push(symbol);
        let tick: schemas::Tick =
            client.get(url).send().await.expect("an answer").json().await.expect("a tick");
        assert_eq!(tick.symbol.as_str(), symbol);
    }
}
