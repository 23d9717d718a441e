//! The quota of an account is kept whoever takes of it: instances that are killed and come back, and
//! several together.

use std::time::{Duration, Instant};

use crate::sharing::House;

/// How many requests there were in any time of this length, at most.
fn most_within(times: &[Instant], length: Duration) -> usize {
    let within = |from: &Instant| {
        times.iter().filter(|at| **at >= *from && at.duration_since(*from) < length).count()
    };
    times.iter().map(within).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_day_has_more_than_the_account_has() {
    const DAY: usize = 16;
    let mut house = House::start().await;
    house.installation.set("ingest.alphavantage.requests_per_day", DAY);
    house.join("a");
    house.provider.asked(3).await;
    house.crash("a").await;
    house.provider.asked(6).await;
    house.join("b");
    house.shared(&[("a", 4), ("b", 4)]).await;
    for name in ["a", "b"] {
        house.crash(name).await;
    }
    house.shared(&[("a", 4), ("b", 4)]).await;
    // Each killed one may have had reserved a request that it did not send.
    house.provider.asked(DAY - 3).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    house.crash("b").await;
    house.shared(&[("a", 4), ("b", 4)]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = house.provider.times().len();
    assert!(asked <= DAY, "{asked} requests");
    let quotas = house.registry.nats.quotas().await.unwrap().entries().await.unwrap();
    let keys: Vec<_> = quotas.iter().map(|(key, _, _)| key.as_str()).collect();
    assert!(matches!(keys[..], [key] if key.starts_with("alphavantage.")), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_minute_has_more_than_the_account_has_and_nobody_waits_for_what_nobody_took() {
    const MINUTE: usize = 12;
    let mut house = House::start().await;
    house.installation.set("ingest.alphavantage.requests_per_minute", MINUTE);
    house.join("a");
    house.provider.asked(2).await;
    house.crash("a").await;
    let crashed = Instant::now();
    house.provider.asked(4).await;
    assert!(crashed.elapsed() < Duration::from_secs(40), "after {:?}", crashed.elapsed());
    house.join("b");
    house.shared(&[("a", 4), ("b", 4)]).await;
    house.crash("b").await;
    house.shared(&[("a", 4), ("b", 4)]).await;
    let begun = house.provider.times()[0];
    tokio::time::sleep_until((begun + Duration::from_secs(100)).into()).await;
    let times = house.provider.times();
    let most = most_within(&times, Duration::from_secs(60));
    assert!(most <= MINUTE, "{most} requests in a minute");
    assert!(times.len() > MINUTE, "{} requests", times.len());
}
