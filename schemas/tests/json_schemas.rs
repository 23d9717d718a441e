//! The JSON Schemas in `schemas/json/` are those of the types. To write them anew:
//! `UPDATE_SCHEMAS=1 cargo test -p lizards-schemas --test json_schemas`.

use std::{env, fs, path::Path};

use schemars::{Schema, schema_for};

fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("tick", schema_for!(schemas::Tick)),
        ("candle", schema_for!(schemas::Candle)),
        ("client_message", schema_for!(schemas::ClientMessage)),
        ("server_message", schema_for!(schemas::ServerMessage)),
        ("dry_run", schema_for!(schemas::DryRun)),
        ("instance", schema_for!(schemas::http::Instance)),
        ("sources", schema_for!(schemas::http::Sources)),
        ("source_status", schema_for!(schemas::http::SourceStatus)),
        ("source_setting", schema_for!(schemas::SourceSetting)),
        ("posted", schema_for!(schemas::http::Posted)),
        ("session", schema_for!(schemas::http::Session)),
        ("quotes", schema_for!(schemas::http::Quotes)),
        ("tick_page", schema_for!(schemas::http::TickPage)),
        ("candles", schema_for!(schemas::http::Candles)),
        ("symbols", schema_for!(schemas::http::Symbols)),
        ("services", schema_for!(schemas::http::Services)),
        ("service_entry", schema_for!(schemas::http::ServiceEntry)),
        ("alert", schema_for!(schemas::alert::Alert)),
        ("new_alert_rule", schema_for!(schemas::http::NewAlertRule)),
        ("alert_rules", schema_for!(schemas::http::AlertRules)),
        ("alert_rule_details", schema_for!(schemas::http::AlertRuleDetails)),
        ("register_instance", schema_for!(schemas::http::RegisterInstance)),
    ]
}

#[test]
fn the_schemas_in_the_repository_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
    let update = env::var_os("UPDATE_SCHEMAS").is_some();
    for (name, schema) in schemas() {
        let file = folder.join(format!("{name}.schema.json"));
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, &generated).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            kept == generated,
            "{} has drifted from its type; run this test with UPDATE_SCHEMAS=1",
            file.display()
        );
    }
}
