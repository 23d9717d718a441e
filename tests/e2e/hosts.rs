//! Several sites of one host are asked politely, one after the other, whichever instances of ingest
//! there are.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::Path,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use schemas::subject;
use serde_json::json;

use crate::{
    eventually::eventually,
    live::serve,
    lizards::{Installation, Registry},
    servers::{NatsServer, install_crypto},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// The pause after a request, as configured, and as its robots.txt wants it.
const DELAY: Duration = Duration::from_millis(300);
const CRAWL_DELAY: Duration = Duration::from_secs(1);

/// A host that says when it was asked for what, and when it had answered.
#[derive(Clone, Default)]
struct Host(Arc<Mutex<Vec<Visit>>>);

struct Visit {
    page: String,
    began: Instant,
    ended: Option<Instant>,
}

impl Host {
    async fn answer(&self, page: String) -> Response {
        let number = {
            let mut visits = self.0.lock().unwrap();
            visits.push(Visit { page: page.clone(), began: Instant::now(), ended: None });
            visits.len()
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.0.lock().unwrap()[number - 1].ended = Some(Instant::now());
        match page.as_str() {
            "robots.txt" => "User-agent: *\nCrawl-delay: 1\n".into_response(),
            _ => Html(format!("<b id=IBM>{number}.5</b>")).into_response(),
        }
    }

    fn count(&self, page: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|visit| visit.page == page).count()
    }

    /// Waits until both pages were asked for several times more.
    async fn progress(&self) {
        let before = ["one", "two"].map(|page| self.count(page));
        eventually(PATIENCE, "both pages are asked for", async || {
            let now = ["one", "two"].map(|page| self.count(page));
            now.iter().zip(before).all(|(now, before)| *now >= before + 3).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sites_of_a_host_have_one_owner_who_asks_for_one_page_at_a_time() {
    install_crypto();
    let host = Host::default();
    let answering = host.clone();
    let router = Router::new().route(
        "/{page}",
        get(move |Path(page): Path<String>| async move { answering.answer(page).await }),
    );
    let (nats, address) = (NatsServer::start().await, serve(router).await);
    let site = |name: &str| {
        json!({
            "name": name, "url": format!("http://{address}/{name}"), "interval_secs": 1,
            "delay_ms": DELAY.as_millis(), "allow_private": true, "rows": "b",
            "symbol": {"attribute": "id"}, "price": {}, "currency": "USD",
        })
    };
    let mut installation = Installation::at(&nats.url());
    installation.set("ingest.sources", "html:one,html:two,sim");
    installation.set("html", json!([site("one"), site("two")]));
    let mut start = |name: &str| {
        installation.set("service.instance", name);
        installation.role("ingest")
    };
    let registry = Registry::at(&nats.url()).await;
    let lease = format!("ingest.host.{}", subject::key_of_host(&format!("http://{address}")));
    let keys = [lease, "ingest.sim".to_owned()];
    let owned_by = async |wanted: [&str; 2]| {
        eventually(PATIENCE, &format!("host and sim are owned by {wanted:?}"), async || {
            let holders = registry.nats.holders(&keys).await.ok()?;
            let holders: Vec<_> = holders.iter().flatten().map(String::as_str).collect();
            (holders == wanted).then_some(())
        })
        .await;
    };
    let _a = start("a");
    owned_by(["a", "a"]).await;
    host.progress().await;
    let mut b = start("b");
    owned_by(["b", "a"]).await;
    host.progress().await;
    b.kill().await;
    owned_by(["a", "a"]).await;
    host.progress().await;

    let visits = host.0.lock().unwrap();
    for pair in visits.windows(2) {
        let [before, after] = pair else { unreachable!() };
        // One whose client was killed has no end.
        let Some(ended) = before.ended else { continue };
        let pause = after.began.checked_duration_since(ended);
        let (first, second) = (&before.page, &after.page);
        let wanted = if first == "robots.txt" { DELAY } else { CRAWL_DELAY };
        assert!(pause.is_some_and(|pause| pause >= wanted), "{pause:?} from {first} to {second}");
    }
    let robots = visits.iter().filter(|visit| visit.page == "robots.txt").count();
    assert_eq!(robots, 2, "each instance asks once, for both sites");
}
