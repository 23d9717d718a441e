//! The simulator as it runs.

use std::collections::HashSet;

use super::*;
use crate::testing::{start, text};

fn sim(ticks_per_sec: u32, seed: u64) -> Sim {
    Sim::new(&SimConfig { ticks_per_sec, seed, ..SimConfig::default() }).unwrap()
}

/// Everything that it can do.
fn eventful(seed: u64) -> SimConfig {
    SimConfig {
        seed,
        jump_every_secs: 5,
        open_every_secs: 60,
        halt_every_secs: 10,
        halt_secs: 5,
        defects: vec!["all=400".to_owned()],
        ..SimConfig::default()
    }
}

/// What a run makes of so many ticks, with when each is due; the clock is that of the script.
fn played(config: SimConfig, count: usize) -> Vec<(Duration, RawTick)> {
    let sim = Sim::new(&config).unwrap();
    let symbols = sim.symbols.iter().cloned().collect();
    let (mut script, mut schedule) = (Script::new(&sim, &symbols, 1), Schedule::new(&sim.config));
    let mut played = Vec::new();
    for _ in 0..count {
        let due = schedule.next();
        let now = Timestamp::UNIX_EPOCH + due;
        played.extend(script.next(due, now).into_iter().flatten().flatten().map(|t| (due, t)));
    }
    played
}

/// The defect of a payload.
fn defect(tick: &RawTick) -> Option<&str> {
    let (_, rest) = text(&tick.body).split_once(r#""defect":""#)?;
    rest.split('"').next()
}

#[test]
fn the_same_seed_gives_the_same_payloads() {
    assert!(played(eventful(7), 5_000) == played(eventful(7), 5_000));
    assert!(played(eventful(7), 5_000) != played(eventful(8), 5_000));
}

#[test]
fn by_default_nothing_is_wrong() {
    let played = played(SimConfig::default(), 20_000);
    assert_eq!(played.len(), 20_000, "nobody is halted");
    assert!(played.iter().all(|(_, tick)| defect(tick).is_none()));
}

#[test]
fn defects_do_not_change_what_the_others_are() {
    let clean = SimConfig { defects: Vec::new(), ..eventful(7) };
    let clean: HashSet<_> = played(clean, 5_000).into_iter().map(|(_, tick)| tick.id).collect();
    let without_shifts = ["price-zero=50", "html=50", "repeat=50"].map(str::to_owned).into();
    let spoilt = played(SimConfig { defects: without_shifts, ..eventful(7) }, 5_000);
    let spoilt: Vec<_> = spoilt.iter().map(|(_, tick)| tick).collect();
    let wrong = spoilt.iter().filter(|tick| defect(tick).is_some()).count();
    assert!((150..400).contains(&wrong), "{wrong}");
    let of_clean = spoilt.iter().filter(|tick| !tick.id.ends_with(":again"));
    assert_eq!(of_clean.map(|tick| tick.id.clone()).collect::<HashSet<_>>(), clean);
}

#[test]
fn every_defect_is_made() {
    let names = |played: &[(Duration, RawTick)]| {
        let names = played.iter().filter_map(|(_, tick)| defect(tick).map(str::to_owned));
        names.collect::<HashSet<_>>()
    };
    let made = names(&played(eventful(1), 20_000));
    assert_eq!(made.len(), 27, "{made:?}");
    for name in made {
        let only = SimConfig { defects: vec![format!("{name}=30")], ..eventful(1) };
        assert_eq!(names(&played(only, 2_000)), [name].into());
    }
}

#[test]
fn the_price_of_another_symbol_is_far_away() {
    let config = SimConfig { defects: vec!["wrong-symbol=5".into()], ..SimConfig::default() };
    let price = |tick: &RawTick| {
        let body: serde_json::Value = serde_json::from_slice(&tick.body).unwrap();
        body["price"].as_f64().unwrap()
    };
    let mut newest = std::collections::HashMap::new();
    let mut wrong = 0;
    for (_, tick) in played(config.clone(), 2_000) {
        let symbol = tick.symbol.clone().unwrap();
        if defect(&tick).is_none() {
            newest.insert(symbol, price(&tick));
            continue;
        }
        let times = price(&tick) / newest[&symbol];
        assert!(!(0.52..1.92).contains(&times), "{symbol}: {times}");
        wrong += 1;
    }
    assert!(wrong > 50);
    // Alone, there is no other.
    let alone = SimConfig { symbols: vec!["SPY".into()], ..config };
    assert!(played(alone, 2_000).iter().all(|(_, tick)| defect(tick).is_none()));
}

#[test]
fn what_does_not_work_is_told() {
    let fault = |config: SimConfig| Sim::new(&config).err().unwrap().to_string();
    let config = SimConfig { open_burst: 0, ..SimConfig::default() };
    assert_eq!(fault(config), "ingest.sim.open_burst: must be 1 to 100, not 0");
    let config = SimConfig { defects: vec!["html".into()], ..SimConfig::default() };
    assert!(fault(config).starts_with("ingest.sim.defects: \"html\" is not DEFECT=N"));
}

#[test]
fn a_duplicate_has_the_id_and_a_repetition_has_not() {
    let of = |name: &str| {
        let config = SimConfig {
            symbols: vec!["SPY".into()],
            defects: vec![format!("{name}=1")],
            ..SimConfig::default()
        };
        let ticks: Vec<_> = played(config, 24).into_iter().map(|(_, tick)| tick).collect();
        let second = ticks.iter().position(|tick| defect(tick).is_some()).unwrap() + 1;
        let first = if name == "repeat" { second - 2 } else { second - 1 };
        (ticks[first].clone(), ticks[first + 1].clone())
    };
    let (first, second) = of("duplicate");
    assert_eq!(first, second);
    assert!(text(&first.body).starts_with(r#"{"defect":"duplicate","symbol":"SPY""#));
    let (first, second) = of("repeat");
    assert_eq!(format!("{}:again", first.id), second.id);
    assert!(text(&first.body).contains(r#""trade":"1:20","n":20}"#), "{}", text(&first.body));
    let unmarked = text(&second.body).replace(r#""defect":"repeat","#, "");
    assert_eq!(text(&first.body), unmarked);
}

#[tokio::test(start_paused = true)]
async fn ticks_come_smoothly_and_at_the_rate_asked_for() {
    let begin = Instant::now();
    let mut running = start(sim(50, 1), None);
    let mut gaps = Vec::new();
    let mut last = begin;
    for _ in 0..=100 {
        running.next().await;
        gaps.push(last.elapsed().as_millis());
        last = Instant::now();
    }
    assert_eq!(begin.elapsed().as_millis(), 2_000);
    assert!(gaps[1..].iter().all(|gap| (19..=21).contains(gap)), "{gaps:?}");
    running.session.abort();
}

#[tokio::test(start_paused = true)]
async fn a_high_rate_holds() {
    let begin = Instant::now();
    let mut running = start(sim(100_000, 1), None);
    for _ in 0..50_000 {
        running.next().await;
    }
    assert!((490..=510).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    running.session.abort();
}

#[tokio::test(start_paused = true)]
async fn after_a_standstill_nothing_is_made_up_for() {
    let mut running = start(sim(100, 1), None);
    running.next().await;
    // Longer than the outlet holds ticks for.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let begin = Instant::now();
    for _ in 0..1_000 {
        running.next().await;
    }
    assert!(begin.elapsed() > Duration::from_secs(5), "{:?}", begin.elapsed());
    running.session.abort();
}

#[tokio::test(start_paused = true)]
async fn symbols_come_and_go_while_it_runs() {
    let mut running = start(sim(1_000, 1), None);
    running.next().await;
    running.follow(&["IBM"]);
    let mut of_ibm = 0;
    for _ in 0..1_000 {
        let tick = running.next().await;
        let is_ibm = tick.symbol.unwrap().as_str() == "IBM";
        assert!(is_ibm || of_ibm == 0, "it is alone");
        of_ibm += u32::from(is_ibm);
    }
    assert!(of_ibm > 500);
    running.session.abort();
}

#[tokio::test]
async fn two_runs_never_share_an_id() {
    let mut ids = HashSet::new();
    for _ in 0..2 {
        let mut running = start(sim(100_000, 1), None);
        for _ in 0..100 {
            let tick = running.next().await;
            assert!(tick.id.starts_with("sim:1:"));
            assert!(ids.insert(tick.id));
        }
        running.session.abort();
    }
}
