//! `lizards doctor`: what is wrong with a setup, in plain words.

use std::{net::TcpListener, process::ExitCode, time::Duration};

use anyhow::Result;
use nats::{Nats, server};

use crate::{
    config::{BrokerKind, Config},
    roles::{self, RoleName},
};

/// More than this between two clocks spoils event times and leases.
const TOLERATED_SKEW: Duration = Duration::from_secs(1);

/// Findings, printed as they are made.
#[derive(Default)]
struct Findings {
    faults: u32,
}

impl Findings {
    fn good(&self, what: &str) {
        println!("ok     {what}");
    }

    fn fault(&mut self, what: &str) {
        self.faults += 1;
        println!("FAULT  {what}");
    }

    fn result<T>(&mut self, result: Result<T, impl std::fmt::Display>, good: &str) -> Option<T> {
        match result {
            Ok(value) => {
                self.good(good);
                Some(value)
            }
            Err(fault) => {
                self.fault(&fault.to_string());
                None
            }
        }
    }
}

/// Examines everything that the configuration names; fails when anything is wrong.
pub(crate) async fn run(config: &Config) -> Result<ExitCode> {
    let mut findings = Findings::default();
    findings.result(config.check(), "the configuration fits together");
    for role in RoleName::ALL {
        let checked = role.check(config);
        findings.result(checked, &format!("the configuration of {} can be used", role.as_str()));
    }
    folder(config, &mut findings);
    listeners(config, &mut findings);
    if config.nats.url.is_empty() && roles::lease_connection(config).await.is_err() {
        private_server(config, &mut findings).await;
    } else if let Some(nats) = connection(config, &mut findings).await {
        running_server(config, &nats, &mut findings).await;
    }
    stores(config, &mut findings).await;
    println!();
    if findings.faults == 0 {
        println!("Nothing is wrong.");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} wrong.",
        if findings.faults == 1 {
            "One thing is".into()
        } else {
            format!("{} things are", findings.faults)
        }
    );
    Ok(ExitCode::FAILURE)
}

fn folder(config: &Config, findings: &mut Findings) {
    let probe = config.data_dir.join(".doctor");
    let written = roles::make_folder(config).and_then(|()| {
        // More than a block, so that a full disk is noticed.
        std::fs::write(&probe, [0_u8; 64 << 10])?;
        std::fs::remove_file(&probe)?;
        Ok(())
    });
    let folder = config.data_dir.display();
    let written =
        written.map_err(|fault| format!("data_dir: {folder} cannot be written: {fault:#}"));
    findings.result(written, &format!("{folder} can be written"));
}

fn listeners(config: &Config, findings: &mut Findings) {
    for role in RoleName::ALL {
        let (name, listen) = (role.as_str(), role.listen(config));
        match TcpListener::bind(listen) {
            Ok(_) => findings.good(&format!("{name} can listen on {listen}")),
            Err(fault) => findings.fault(&format!(
                "{name}.listen: {listen} cannot be listened on: {fault} (does lizards run already?)"
            )),
        }
    }
}

/// Nothing runs where NATS is expected: would `lizards up` get its private server to run?
async fn private_server(config: &Config, findings: &mut Findings) {
    let folder = config.data_dir.join("doctor-nats");
    let started = server::Server::start(&config.nats, &folder).await;
    if let Some(started) = findings.result(started, "a private nats-server starts") {
        let mut config = config.clone();
        started.url().clone_into(&mut config.nats.url);
        if let Some(nats) = connection(&config, findings).await {
            running_server(&config, &nats, findings).await;
        }
        started.stop().await;
    }
    let _ = std::fs::remove_dir_all(folder);
}

async fn connection(config: &Config, findings: &mut Findings) -> Option<Nats> {
    let nats =
        findings.result(roles::lease_connection(config).await, "NATS answers, with JetStream")?;
    findings.good(&format!("nats-server is version {}", nats.server_version()));
    Some(nats)
}

async fn running_server(config: &Config, nats: &Nats, findings: &mut Findings) {
    let fit = nats.check_storage(&config.streams).await;
    if config.broker.kind == BrokerKind::Jetstream
        && findings.result(fit, "the limits of the streams fit into the account").is_none()
    {
        return;
    }
    // What a start does first, too.
    let declared = match roles::broker(config, nats).await {
        Ok(broker) => broker.declare().await.map_err(|fault| fault.to_string()),
        Err(fault) => Err(format!("{fault:#}")),
    };
    findings.result(declared, "the streams are there");
    match nats.clock_skew().await {
        Ok(skew) if skew <= TOLERATED_SKEW => findings.good("the clocks agree with the server's"),
        Ok(skew) => findings.fault(&format!(
            "the clock here and that of the NATS server are {:.1} s apart; event times and leases \
             need them to agree: run NTP on both",
            skew.as_secs_f64()
        )),
        Err(fault) => findings.fault(&fault.to_string()),
    }
}

async fn stores(config: &Config, findings: &mut Findings) {
    if config.ingest.archive.url == "none" {
        findings.good("the archive is turned off");
    } else {
        let archive = ingest::archive::open(&config.ingest.archive, &config.data_dir).await;
        findings.result(archive.map(drop), "the raw store opens");
    }
    let store = provide::store::open_writer(&config.provide.store, &config.data_dir).await;
    if findings.result(store.map(drop), "the store of ticks opens for writing").is_none() {
        return;
    }
    match provide::store::reader_can_write(&config.provide.store).await {
        Ok(false) => findings.good("the reader of the store of ticks cannot write"),
        Ok(true) => findings.fault(
            "provide.store.reader_url: this database role can write; use one that may only SELECT",
        ),
        Err(fault) => findings.fault(&fault.to_string()),
    }
}
