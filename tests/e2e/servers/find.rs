//! Where the servers' programs are: named by a variable, in the tools folder, or on the machine.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The tools folder that `make test` fills.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools");

/// The program that `variable` names, else the first of `places` that exists: a path, a path in
/// the tools folder (beginning with `.tools/`), or a name to be looked up on PATH.
///
/// # Panics
/// When there is none: a test is never skipped because a server is missing.
pub(crate) fn program(variable: &str, places: &[&str]) -> PathBuf {
    if let Some(named) = env::var_os(variable).map(PathBuf::from) {
        assert!(named.exists(), "{variable} leads to {}, which does not exist", named.display());
        return named;
    }
    places.iter().find_map(|place| resolve(place)).unwrap_or_else(|| {
        panic!("there is no {}: run `make test`, or set {variable} to it", places.join(" nor "))
    })
}

fn resolve(place: &str) -> Option<PathBuf> {
    let found = if let Some(tool) = place.strip_prefix(".tools/") {
        Path::new(TOOLS).join(tool)
    } else if place.contains('/') {
        PathBuf::from(place)
    } else {
        let path = env::var_os("PATH")?;
        env::split_paths(&path).map(|folder| folder.join(place)).find(|file| file.exists())?
    };
    found.exists().then_some(found)
}
