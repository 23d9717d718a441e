//! `lizards doctor`: what is wrong with a setup, in plain words.

use std::{io::ErrorKind, net::TcpListener, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use nats::{Nats, server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    config::{BrokerKind, Config},
    print::print,
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
    // What counts at the end is the exit code; a reader may have gone.
    fn good(&self, what: &str) {
        let _ = print(format_args!("ok     {what}\n"));
    }

    fn fault(&mut self, what: &str) {
        self.faults += 1;
        let _ = print(format_args!("FAULT  {what}\n"));
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
    let scratch = Scratch::new(config);
    folder(config, &mut findings);
    let runs = listeners(config, &mut findings).await;
    if runs && config.nats.url.is_empty() {
        private_server_of_another(config, &mut findings).await;
    } else if config.nats.url.is_empty() {
        private_server(config, &scratch, &mut findings).await;
    } else if let Some(nats) = connection(config, &mut findings).await {
        running_server(config, &nats, &mut findings).await;
    }
    stores(config, &scratch, runs, &mut findings).await;
    let (verdict, code) = match findings.faults {
        0 => ("Nothing is wrong.".to_owned(), ExitCode::SUCCESS),
        1 => ("One thing is wrong.".to_owned(), ExitCode::FAILURE),
        faults => (format!("{faults} things are wrong."), ExitCode::FAILURE),
    };
    let _ = print(format_args!("\n{verdict}\n"));
    Ok(code)
}

/// A folder for what is only tried out. It goes at the end, and the data folder with it where that
/// was not there before.
struct Scratch {
    folder: PathBuf,
    new_data_dir: Option<PathBuf>,
}

impl Scratch {
    fn new(config: &Config) -> Self {
        let data_dir = config.data_dir.clone();
        let folder = data_dir.join(".doctor");
        Self { folder, new_data_dir: (!data_dir.exists()).then_some(data_dir) }
    }

    /// Where to open an embedded store: where it is, else where it leaves nothing.
    fn or_data_dir(&self, config: &Config, file: &str) -> PathBuf {
        if config.data_dir.join(file).exists() {
            config.data_dir.clone()
        } else {
            self.folder.clone()
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
        if let Some(folder) = &self.new_data_dir {
            // It stays where somebody else has begun to use it.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

fn folder(config: &Config, findings: &mut Findings) {
    let scratch = config.data_dir.join(".doctor");
    let written = roles::make_folder(config).and_then(|()| {
        std::fs::create_dir_all(&scratch)?;
        // More than a block, so that a full disk is noticed.
        std::fs::write(scratch.join("probe"), [0_u8; 64 << 10])?;
        Ok(())
    });
    let folder = config.data_dir.display();
    let written =
        written.map_err(|fault| format!("data_dir: {folder} cannot be written: {fault:#}"));
    findings.result(written, &format!("{folder} can be written"));
}

/// Whether each role can listen, or does already; gives whether one does.
async fn listeners(config: &Config, findings: &mut Findings) -> bool {
    let mut runs = false;
    for role in RoleName::ALL {
        let (name, listen) = (role.as_str(), role.listen(config));
        match TcpListener::bind(listen) {
            Ok(_) => findings.good(&format!("{name} can listen on {listen}")),
            Err(fault) if fault.kind() == ErrorKind::AddrInUse && is_lizards(listen).await => {
                runs = true;
                findings.good(&format!("{name} listens on {listen}: lizards runs already"));
            }
            Err(fault) => findings.fault(&format!(
                "{name}.listen: {listen} cannot be listened on: {fault}; choose another with \
                 {name}.listen"
            )),
        }
    }
    runs
}

/// Whether one of ours answers there.
async fn is_lizards(listen: &str) -> bool {
    let asked = async {
        let mut socket = TcpStream::connect(listen).await?;
        socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        socket.take(1 << 20).read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.contains("lizards_"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), asked).await, Ok(Ok(true)))
}

/// Would `lizards up` get its private server to run?
async fn private_server(config: &Config, scratch: &Scratch, findings: &mut Findings) {
    let started = server::Server::start(&config.nats, &scratch.folder.join("nats")).await;
    if let Some(started) = findings.result(started, "a private nats-server starts") {
        let mut config = config.clone();
        started.url().clone_into(&mut config.nats.url);
        if let Some(nats) = connection(&config, findings).await {
            running_server(&config, &nats, findings).await;
        }
        started.stop().await;
    }
}

/// The private server belongs to the lizards that runs; only one with a known port can be found.
async fn private_server_of_another(config: &Config, findings: &mut Findings) {
    if config.nats.port == 0 {
        return findings.good("its private nats-server has any free port and is not examined");
    }
    let mut config = config.clone();
    config.nats.url = format!("nats://127.0.0.1:{}", config.nats.port);
    if let Some(nats) = connection(&config, findings).await {
        running_server(&config, &nats, findings).await;
    }
}

async fn connection(config: &Config, findings: &mut Findings) -> Option<Nats> {
    let nats =
        findings.result(roles::lease_connection(config).await, "NATS answers, with JetStream")?;
    findings.good(&format!("nats-server is version {}", nats.server_version()));
    Some(nats)
}

async fn running_server(config: &Config, nats: &Nats, findings: &mut Findings) {
    let streams = match config.broker.kind {
        BrokerKind::Jetstream => Some(&config.streams),
        BrokerKind::Rabbitmq => {
            let broker = roles::broker(config, nats).await.map(drop);
            findings.result(broker.map_err(|fault| format!("{fault:#}")), "RabbitMQ answers");
            None
        }
    };
    let probed = nats.probe(streams).await;
    match findings.result(probed, "the limits of the streams fit") {
        Some(skew) if skew > TOLERATED_SKEW => findings.fault(&format!(
            "the clock here and that of the NATS server are {:.1} s apart; event times and leases \
             need them to agree: run NTP on both",
            skew.as_secs_f64()
        )),
        Some(_) => findings.good("the clocks agree with the server's"),
        None => {}
    }
}

/// Opens the stores. The embedded ones of a lizards that runs are its own: they are tried elsewhere.
async fn stores(config: &Config, scratch: &Scratch, runs: bool, findings: &mut Findings) {
    let folder_of =
        |file| if runs { scratch.folder.clone() } else { scratch.or_data_dir(config, file) };
    if config.ingest.archive.url == "none" {
        findings.good("the archive is turned off");
    } else {
        let folder = folder_of("raw.db");
        let archive = ingest::archive::open(&config.ingest.archive, &folder).await;
        findings.result(archive.map(drop), "the raw store opens");
    }
    let folder = folder_of("lizards.db");
    let store = provide::store::open_writer(&config.provide.store, &folder).await;
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
