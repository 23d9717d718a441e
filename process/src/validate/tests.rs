use bytes::Bytes;
use schemas::{Decimal, Format, Source, Symbol, TickKind};

use super::*;

fn raw(source: &str) -> RawTick {
    RawTick {
        id: "e1".into(),
        source: Source::new(source).unwrap(),
        symbol: None,
        received_at: "2024-01-02T00:00:00Z".parse().unwrap(),
        content_type: "application/json".into(),
        format: Format::Sim,
        columns: None,
        body: Bytes::new(),
    }
}

fn event() -> Decoded {
    Decoded {
        identity: None,
        symbol: Symbol::new("AAPL").unwrap(),
        price: Decimal::parse("1.50").unwrap(),
        size: None,
        currency: "USD".into(),
        exchange: None,
        kind: TickKind::Trade,
        ts: "2024-01-02T00:00:00Z".parse().unwrap(),
    }
}

fn priced(price: &str) -> Decoded {
    Decoded { price: Decimal::parse(price).unwrap(), ..event() }
}

fn at(ts: &str) -> Decoded {
    Decoded { ts: ts.parse().unwrap(), ..event() }
}

/// Judges events one after another, each of a payload of its own.
struct Bench {
    rules: Rules,
    state: State,
    source: &'static str,
    sequence: u64,
}

impl Bench {
    fn new(config: RulesConfig) -> Self {
        let calendars = Calendars::new(&["file=XNYS".to_owned()]).unwrap();
        let (max_future, listings) = (SignedDuration::from_secs(5), Listings::default());
        let rules = Rules { config, max_future, calendars, listings };
        Self { rules, state: State::new(1_000), source: "sim", sequence: 0 }
    }

    fn judge(&mut self, event: Decoded) -> Result<Tick, Rejection> {
        self.sequence += 1;
        let raw = RawTick { id: self.sequence.to_string(), ..raw(self.source) };
        let context =
            Context { raw: &raw, place: (self.sequence, 0), was_rejected: false, is_repeat: false };
        self.rules.judge(event, &context, &mut self.state)
    }

    fn flags(&mut self, event: Decoded) -> Vec<Flag> {
        self.judge(event).unwrap().flags
    }

    fn reason(&mut self, event: Decoded) -> Reason {
        self.judge(event).unwrap_err().reason
    }
}

fn defaults() -> Bench {
    Bench::new(RulesConfig::default())
}

fn all(action: Action) -> RulesConfig {
    RulesConfig {
        future: action,
        stale: action,
        max_age: vec!["sim=60".into()],
        out_of_order: action,
        outlier: action,
        outlier_basis_points: 300,
        extended_hours: action,
        closed: action,
        unknown_symbol: action,
        halted: action,
    }
}

#[test]
fn a_right_event_becomes_a_tick() {
    let tick = defaults().judge(event()).unwrap();
    assert_eq!((tick.id.as_str(), tick.raw_seq), ("1.0", 1));
    assert!(tick.flags.is_empty());
}

#[test]
fn a_wrong_shape_names_field_and_value_whatever_is_configured() {
    for action in [Action::Off, Action::Flag, Action::Reject] {
        let free = Decoded { exchange: Some(String::new()), ..priced("0") };
        let rejection = Bench::new(all(action)).judge(free).unwrap_err();
        assert_eq!(rejection.reason, Reason::InvalidField);
        assert_eq!(
            rejection.detail,
            "exchange: \"\" must be 1 to 64 characters long; price: 0 must be greater than zero"
        );
        let short = Decoded { size: Some(Decimal::parse("-1").unwrap()), ..event() };
        let rejection = Bench::new(all(action)).judge(short).unwrap_err();
        assert_eq!(rejection.detail, "size: -1 must not be negative");
    }
}

#[test]
fn an_event_that_is_a_tick_already_is_rejected_whatever_is_configured() {
    let mut bench = Bench::new(all(Action::Off));
    bench.judge(event()).unwrap();
    bench.sequence = 0;
    assert_eq!(bench.reason(event()), Reason::Duplicate);
    let raw = raw("sim");
    let context = Context { raw: &raw, place: (9, 0), was_rejected: false, is_repeat: true };
    let rejection = bench.rules.judge(event(), &context, &mut bench.state).unwrap_err();
    assert_eq!(
        (rejection.reason, &*rejection.detail),
        (Reason::Duplicate, "id: e1.0 is a tick already")
    );
}

#[test]
fn the_future_is_rejected_and_the_distant_past_is_not() {
    let mut bench = defaults();
    let rejection = bench.judge(at("2024-01-02T00:00:05.000000001Z")).unwrap_err();
    assert_eq!(rejection.reason, Reason::Future);
    assert!(rejection.detail.starts_with("ts: 2024-01-02T00:00:05.000000001Z is 5.000 s after"));
    assert_eq!(rejection.price, Some((event().symbol, event().price)));
    assert!(bench.judge(Decoded { ts: jiff::Timestamp::MAX, ..event() }).is_err());
    assert!(bench.judge(at("2024-01-02T00:00:05Z")).is_ok());
    assert_eq!(bench.flags(at("1970-01-01T00:00:00Z")), [Flag::OutOfOrder]);
    assert!(bench.judge(Decoded { ts: jiff::Timestamp::MIN, ..event() }).is_ok());
}

#[test]
fn each_rule_is_off_or_flags_or_rejects() {
    type Case = (fn(&mut Bench) -> Decoded, Flag, Reason, &'static str);
    let cases: [Case; 9] = [
        (|_| at("2024-01-02T00:00:06Z"), Flag::Future, Reason::Future, "ts: "),
        (|_| at("2024-01-01T23:58:59Z"), Flag::Stale, Reason::Stale, "ts: "),
        (
            |bench| {
                bench.judge(event()).unwrap();
                at("2024-01-01T23:59:59.999Z")
            },
            Flag::OutOfOrder,
            Reason::OutOfOrder,
            "ts: 2024-01-01T23:59:59.999Z is before the newest, 2024-01-02T00:00:00Z",
        ),
        (
            |bench| {
                bench.judge(event()).unwrap();
                priced("15.0")
            },
            Flag::Outlier,
            Reason::Outlier,
            "price: 15.0 is 10.000 times the median 1.5000 of the prices before; 0.970 to 1.030 times are expected",
        ),
        (
            |bench| {
                bench.source = "file";
                at("2024-01-02T09:00:00Z")
            },
            Flag::PreMarket,
            Reason::ExtendedHours,
            "ts: 2024-01-02T09:00:00Z is before the regular session of XNYS",
        ),
        (
            |bench| {
                bench.source = "file";
                at("2024-01-02T21:00:00Z")
            },
            Flag::PostMarket,
            Reason::ExtendedHours,
            "ts: 2024-01-02T21:00:00Z is after the regular session of XNYS",
        ),
        (
            |bench| {
                bench.source = "file";
                at("2024-01-01T15:00:00Z")
            },
            Flag::Closed,
            Reason::Closed,
            "ts: 2024-01-01T15:00:00Z is outside of the sessions of XNYS",
        ),
        (
            |bench| {
                bench.rules.listings.known(&["MSFT"]);
                event()
            },
            Flag::UnknownSymbol,
            Reason::UnknownSymbol,
            "symbol: no source has announced AAPL",
        ),
        (
            |bench| {
                bench.rules.listings.halted(&["AAPL"]);
                event()
            },
            Flag::Halted,
            Reason::Halted,
            "symbol: trading in AAPL is halted",
        ),
    ];
    for (prepare, flag, reason, detail) in cases {
        let bench = |action| {
            let mut bench = Bench::new(all(action));
            // What else the times of these cases would break.
            bench.rules.max_future = SignedDuration::from_hours(48);
            bench.rules.config.future = Action::Off;
            if flag == Flag::Future {
                bench.rules.max_future = SignedDuration::from_secs(5);
                bench.rules.config.future = action;
            }
            bench
        };
        let mut off = bench(Action::Off);
        let event = prepare(&mut off);
        assert!(off.flags(event).is_empty(), "{flag}");
        let mut flags = bench(Action::Flag);
        let event = prepare(&mut flags);
        assert_eq!(flags.flags(event), [flag]);
        let mut rejects = bench(Action::Reject);
        let event = prepare(&mut rejects);
        let rejection = rejects.judge(event).unwrap_err();
        assert_eq!(rejection.reason, reason);
        assert!(rejection.detail.starts_with(detail), "{}", rejection.detail);
    }
}

#[test]
fn one_source_does_not_disturb_the_order_of_another() {
    let mut bench = defaults();
    bench.judge(event()).unwrap();
    bench.source = "coinbase";
    assert!(bench.flags(at("2024-01-01T00:00:00Z")).is_empty());
    assert_eq!(bench.flags(at("2023-01-01T00:00:00Z")), [Flag::OutOfOrder]);
    // One that was out of order does not set the order.
    assert_eq!(bench.flags(at("2023-06-01T00:00:00Z")), [Flag::OutOfOrder]);
}

#[test]
fn an_outlier_does_not_move_the_estimate_and_a_new_level_is_followed() {
    for action in [Action::Flag, Action::Reject] {
        let mut bench = Bench::new(RulesConfig { outlier: action, ..RulesConfig::default() });
        let is_outlier = |verdict: &Result<Tick, Rejection>| match verdict {
            Ok(tick) => tick.flags == [Flag::Outlier],
            Err(rejection) => rejection.reason == Reason::Outlier,
        };
        for _ in 0..10 {
            assert!(bench.flags(priced("100.00")).is_empty());
            assert!(is_outlier(&bench.judge(priced("1000.0"))));
            assert!(is_outlier(&bench.judge(priced("1.00"))));
        }
        assert!(bench.flags(priced("100.01")).is_empty());
        // Outliers that do not agree make no level, however many there are.
        for number in 1..20 {
            assert!(is_outlier(&bench.judge(priced(&(200 * number).to_string()))));
        }
        for _ in 0..4 {
            assert!(is_outlier(&bench.judge(priced("80.00"))));
        }
        assert_eq!(bench.flags(priced("80.01")), [Flag::LevelShift]);
        assert!(bench.flags(priced("80.02")).is_empty());
        assert!(is_outlier(&bench.judge(priced("100.00"))), "the old level is the outlier now");
    }
}

#[test]
fn outliers_that_were_rejected_long_ago_confirm_nothing() {
    let mut bench = Bench::new(RulesConfig { outlier: Action::Reject, ..RulesConfig::default() });
    bench.judge(priced("100")).unwrap();
    for _ in 0..4 {
        assert_eq!(bench.reason(priced("80")), Reason::Outlier);
    }
    bench.sequence += CONFIRMED_WITHIN;
    for _ in 0..4 {
        assert_eq!(bench.reason(priced("80")), Reason::Outlier);
    }
    assert_eq!(bench.flags(priced("80")), [Flag::LevelShift]);
}

/// As after a split of what is seldom traded, where others are traded all the time.
#[test]
fn a_quiet_symbol_finds_its_new_level() {
    let mut bench = Bench::new(RulesConfig { outlier: Action::Flag, ..RulesConfig::default() });
    bench.judge(priced("100")).unwrap();
    for _ in 0..4 {
        bench.sequence += CONFIRMED_WITHIN;
        assert_eq!(bench.flags(priced("50")), [Flag::Outlier]);
    }
    bench.sequence += CONFIRMED_WITHIN;
    assert_eq!(bench.flags(priced("50")), [Flag::LevelShift]);

    let mut bench = Bench::new(RulesConfig { outlier: Action::Reject, ..RulesConfig::default() });
    let mut ticks = (1..=7).map(|day| {
        bench.sequence += CONFIRMED_WITHIN;
        let price = if day == 1 { "100" } else { "50" };
        let ts = format!("2023-12-0{day}T15:00:00Z").parse().unwrap();
        bench.judge(Decoded { ts, ..priced(price) }).map(|tick| tick.flags)
    });
    assert_eq!(ticks.next().unwrap().unwrap(), []);
    for rejected in ticks.by_ref().take(4) {
        assert_eq!(rejected.unwrap_err().reason, Reason::Outlier);
    }
    assert_eq!(ticks.next().unwrap().unwrap(), [Flag::LevelShift]);
    assert_eq!(ticks.next().unwrap().unwrap(), []);
}

#[test]
fn one_of_the_future_does_not_set_the_order() {
    let mut bench = Bench::new(RulesConfig { future: Action::Flag, ..RulesConfig::default() });
    assert_eq!(bench.flags(at("2024-01-03T00:00:00Z")), [Flag::Future]);
    assert!(bench.flags(at("2024-01-02T00:00:00Z")).is_empty());
}

#[test]
fn an_outlier_that_was_rejected_stays_rejected_where_nothing_is_known() {
    let raw = raw("sim");
    let context = Context { raw: &raw, place: (1, 0), was_rejected: true, is_repeat: false };
    let mut bench = Bench::new(RulesConfig { outlier: Action::Reject, ..RulesConfig::default() });
    let rejection = bench.rules.judge(event(), &context, &mut bench.state).unwrap_err();
    assert_eq!(rejection.reason, Reason::Outlier);
    assert!(bench.judge(event()).is_ok(), "and it is not remembered as a tick");
    let mut bench = defaults();
    assert!(bench.rules.judge(event(), &context, &mut bench.state).is_ok());
}

#[test]
fn an_event_with_an_identity_is_one_tick_in_however_many_payloads() {
    let mut bench = Bench::new(RulesConfig::default());
    let bar = |identity: &str| Decoded { identity: Some(identity.to_owned()), ..event() };
    assert_eq!(bench.judge(bar("1m:60:1.5")).unwrap().id, "sim:AAPL:1m:60:1.5");
    assert_eq!(bench.judge(bar("1m:60:1.5")).unwrap_err().reason, Reason::Duplicate);
    assert!(bench.judge(bar("1m:60:1.6")).is_ok(), "restated");
    let other = Decoded { symbol: Symbol::new("IBM").unwrap(), ..bar("1m:60:1.5") };
    assert!(bench.judge(other).is_ok());
    assert!(bench.judge(event()).is_ok() && bench.judge(event()).is_ok(), "nobody says");
}
