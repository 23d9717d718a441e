use super::*;

struct Fixed {
    variables: Vec<(&'static str, &'static str)>,
    files: Vec<(&'static str, &'static str)>,
}

impl Environment for Fixed {
    fn variables(&self) -> Vec<(String, String)> {
        self.variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn read(&self, path: &str) -> std::io::Result<String> {
        let file = self.files.iter().find(|(name, _)| *name == path);
        file.map(|(_, text)| (*text).to_owned()).ok_or(std::io::ErrorKind::NotFound.into())
    }
}

fn load(
    variables: &[(&'static str, &'static str)],
    file: &'static str,
    set: &[&str],
) -> Result<Loaded> {
    let environment = Fixed {
        variables: variables.to_vec(),
        files: vec![("lizards.toml", file), ("pw", "hush\n")],
    };
    let mut overrides = Overrides::default();
    overrides.assignments(&set.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Config::load(None, &overrides, &environment)
}

fn fault(variables: &[(&'static str, &'static str)], file: &'static str, set: &[&str]) -> String {
    load(variables, file, set).err().map(|error| format!("{error:#}")).expect("an error")
}

#[test]
fn a_secret_is_not_quoted_by_its_fault() {
    let name = "LIZARDS_PROVIDE_WEBSOCKET_API_KEYS";
    for value in ["hunter2", r#"["hunter2"]"#, r#"[{"key":"hunter2"}]"#, "[hunter2"] {
        let said = fault(&[(name, value)], "", &[]);
        assert!(said.contains("provide.websocket.api_keys"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn the_defaults_are_the_configuration_when_nothing_is_set() {
    assert_eq!(load(&[], "", &[]).unwrap().config, Config::default());
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let file =
        "[gateway]\nlisten = \"127.0.0.1:1\"\nburst = 7\n[nats]\nport = 5\nmonitor_port = 6\n";
    let loaded = load(
        &[("LIZARDS_NATS_PORT", "50"), ("LIZARDS_GATEWAY_LISTEN", "127.0.0.1:2")],
        file,
        &["gateway.listen=127.0.0.1:3"],
    )
    .unwrap();
    assert_eq!(loaded.config.gateway.listen, "127.0.0.1:3");
    assert_eq!(loaded.config.nats.port, 50);
    assert_eq!(loaded.config.nats.monitor_port, 6);
    let origin = |path: &str| {
        loaded
            .values
            .iter()
            .find(|(key, ..)| key.path == path)
            .map(|(.., o)| o.to_string())
            .unwrap()
    };
    assert_eq!(origin("gateway.listen"), "--set");
    assert_eq!(origin("nats.port"), "LIZARDS_NATS_PORT");
    assert_eq!(origin("nats.monitor_port"), "lizards.toml");
    assert_eq!(origin("data_dir"), "default");
}

#[test]
fn an_unknown_key_is_named_wherever_it_stands() {
    assert!(fault(&[], "[gateway]\nlissen = \"x\"", &[]).contains("unknown key gateway.lissen"));
    assert!(fault(&[], "[gatway]\nlisten = \"x\"", &[]).contains("unknown key gatway"));
    assert!(fault(&[("LIZARDS_GATEWAY_LISSEN", "x")], "", &[]).contains("LIZARDS_GATEWAY_LISSEN"));
    assert!(fault(&[], "", &["gateway.lissen=x"]).contains("unknown key gateway.lissen"));
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    assert!(fault(&[], "[gateway]\nlisten = 5", &[]).contains("gateway.listen: a text is wanted"));
    assert!(
        fault(&[("LIZARDS_NATS_PORT", "many")], "", &[])
            .contains("nats.port: a whole number is wanted, not \"many\"")
    );
    assert!(fault(&[], "[nats]\nport = 70000", &[]).contains("nats.port (lizards.toml)"));
    assert!(fault(&[], "[nats]\nport = -1", &[]).contains("nats.port"));
    assert!(fault(&[], "[broker]\nkind = \"kafka\"", &[]).contains("broker.kind (lizards.toml)"));
    assert!(fault(&[], "[nats\n", &[]).contains("lizards.toml"));
}

#[test]
fn lists_and_tables_can_be_set() {
    let loaded = load(&[("LIZARDS_INGEST_SOURCES", "sim, file")], "", &[]).unwrap();
    assert_eq!(loaded.config.ingest.sources, ["sim", "file"]);
    let site = "[[html]]\nname = \"a\"\nurl = \"http://x\"\nrows = \"tr\"\ncurrency = \"USD\"\nsymbol = { select = \"td\" }\nprice = { select = \"b\" }\n";
    let loaded = load(&[], site, &[]).unwrap();
    assert_eq!(loaded.config.html[0].name, "a");
    let wrong = "[[html]]\nname = \"a\"\nurrl = \"http://x\"\n";
    assert!(fault(&[], wrong, &[]).contains("html[0]"));
}

#[test]
fn a_secret_comes_from_the_environment_or_a_file_and_never_from_a_flag() {
    let loaded = load(&[("LIZARDS_NATS_PASSWORD_FILE", "pw")], "", &[]).unwrap();
    assert_eq!(loaded.config.nats.password, "hush");
    assert!(fault(&[], "", &["nats.password=x"]).contains("LIZARDS_NATS_PASSWORD"));
    assert!(!loaded.to_string().contains("hush"));
    let in_url = load(&[("LIZARDS_NATS_URL", "nats://me:hush@a:1")], "", &[]).unwrap();
    assert!(!in_url.to_string().contains("hush"), "{in_url}");
    assert!(fault(&[("LIZARDS_NATS_PORT_FILE", "pw")], "", &[]).contains("LIZARDS_NATS_PORT_FILE"));
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let environment = Fixed { variables: vec![("LIZARDS_CONFIG", "gone.toml")], files: vec![] };
    let fault = Config::load(None, &Overrides::default(), &environment).err().unwrap();
    assert!(format!("{fault:#}").contains("gone.toml"));
}

#[test]
fn what_is_printed_can_be_read_back() {
    let loaded = load(&[("LIZARDS_NATS_PORT", "50")], "", &[]).unwrap();
    let printed: &'static str = Box::leak(loaded.to_string().into_boxed_str());
    assert!(printed.contains("port = 50"));
    let again = load(&[], printed, &[]).unwrap();
    assert_eq!(again.config.nats.port, 50);
}

#[test]
fn empty_variables_set_nothing_that_cannot_be_empty() {
    let loaded = load(&[("LIZARDS_CONFIG", "")], "[nats]\nport = 5\n", &[]).unwrap();
    assert_eq!(loaded.config.nats.port, 5, "the default file is read");
    let loaded = load(&[("LIZARDS_DATA_DIR", "")], "", &[]).unwrap();
    assert!(loaded.config.check().unwrap_err().to_string().starts_with("data_dir:"));
    assert!(fault(&[("LIZARDS_NATS_PORT", "")], "", &[]).contains("nats.port"));
}

#[test]
fn credentials_in_the_address_of_nats_are_refused() {
    let loaded = load(&[], "", &["nats.url=nats://me:hush@localhost"]).unwrap();
    let fault = loaded.config.check().unwrap_err().to_string();
    assert!(fault.starts_with("nats.url:") && !fault.contains("hush"), "{fault}");
}

#[test]
fn a_flag_sets_a_list() {
    let loaded = load(&[], "", &["ingest.sources=sim, coinbase"]).unwrap();
    assert_eq!(loaded.config.ingest.sources, ["sim", "coinbase"]);
    let loaded = load(&[], "", &[r#"ingest.sources=["html:a,b"]"#]).unwrap();
    assert_eq!(loaded.config.ingest.sources, ["html:a,b"]);
}
