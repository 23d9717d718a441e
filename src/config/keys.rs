//! All keys there are, with their types and whether they are secret, read off the defaults and the
//! schema of [`Config`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Config;

/// One key that can be set: `gateway.listen`.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Its path, joined by dots.
    pub(super) path: String,
    /// Its default, which also tells its type.
    pub(super) default: Value,
    /// Whether its value is never shown.
    pub(super) secret: bool,
    /// What it means, in one sentence.
    pub(super) meaning: String,
}

impl Key {
    /// The environment variable that sets it: `LIZARDS_GATEWAY_LISTEN`.
    pub(super) fn variable(&self) -> String {
        format!("LIZARDS_{}", self.path.replace('.', "_").to_uppercase())
    }
}

/// All keys, in the order of the sections.
pub(super) fn all() -> Vec<Key> {
    let schema = schemars::schema_for!(Config).to_value();
    let definitions = schema.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let mut keys = Vec::new();
    collect("", &defaults, &schema, &definitions, &mut keys);
    keys
}

fn collect(
    path: &str,
    default: &Value,
    schema: &Value,
    definitions: &Map<String, Value>,
    keys: &mut Vec<Key>,
) {
    let Value::Object(members) = default else {
        let meaning = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        keys.push(Key {
            path: path.to_owned(),
            default: default.clone(),
            secret: meaning.starts_with("Secret:"),
            meaning: meaning.trim_start_matches("Secret:").trim().to_owned(),
        });
        return;
    };
    let section = resolve(schema, definitions);
    // What is set at the top comes before the sections, as TOML wants it.
    let (sections, leaves): (Vec<_>, Vec<_>) =
        members.iter().partition(|(_, value)| value.is_object());
    for (name, value) in leaves.into_iter().chain(sections) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let schema = section.get("properties").and_then(|properties| properties.get(name));
        collect(&path, value, schema.unwrap_or(&Value::Null), definitions, keys);
    }
}

/// Follows a reference to a definition.
fn resolve<'a>(schema: &'a Value, definitions: &'a Map<String, Value>) -> &'a Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    reference
        .and_then(|reference| definitions.get(reference.trim_start_matches("#/$defs/")))
        .unwrap_or(schema)
}

/// The keys by the name of their variable.
pub(super) fn by_variable(keys: &[Key]) -> BTreeMap<String, &Key> {
    keys.iter().map(|key| (key.variable(), key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_share_a_variable() {
        let keys = all();
        assert_eq!(by_variable(&keys).len(), keys.len());
    }

    #[test]
    fn every_key_says_what_it_means() {
        for key in all() {
            assert!(!key.meaning.is_empty(), "{} has no doc comment", key.path);
            assert!(!key.default.is_null(), "{} has no default to see", key.path);
        }
    }

    #[test]
    fn passwords_and_tokens_are_secret() {
        let secret: Vec<_> =
            all().into_iter().filter(|key| key.secret).map(|key| key.path).collect();
        for path in [
            "nats.password",
            "nats.token",
            "broker.rabbitmq_url",
            "ingest.alphavantage.api_key",
            "ingest.finnhub.api_key",
            "ingest.twelvedata.api_key",
            "ingest.stooq.api_key",
        ] {
            assert!(secret.iter().any(|key| key == path), "{path} is not secret");
        }
    }
}
