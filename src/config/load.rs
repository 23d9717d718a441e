//! The layers: defaults, file, environment, flags.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::{
    Config, Environment,
    keys::{self, Key},
};

const DEFAULT_FILE: &str = "lizards.toml";
const FILE_VARIABLE: &str = "LIZARDS_CONFIG";
/// Variables of the project's own tests, which no configuration has.
const TEST_PREFIX: &str = "LIZARDS_TEST_";

/// The effective configuration, and where each value comes from.
pub(crate) struct Loaded {
    /// What holds.
    pub(crate) config: Config,
    pub(super) values: Vec<(Key, Value, Origin)>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// What the flags of the command line set.
#[derive(Debug, Default)]
pub(crate) struct Overrides(Vec<(String, String, String)>);

impl Overrides {
    /// A flag that sets a key, if it was given.
    pub(crate) fn flag(&mut self, flag: &str, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.0.push((flag.to_owned(), key.to_owned(), value));
        }
    }

    /// `--set KEY=VALUE`, as often as it was given.
    pub(crate) fn assignments(&mut self, assignments: &[String]) -> Result<()> {
        for assignment in assignments {
            let (key, value) = assignment
                .split_once('=')
                .with_context(|| format!("--set {assignment}: KEY=VALUE is wanted"))?;
            self.flag("--set", key.trim(), Some(value.to_owned()));
        }
        Ok(())
    }
}

/// The values so far, by key.
struct Layers {
    keys: Vec<Key>,
    values: BTreeMap<String, (Value, Origin)>,
}

impl Config {
    /// Reads all layers. An unknown key or a value of the wrong type is an error that names it.
    pub(crate) fn load(
        file: Option<PathBuf>,
        overrides: &Overrides,
        environment: &impl Environment,
    ) -> Result<Loaded> {
        let mut layers = Layers { keys: keys::all(), values: BTreeMap::new() };
        let variables = environment.variables();
        // As everywhere, empty means none.
        let named = variables.iter().find(|(name, path)| name == FILE_VARIABLE && !path.is_empty());
        let file = file.or_else(|| named.map(|(_, path)| PathBuf::from(path)));
        layers.add_file(file, environment)?;
        layers.add_variables(&variables, environment)?;
        for (flag, key, value) in &overrides.0 {
            layers.add_flag(flag, key, value)?;
        }
        layers.finish()
    }
}

impl Layers {
    fn add_file(&mut self, file: Option<PathBuf>, environment: &impl Environment) -> Result<()> {
        let (path, asked_for) = match file {
            Some(path) => (path, true),
            None => (PathBuf::from(DEFAULT_FILE), false),
        };
        let text = match environment.read(&path.to_string_lossy()) {
            Ok(text) => text,
            Err(fault) if !asked_for && fault.kind() == std::io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(fault) => {
                return Err(fault).with_context(|| {
                    format!("the configuration {} cannot be read", path.display())
                });
            }
        };
        let table: toml::Table = toml::from_str(&text)
            .map_err(|fault| anyhow!("{}: {}", path.display(), one_line(&fault.to_string())))?;
        let tree = serde_json::to_value(table)?;
        self.add_tree("", tree, &path)
    }

    fn add_tree(&mut self, prefix: &str, tree: Value, file: &PathBuf) -> Result<()> {
        let Value::Object(members) = tree else { return Ok(()) };
        for (name, value) in members {
            let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            let place = file.display();
            if let Some(key) = self.keys.iter().find(|key| key.path == path) {
                check_type(key, &value).with_context(|| place.to_string())?;
                self.values.insert(path, (value, Origin::File(file.clone())));
            } else if value.is_object() && self.is_section(&path) {
                self.add_tree(&path, value, file)?;
            } else {
                bail!("{place}: {}", self.unknown(&path));
            }
        }
        Ok(())
    }

    fn add_variables(
        &mut self,
        variables: &[(String, String)],
        environment: &impl Environment,
    ) -> Result<()> {
        let keys = self.keys.clone();
        let by_variable = keys::by_variable(&keys);
        for (name, value) in variables {
            if name == FILE_VARIABLE || name.starts_with(TEST_PREFIX) {
                continue;
            }
            let from_file = name.strip_suffix("_FILE").and_then(|name| by_variable.get(name));
            let (key, text) = match (by_variable.get(name), from_file) {
                (Some(key), _) => (key, value.clone()),
                (None, Some(key)) if key.secret => {
                    let text = environment.read(value);
                    let text = text.with_context(|| format!("{name}: {value} cannot be read"))?;
                    (key, text.trim_end_matches(['\r', '\n']).to_owned())
                }
                _ => bail!("the environment variable {name} is not a key of the configuration"),
            };
            let value = parse(key, &text).with_context(|| name.clone())?;
            self.values.insert(key.path.clone(), (value, Origin::Variable(name.clone())));
        }
        Ok(())
    }

    fn add_flag(&mut self, flag: &str, path: &str, text: &str) -> Result<()> {
        let Some(key) = self.keys.iter().find(|key| key.path == path) else {
            bail!("{flag}: {}", self.unknown(path));
        };
        if key.secret {
            bail!(
                "{flag}: {path} is a secret, and flags can be seen by others; set {} instead",
                key.variable()
            );
        }
        let value = parse(key, text).with_context(|| flag.to_owned())?;
        self.values.insert(key.path.clone(), (value, Origin::Flag(flag.to_owned())));
        Ok(())
    }

    fn finish(mut self) -> Result<Loaded> {
        let values: Vec<_> = self
            .keys
            .into_iter()
            .map(|key| {
                let set = self.values.remove(&key.path);
                let (value, origin) = set.unwrap_or_else(|| (key.default.clone(), Origin::Default));
                (key, value, origin)
            })
            .collect();
        let mut tree = Value::Object(serde_json::Map::new());
        for (key, value, _) in &values {
            *entry(&mut tree, &key.path) = value.clone();
        }
        let config = serde_path_to_error::deserialize(tree).map_err(|fault| {
            let path = fault.path().to_string();
            let origin = values
                .iter()
                .find(|(key, ..)| path == key.path || path.starts_with(&format!("{}[", key.path)));
            let place = origin.map_or_else(String::new, |(.., origin)| format!(" ({origin})"));
            if origin.is_some_and(|(key, ..)| key.secret) {
                // The fault would quote it.
                return anyhow!("{path}{place}: it is not written as it must be");
            }
            anyhow!("{path}{place}: {}", fault.into_inner())
        })?;
        Ok(Loaded { config, values })
    }

    fn is_section(&self, path: &str) -> bool {
        self.keys.iter().any(|key| key.path.starts_with(&format!("{path}.")))
    }

    /// Names the unknown key and, where one is alike, the key that was probably meant.
    fn unknown(&self, path: &str) -> String {
        let last = path.rsplit('.').next().unwrap_or(path);
        let alike = self.keys.iter().find(|key| {
            key.path.ends_with(&format!(".{last}")) || key.path.starts_with(path) && path.len() > 2
        });
        match alike {
            Some(key) => format!("unknown key {path}; was {} meant?", key.path),
            None => format!("unknown key {path}; `lizards config` lists all keys"),
        }
    }
}

/// The place of a path in a tree, made where it is not there.
fn entry<'a>(tree: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(tree, |tree, name| {
        if !tree.is_object() {
            *tree = Value::Object(serde_json::Map::new());
        }
        &mut tree[name]
    })
}

fn check_type(key: &Key, value: &Value) -> Result<()> {
    if kind(value) == kind(&key.default) {
        return Ok(());
    }
    bail!("{}: {} is wanted, not {}", key.path, kind(&key.default), kind(value))
}

/// Reads a text as a value of the key's type; lists are separated by commas, or JSON.
fn parse(key: &Key, text: &str) -> Result<Value> {
    let wrong = || {
        let wanted = kind(&key.default);
        if key.secret {
            return anyhow!("{}: {wanted} is wanted", key.path);
        }
        anyhow!("{}: {wanted} is wanted, not {text:?}", key.path)
    };
    match &key.default {
        Value::String(_) => Ok(Value::String(text.to_owned())),
        Value::Array(_) if !text.trim_start().starts_with('[') => Ok(text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| Value::String(item.to_owned()))
            .collect()),
        _ => {
            let value = serde_json::from_str(text.trim()).map_err(|_| wrong())?;
            check_type(key, &value).map_err(|_| wrong())?;
            Ok(value)
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a section",
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
