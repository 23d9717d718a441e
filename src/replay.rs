//! `--replay FILE`: what the flags mean for the configuration.

use crate::config::Overrides;

/// The file becomes the only source.
pub(crate) fn apply(overrides: &mut Overrides, file: &str, speed: Option<&str>) {
    overrides.flag("--replay", "ingest.sources", Some("file".to_owned()));
    overrides.flag("--replay", "ingest.file.path", Some(file.to_owned()));
    overrides.flag("--speed", "ingest.file.speed", speed.map(str::to_owned));
}
