//! `lizards bench`, as small as it gets: it works, and measures something.

use serde_json::Value;

use crate::lizards::Installation;

/// What the program says when it is run with these arguments.
fn report(args: &str) -> Value {
    let installation = Installation::private();
    let file = installation.folder().join("report.json");
    let output = installation
        .command(&args.split_whitespace().collect::<Vec<_>>())
        .arg("--json")
        .arg(&file)
        .output()
        .expect("the program is built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let text = std::fs::read_to_string(&file).expect("it was written");
    serde_json::from_str(&text).expect("it is JSON")
}

#[test]
fn the_fan_out_is_measured_beside_all_others() {
    let report =
        report("bench fanout --only bursts,coalesced,slow,idle --clients 7 --repeat 2 --secs 0.1");
    let targets = |rows: &Value| {
        let rows = rows.as_array().expect("a list").iter();
        rows.map(|row| row["target"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let sections = report["sections"].as_array().expect("a list");
    let names: Vec<_> = sections.iter().map(|section| section["mode"].as_str()).collect();
    assert_eq!(names, [Some("bursts"), Some("coalesced"), Some("slow"), Some("slow")]);
    assert_eq!(
        targets(&sections[0]["rows"]),
        ["ours", "ours_plain", "nats", "axum", "floor", "tasks", "ring"]
    );
    assert_eq!(targets(&report["idle"]), ["ours", "ours_plain", "nats", "axum"]);
    for row in sections.iter().flat_map(|section| section["rows"].as_array().expect("a list")) {
        for positive in ["cpu_us", "deliveries_per_sec", "ticks_per_sec", "p99_ms"] {
            assert!(row[positive]["least"].as_f64() > Some(0.0), "{positive}: {row}");
        }
    }
}

#[test]
fn processing_is_measured_beside_bare_relays() {
    let report = report("bench relay --only rate,delay --repeat 1 --messages 2000");
    let rows = report["sections"][0]["rows"].as_array().expect("a list");
    assert_eq!(rows.len(), 4);
    for row in rows {
        for positive in ["per_sec", "server_us", "target_us"] {
            assert!(row[positive]["median"].as_f64() > Some(0.0), "{positive}: {row}");
        }
    }
    let delays = report["delays"].as_array().expect("a list");
    assert_eq!(delays.len(), 2);
    assert!(delays.iter().all(|row| row["delays"]["p50_ms"].as_f64() > Some(0.0)), "{report}");
}

#[test]
fn the_file_source_is_measured_beside_bare_publishers() {
    let report = report("bench publish --repeat 1 --messages 3000");
    let rows = report["rows"].as_array().expect("a list");
    assert_eq!(rows.len(), 5);
    for row in rows {
        for positive in ["per_sec", "server_us", "target_us"] {
            assert!(row[positive]["median"].as_f64() > Some(0.0), "{positive}: {row}");
        }
    }
}

#[test]
fn fetching_is_measured_beside_the_least_program() {
    let report = report(
        "bench ingest --only both,archive --polled 20 --interval-secs 1 --answer-ms 5 \
         --connections 4 --per-sec 20 --burst 5 --secs 1.5",
    );
    let sections = report["sections"].as_array().expect("a list");
    let targets: Vec<_> = sections
        .iter()
        .flat_map(|section| section["rows"].as_array().expect("a list"))
        .map(|row| {
            let run = &row["runs"][0];
            for positive in ["core_share", "payloads_per_sec", "target_us", "server_us"] {
                assert!(run[positive].as_f64() > Some(0.0), "{positive}: {row}");
            }
            for timed in ["late", "quotes", "trades"] {
                assert!(run[timed]["count"].as_u64() >= Some(20), "{timed}: {row}");
            }
            row["target"].as_str().expect("a name")
        })
        .collect();
    assert_eq!(targets, ["bare", "ours", "ours", "with-archive"]);
}
