//! `lizards config`: the effective configuration as a TOML file, each value with its origin.

use std::fmt;

use serde_json::Value;

use super::{Loaded, Origin};

const HIDDEN: &str = "(hidden)";

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = "";
        for (key, value, origin) in &self.values {
            let (place, name) = key.path.rsplit_once('.').unwrap_or(("", &key.path));
            if place != section {
                writeln!(f, "\n[{place}]")?;
                section = place;
            }
            let is_set = value.as_str().is_none_or(|text| !text.is_empty());
            // Refused when a role starts; not shown even so.
            let has_credentials =
                value.as_str().is_some_and(|text| text.contains("://") && text.contains('@'));
            let hidden = key.secret && is_set && *origin != Origin::Default;
            let shown = if hidden || has_credentials && *origin != Origin::Default {
                Value::String(HIDDEN.to_owned())
            } else {
                value.clone()
            };
            writeln!(f, "# {} [{origin}]", key.meaning.replace('\n', " "))?;
            writeln!(f, "{name} = {}", toml_value(&shown))?;
        }
        Ok(())
    }
}

fn toml_value(value: &Value) -> String {
    toml::Value::try_from(value)
        .map_or_else(|fault| format!("# {fault}"), |value| value.to_string())
}
