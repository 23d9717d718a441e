//! Environment variables, behind a trait, so that a test need not change those of the process.

use std::{env, fs};

/// Where variables and the files they name come from.
pub(crate) trait Environment {
    /// All variables whose name begins with `LIZARDS_`, sorted.
    fn variables(&self) -> Vec<(String, String)>;

    /// The text of a file.
    fn read(&self, path: &str) -> std::io::Result<String>;
}

/// The environment of the process.
pub(crate) struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variables(&self) -> Vec<(String, String)> {
        let mut variables: Vec<_> = env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.into_string().ok()?;
                name.starts_with("LIZARDS_").then(|| (name, value.to_string_lossy().into_owned()))
            })
            .collect();
        variables.sort();
        variables
    }

    fn read(&self, path: &str) -> std::io::Result<String> {
        fs::read_to_string(path)
    }
}
