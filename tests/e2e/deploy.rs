//! What is deployed fits together: nothing here needs a container engine.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

/// The metrics that operators are shown; those whose name ends in `_seconds` are histograms.
const METRICS: [&str; 28] = [
    "lizards_ingest_published_total",
    "lizards_ingest_fetch_errors_total",
    "lizards_ingest_in_flight",
    "lizards_ingest_spool_bytes",
    "lizards_ingest_spool_full",
    "lizards_archive_stored_total",
    "lizards_process_payloads_total",
    "lizards_process_events_total",
    "lizards_process_ticks_total",
    "lizards_process_rejections_total",
    "lizards_process_latency_seconds",
    "lizards_process_careful_payloads_total",
    "lizards_process_candle_ticks_total",
    "lizards_process_candles_closed_total",
    "lizards_process_candles_restated_total",
    "lizards_process_alerts_total",
    "lizards_process_webhook_deliveries_total",
    "lizards_provide_ticks_total",
    "lizards_provide_deliveries_total",
    "lizards_provide_connections",
    "lizards_provide_slow_clients_total",
    "lizards_store_written_total",
    "lizards_store_write_seconds",
    "lizards_gateway_requests_total",
    "lizards_gateway_rate_limited_total",
    "lizards_gateway_cache_hits_total",
    "lizards_gateway_cache_misses_total",
    "lizards_gateway_upstream_seconds",
];

fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(file).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// A YAML file with its merge keys (`<<`) resolved.
fn yaml(path: &str) -> Value {
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(&read(path)).unwrap();
    value.apply_merge().unwrap();
    serde_json::to_value(value).unwrap()
}

/// A tag that names a version: never `latest`, never none.
fn is_pinned(image: &str) -> bool {
    image.rsplit_once(':').is_some_and(|(_, tag)| {
        let numbers = tag.split('-').next().unwrap_or_default().trim_start_matches('v');
        numbers.split('.').count() >= 2
            && numbers.split('.').all(|part| part.parse::<u32>().is_ok())
    })
}

#[test]
fn a_tag_is_a_version() {
    assert!(is_pinned("nats:2.14.6-alpine") && is_pinned("prom/prometheus:v3.13.3"));
    for loose in ["nats", "nats:latest", "nats:2", "nats:alpine"] {
        assert!(!is_pinned(loose), "{loose}");
    }
}

#[test]
fn images_are_pinned() {
    let compose = yaml("compose.yaml");
    let images = compose["services"].as_object().unwrap().values();
    let images: Vec<_> = images.map(|service| service["image"].as_str().unwrap()).collect();
    assert!(images.len() >= 9);
    let dockerfile = read("Dockerfile");
    let bases = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM "));
    let bases = bases.filter_map(|base| base.split(' ').next());
    for image in images.into_iter().chain(bases) {
        assert!(is_pinned(image), "{image}");
    }
}

#[test]
fn every_file_that_is_mounted_is_there() {
    let compose = yaml("compose.yaml");
    let declared = compose["volumes"].as_object().unwrap();
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let from = volume.as_str().unwrap().split(':').next().unwrap();
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(from);
            let known = from.starts_with("./") && path.exists() || declared.contains_key(from);
            assert!(known, "{name}: {from}");
        }
    }
}

/// What compose makes of a value: `$$` is `$`, and `${NAME:-default}` its default.
fn interpolated(text: &str) -> String {
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').unwrap();
        result += variable.split_once(":-").unwrap_or_else(|| panic!("{text}: no default")).1;
        result += rest;
    }
    result.replace("$$", "$")
}

/// The variables of a role, as compose and the image give them to it.
fn variables(compose: &Value, role: &str) -> Vec<(String, String)> {
    let given = compose["services"][role]["environment"].as_object().unwrap();
    let mut variables: Vec<_> = given
        .iter()
        .map(|(name, value)| (name.clone(), interpolated(value.as_str().unwrap())))
        .collect();
    let dockerfile = read("Dockerfile");
    let image = dockerfile.lines().filter_map(|line| line.strip_prefix("ENV "));
    variables.extend(image.map(|line| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    }));
    variables
}

/// What `lizards config` says when `command` runs with these variables and no others.
fn config(mut command: Command, variables: &[(String, String)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    command.current_dir(folder.path()).env_clear().envs(variables.iter().cloned());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn every_variable_of_a_role_is_a_key() {
    let compose = yaml("compose.yaml");
    for role in ["ingest", "process", "provide", "gateway"] {
        let variables = variables(&compose, role);
        let mut command = Command::new(env!("CARGO_BIN_EXE_lizards"));
        command.arg("config");
        let said = config(command, &variables);
        for (name, value) in &variables {
            let mut shown = said.lines().skip_while(|line| !line.ends_with(&format!("[{name}]")));
            let line = shown.nth(1).unwrap_or_else(|| panic!("{role}: {name} sets nothing"));
            let is_shown =
                line.ends_with(&format!(" = \"{value}\"")) || line.ends_with("\"(hidden)\"");
            assert!(is_shown, "{role}: {name}={value} became {line}");
        }
    }
}

/// The entry point is for the image, which is Linux.
#[cfg(target_os = "linux")]
#[test]
fn every_instance_registers_the_address_of_its_own_container() {
    let compose = yaml("compose.yaml");
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lizards"), folder.path().join("lizards"))
        .unwrap();
    for role in ["ingest", "process", "provide", "gateway"] {
        let entrypoint = compose["services"][role]["entrypoint"].as_array().unwrap();
        let mut words = entrypoint.iter().map(|word| interpolated(word.as_str().unwrap()));
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("config");
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let said = config(command, &[("PATH".to_owned(), path)]);
        let mut shown = said.lines().skip_while(|line| !line.contains("LIZARDS_SERVICE_ADVERTISE"));
        let advertised = shown.nth(1).and_then(|line| line.split('"').nth(1)).unwrap_or_default();
        assert!(advertised.parse::<std::net::IpAddr>().is_ok(), "{role}: {advertised:?}");
    }
}

#[test]
fn prometheus_asks_each_role_where_it_listens() {
    let (compose, prometheus) = (yaml("compose.yaml"), yaml("deploy/prometheus/prometheus.yml"));
    let jobs = prometheus["scrape_configs"].as_array().unwrap();
    let asked: BTreeSet<_> = jobs
        .iter()
        .map(|job| {
            let found = &job["dns_sd_configs"][0];
            (found["names"][0].as_str().unwrap().to_owned(), found["port"].as_u64().unwrap())
        })
        .collect();
    let roles = ["ingest", "process", "provide", "gateway"];
    let listening = roles.map(|role| {
        let environment = &compose["services"][role]["environment"];
        let listen = &environment[format!("LIZARDS_{}_LISTEN", role.to_uppercase())];
        let (_, port) = listen.as_str().unwrap().rsplit_once(':').unwrap();
        (role.to_owned(), port.parse().unwrap())
    });
    assert_eq!(asked, BTreeSet::from(listening));
}

/// The text of all sources below a folder.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    text
}

#[test]
fn every_metric_that_is_shown_is_counted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["ingest", "process", "provide", "gateway"];
    let code: String = folders.iter().map(|role| sources(&root.join(role).join("src"))).collect();
    for metric in METRICS {
        assert!(code.contains(&format!("\"{metric}\"")), "nobody counts {metric}");
    }
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard: Value =
        serde_json::from_str(&read("deploy/grafana/dashboards/lizards.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let shown: BTreeSet<_> = targets
        .flat_map(|target| {
            let expression = target["expr"].as_str().unwrap();
            expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        })
        .filter(|word| word.starts_with("lizards_"))
        .map(|word| word.trim_end_matches("_bucket"))
        .collect();
    assert_eq!(shown, BTreeSet::from(METRICS));
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "panels share an id");
}
