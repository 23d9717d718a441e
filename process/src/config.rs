//! What may be set.

use schemars::JsonSchema;
use schemas::calendar::Calendars;
use serde::{Deserialize, Serialize};

use crate::{AlertsConfig, CandlesConfig, Error, validate::RulesConfig};

/// How payloads are processed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address that health and metrics are served at; port 0 is any free one.
    pub listen: String,
    /// How far after its reception an event may be dated, in seconds; what is done with one further
    /// in the future says `process.rules.future`.
    pub max_future_secs: u64,
    /// The currency of prices whose source does not say, such as the rows of a CSV file: an ISO
    /// 4217 code or the ticker of a coin.
    pub currency: String,
    /// How many of the newest ticks are remembered, so that an event that comes again is rejected
    /// as a duplicate, and prices are compared with those before them.
    pub remembered_ids: usize,
    /// How often a payload is tried by itself, once it is seen that processes end there, before it is
    /// rejected as `poison`: at least 1.
    pub poison_tries: u32,
    /// When the symbols of a source are traded, as `SOURCE=CALENDAR`: `XNYS` (NYSE and Nasdaq) or
    /// `24/7`, which is that of every source not named here. A kind such as `html` names all its
    /// sources.
    pub calendars: Vec<String>,
    /// In how many partitions the symbols are cut: as many processors can share the work. All of
    /// them need the same number. In a cluster of NATS servers, and with RabbitMQ, there is one.
    pub partitions: u16,
    /// How candles are made.
    pub candles: CandlesConfig,
    /// How alert rules are judged and their alerts delivered.
    pub alerts: AlertsConfig,
    /// What the rules do with an event that breaks them.
    pub rules: RulesConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            max_future_secs: 5,
            currency: "USD".to_owned(),
            remembered_ids: 100_000,
            poison_tries: 3,
            partitions: 15,
            calendars: ["file=XNYS", "alphavantage=XNYS", "alpaca=XNYS"].map(str::to_owned).into(),
            candles: CandlesConfig::default(),
            alerts: AlertsConfig::default(),
            rules: RulesConfig::default(),
        }
    }
}

impl Config {
    /// Checks what the types do not.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |key, fault: String| Err(Error::Config { key, fault });
        if self.listen.parse::<std::net::SocketAddr>().is_err() {
            return wrong(
                "process.listen",
                format!("{:?} is not an address with a port, such as 127.0.0.1:0", self.listen),
            );
        }
        // A century: any sum with a time of ours still is a time.
        if self.max_future_secs > 100 * 366 * 86_400 {
            return wrong("process.max_future_secs", "must be at most 3162240000".to_owned());
        }
        if !(1..=100).contains(&self.poison_tries) {
            return wrong(
                "process.poison_tries",
                format!("{} must be from 1 to 100", self.poison_tries),
            );
        }
        if !(1..=256).contains(&self.partitions) {
            return wrong(
                "process.partitions",
                format!("{} must be from 1 to 256", self.partitions),
            );
        }
        if !(2..=10).contains(&self.currency.chars().count()) {
            return wrong(
                "process.currency",
                format!("{:?} must have 2 to 10 characters", self.currency),
            );
        }
        self.calendars()?;
        self.rules.validate()?;
        self.alerts.validate()?;
        self.candles.validate()
    }

    /// Which sources' ticks keep which calendar.
    pub fn calendars(&self) -> Result<Calendars, Error> {
        Calendars::new(&self.calendars)
            .map_err(|fault| Error::Config { key: "process.calendars", fault: fault.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_fault_names_its_key() {
        assert!(Config::default().validate().is_ok());
        for (config, key) in [
            (Config { listen: "here".into(), ..Config::default() }, "process.listen"),
            (Config { max_future_secs: u64::MAX, ..Config::default() }, "process.max_future_secs"),
            (Config { partitions: 0, ..Config::default() }, "process.partitions"),
            (Config { poison_tries: 0, ..Config::default() }, "process.poison_tries"),
            (Config { currency: "$".into(), ..Config::default() }, "process.currency"),
            (
                Config { calendars: vec!["sim=XXXX".into()], ..Config::default() },
                "process.calendars",
            ),
        ] {
            let text = config.validate().unwrap_err().to_string();
            assert!(text.starts_with(key), "{text}");
        }
    }
}
