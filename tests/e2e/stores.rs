//! The pipeline with PostgreSQL and MongoDB as its stores.

use std::time::Duration;

use ::mongodb::bson::{Document, doc};

use crate::{
    eventually::eventually,
    lizards::{Installation, Registry},
    servers::{NatsServer, mongodb, postgres},
    trades::Trades,
};

const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_and_mongodb_hold_everything_once() {
    let nats = NatsServer::start().await;
    let database = postgres().await;
    let archive = mongodb().await;
    let mut installation = Installation::at(&nats.url());
    let trades = Trades::from_the_open(3_000).spoil_every(100);
    let file = trades.write(installation.folder());
    installation.set("ingest.sources", "file");
    installation.set("ingest.file.path", file.display());
    installation.set("ingest.file.speed", "max");
    installation.set("ingest.archive.url", &archive.url);
    installation.set("ingest.archive.database", &archive.database);
    installation.set("provide.store.writer_url", &database.writer_url);
    installation.set("provide.store.reader_url", &database.reader_url);
    let mut processes = ["ingest", "process", "provide"].map(|role| installation.role(role));

    let ticks = sqlx::PgPool::connect(&database.admin_url).await.expect("PostgreSQL runs");
    let stored = async || {
        sqlx::query_scalar::<_, i64>("select count(*) from ticks").fetch_one(&ticks).await.ok()
    };
    eventually(PATIENCE, "some ticks are stored", async || stored().await.filter(|n| *n > 100))
        .await;
    // Whoever writes dies in the middle of it, and begins again.
    processes[2].kill().await;
    processes[0].kill().await;
    processes[2].start_again().await;
    processes[0].start_again().await;
    let usable = i64::try_from(trades.usable()).expect("a small number");
    eventually(PATIENCE, "all ticks are stored", async || stored().await.filter(|n| *n == usable))
        .await;
    let price: String = sqlx::query_scalar("select price::text from ticks order by seq limit 1")
        .fetch_one(&ticks)
        .await
        .expect("a tick");
    let first = trades.rows[0].split(',').nth(2).expect("a price");
    assert_eq!(price, first, "every digit is kept");

    let client = ::mongodb::Client::with_uri_str(&archive.url).await.expect("MongoDB runs");
    let raw = client.database(&archive.database).collection::<Document>("raw_ticks");
    let all = trades.rows.len() as u64;
    eventually(PATIENCE, "all payloads are archived", async || {
        let count = raw.count_documents(doc! {}).await.ok()?;
        assert!(count <= all, "{count} payloads of {all}");
        (count == all).then_some(())
    })
    .await;

    // The quotes come from the reader's role.
    let registry = Registry::at(&nats.url()).await;
    let provide = registry.address("provide").await;
    crate::servers::install_crypto();
    let quote = reqwest::get(format!("http://{provide}/quotes/SPY")).await.expect("an answer");
    assert!(quote.status().is_success(), "{}", quote.status());
}
