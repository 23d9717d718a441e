//! Two processors share the symbols: whichever is asked, the answer is what both of them then make.

use std::time::Instant;

use super::*;

/// How many partitions there are by default.
const PARTITIONS: u16 = 15;
/// How long a dry run may take, and a gRPC call around it.
const WITHIN: Duration = Duration::from_secs(6);

/// One of the two.
struct Owner {
    name: String,
    address: String,
    /// A symbol that is its own.
    symbol: String,
}

impl Owner {
    async fn asked(&self, body: &str, id: &str) -> DryRun {
        let since = Instant::now();
        let answer = House::by_grpc_at(&self.address, body, &metadata(id)).await.unwrap();
        assert!(since.elapsed() < WITHIN, "{:?}", since.elapsed());
        serde_json::from_str(&answer.message).unwrap()
    }
}

struct Two {
    house: House,
    second: Process,
    /// In the order of their start.
    owners: [Owner; 2],
}

impl Two {
    /// Each has seen prices around 100 of its symbol, in the payload `seed`.
    async fn start(settings: &[(&str, &str)]) -> Self {
        let rejecting = [&[("process.rules.outlier", "reject")], settings].concat();
        let house = House::with(&rejecting).await;
        let second = house.installation.role("process");
        let owners = eventually(PATIENCE, "both own some partitions", async || {
            let holders = holders(&house.registry).await?;
            let first = owner(&house, &house.process, &holders)?;
            Some([first, owner(&house, &second, &holders)?])
        })
        .await;
        let two = Self { house, second, owners };
        let prices = ["100", "100.1", "100", "99.9", "100", "100.1", "100", "99.9", "100"];
        let rows = (1..).zip(prices).map(|(second, price)| two.row(price, second));
        two.house.publish("seed", &rows.collect::<String>()).await;
        two.house.read(Stream::Ticks, 1, 2 * prices.len()).await;
        two
    }

    /// A row of each one's symbol.
    fn row(&self, price: &str, second: u8) -> String {
        self.owners.each_ref().map(|owner| row(&owner.symbol, price, second)).concat()
    }

    /// For each symbol a price that is far off, and one that is not.
    fn body(&self) -> String {
        self.row("1000", 9) + &self.row("100", 10)
    }
}

/// Who owns each partition, once two have half of them each.
async fn holders(registry: &Registry) -> Option<Vec<String>> {
    let keys: Vec<_> = (0..PARTITIONS).map(|partition| format!("process.{partition}")).collect();
    let holders: Option<Vec<_>> = registry.nats.holders(&keys).await.ok()?.into_iter().collect();
    let holders = holders?;
    let first = holders.iter().filter(|holder| **holder == holders[0]).count();
    [7, 8].contains(&first).then_some(holders)
}

fn owner(house: &House, process: &Process, holders: &[String]) -> Option<Owner> {
    let pid = format!("{}-", process.id());
    let instances = house.registry.instances("process");
    let instance = instances.into_iter().find(|instance| instance.instance.starts_with(&pid))?;
    let is_own = |symbol: &String| holders[partition(symbol)] == instance.instance;
    let symbol = (0..1_000).map(|n| format!("S{n}")).find(is_own)?;
    let address = format!("{}:{}", instance.ip_address, instance.port_number);
    Some(Owner { name: instance.instance, address, symbol })
}

/// As the server's `{{partition()}}` has it: FNV-1a.
fn partition(symbol: &str) -> usize {
    let hash = symbol
        .bytes()
        .fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    usize::try_from(hash % u32::from(PARTITIONS)).unwrap()
}

fn reasons(run: &DryRun) -> Vec<(usize, &str)> {
    run.rejections.iter().map(|why| (why.event, why.reason.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_processor_is_asked_says_what_the_pipeline_then_makes() {
    let two = Two::start(&[]).await;
    let before = two.house.streams().await;
    let body = two.body();
    let mut runs = Vec::new();
    for owner in &two.owners {
        let run = owner.asked(&body, "desk:1").await;
        assert_eq!(run.not_asked, None);
        assert_eq!(reasons(&run), [(0, "outlier"), (1, "outlier")], "{run:?}");
        assert_eq!(run.tick_count, 2);
        runs.push(run);
        // What the other has made a tick already, and a price that only the other can compare.
        for other in &two.owners {
            let run = owner.asked(&row(&other.symbol, "1000", 10), "desk:2").await;
            assert_eq!((reasons(&run), &run.not_asked), (vec![(0, "outlier")], &None));
        }
        let run = owner.asked(&two.row("100", 1), "seed").await;
        assert_eq!(reasons(&run), [(0, "duplicate"), (1, "duplicate")]);
    }
    assert_eq!(runs[0], runs[1]);
    let by_nats = two.house.by_nats(&body, &envelope("desk:1")).await;
    assert_eq!(runs[0], serde_json::from_slice(&by_nats.body).unwrap());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(two.house.streams().await, before, "a dry run leaves nothing behind");
    for owner in &two.owners {
        let metrics = reqwest::get(format!("http://{}/metrics", owner.address)).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let asked = "lizards_process_dry_run_questions_total{status=\"unanswered\"} 0";
        assert!(metrics.contains(asked), "{metrics}");
    }

    two.house.publish("desk:1", &body).await;
    let made = two.house.read(Stream::Ticks, before[1].last_sequence + 1, 2).await;
    let mut made: Vec<_> = made
        .iter()
        .map(|message| serde_json::from_slice(&message.body).unwrap())
        .map(|tick: Tick| Tick { raw_seq: 0, ..tick })
        .collect();
    // Two writers: whichever was first.
    made.sort_by_key(|tick| tick.symbol != runs[0].ticks[0].symbol);
    assert_eq!(made, runs[0].ticks);
    let rejected = two.house.read(Stream::Rejected, before[2].last_sequence + 1, 2).await;
    let mut errors: Vec<_> =
        rejected.iter().map(|message| message.header(headers::ERROR).unwrap()).collect();
    let mut expected: Vec<_> = runs[0].rejections.iter().map(|why| why.error.as_str()).collect();
    errors.sort_unstable();
    expected.sort_unstable();
    assert_eq!(errors, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_killed_is_named_until_another_answers_for_it() {
    // Longer than a dry run waits for an owner.
    let mut two = Two::start(&[("service.lease_ttl_ms", "6000")]).await;
    two.second.kill().await;
    let [first, second] = &two.owners;
    let body = two.body();
    let run = first.asked(&body, "desk:1").await;
    assert!(reasons(&run).contains(&(0, "outlier")), "its own it knows: {run:?}");
    let not_asked = run.not_asked.expect("its lease has not run out");
    let symbols: Vec<_> = not_asked.symbols.iter().map(schemas::Symbol::as_str).collect();
    assert_eq!(symbols, [second.symbol.as_str()]);
    let said = format!("instance {} owns their partitions, but does not answer", second.name);
    assert!(not_asked.why.starts_with(&said), "{}", not_asked.why);
    eventually(PATIENCE, "the other answers for it", async || {
        let run = first.asked(&body, "desk:1").await;
        (run.not_asked.is_none() && reasons(&run) == [(0, "outlier"), (1, "outlier")]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stalls_holds_up_no_dry_run_for_long() {
    let two = Two::start(&[("service.lease_ttl_ms", "6000")]).await;
    let [first, second] = &two.owners;
    let body = two.body();
    first.asked(&body, "desk:1").await;
    two.second.signal("STOP");
    let run = first.asked(&body, "desk:1").await;
    two.second.signal("CONT");
    let why = run.not_asked.expect("its owner stands still").why;
    let said =
        format!("instance {} owns their partitions, but did not answer in time", second.name);
    assert_eq!(why, said);
    eventually(PATIENCE, "it answers again", async || {
        first.asked(&body, "desk:1").await.not_asked.is_none().then_some(())
    })
    .await;
}
