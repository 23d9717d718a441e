//! The program itself, run as users run it: its own processes, configured by the environment.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use nats::{Directory, Nats, NatsConfig};
use schemas::http::Instance;
use tempfile::TempDir;

use crate::servers::{
    self,
    guard::{self, Guard},
};

/// How long a role may take to be there, on a machine that does much else.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Short, so that a killed owner is replaced within a test's patience.
const LEASE_TTL: Duration = Duration::from_millis(1_500);

/// One installation: a data folder and the settings that all its processes share.
pub(crate) struct Installation {
    settings: Vec<(String, String)>,
    folder: TempDir,
}

/// A running process of the program.
pub(crate) struct Process {
    guard: Guard,
}

impl Installation {
    /// An installation whose roles use the NATS at `url`, on free ports.
    pub(crate) fn at(url: &str) -> Self {
        let mut installation = Self::private();
        installation.set("nats.url", url);
        installation
    }

    /// An installation that starts its own nats-server.
    pub(crate) fn private() -> Self {
        let folder = guard::directory("data");
        let mut installation = Self { settings: Vec::new(), folder };
        let data = installation.folder.path().display().to_string();
        installation.set("data_dir", data);
        for role in ["ingest", "process", "provide", "gateway"] {
            installation.set(&format!("{role}.listen"), "127.0.0.1:0");
        }
        installation.set("nats.server", servers::nats_server_program().display());
        installation.set("nats.port", 0);
        installation.set("nats.monitor_port", 0);
        installation.set("service.lease_ttl_ms", LEASE_TTL.as_millis());
        installation.set("log.level", "info");
        // Tests are many clients at one address.
        installation.set("gateway.requests_per_second", 0);
        installation
    }

    /// Sets a key of the configuration.
    pub(crate) fn set(&mut self, key: &str, value: impl ToString) {
        let variable = format!("LIZARDS_{}", key.replace('.', "_").to_uppercase());
        self.settings.retain(|(name, _)| *name != variable);
        self.settings.push((variable, value.to_string()));
    }

    /// Where its data is.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The program with these arguments, configured.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lizards"));
        command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a process of the program; it is stopped when dropped.
    pub(crate) fn start(&self, name: &'static str, args: &[&str]) -> Process {
        Process::of(name, &self.command(args))
    }

    /// Starts a role.
    pub(crate) fn role(&self, role: &'static str) -> Process {
        self.start(role, &[role])
    }
}

impl Process {
    /// A process that this command starts; it is stopped when dropped.
    pub(crate) fn of(name: &'static str, command: &Command) -> Self {
        Self { guard: Guard::start(name, guard::directory(name), "TERM", command) }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.guard.has_ended()
    }

    /// Kills it as a crash would: `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.guard.kill().await;
    }

    /// Starts it again after a kill.
    pub(crate) async fn start_again(&mut self) {
        self.guard.start_again().await;
    }

    /// Sends it a signal: `STOP` and `CONT` make it stall and wake.
    pub(crate) fn signal(&self, signal: &str) {
        self.guard.signal(signal);
    }

    /// Its process id.
    pub(crate) fn id(&self) -> String {
        let file = self.guard.directory().join("pid");
        std::fs::read_to_string(file).expect("it was started").trim().to_owned()
    }

    /// Everything it has printed.
    pub(crate) fn log(&self) -> String {
        self.guard.log()
    }
}

/// A connection to NATS as a role has it, with the registry.
pub(crate) struct Registry {
    pub(crate) nats: Nats,
    directory: Directory,
}

impl Registry {
    /// Connects and follows the registry.
    pub(crate) async fn at(url: &str) -> Self {
        let config = NatsConfig { url: url.to_owned(), ..NatsConfig::default() };
        let nats = Nats::connect(&config, LEASE_TTL, 1).await.expect("the test's NATS runs");
        let directory = Directory::follow(&nats).await.expect("the test's NATS has buckets");
        Self { nats, directory }
    }

    /// The live instances of a role.
    pub(crate) fn instances(&self, role: &str) -> Vec<Instance> {
        self.instances_of(&format!("lizards-{role}"))
    }

    /// The live instances of any service.
    pub(crate) fn instances_of(&self, service: &str) -> Vec<Instance> {
        self.directory.instances(service)
    }

    /// Where the newest instance of a role listens, once there is one.
    pub(crate) async fn address(&self, role: &str) -> String {
        let since = Instant::now();
        loop {
            let newest = self.instances(role).into_iter().max_by_key(|found| found.registered_at);
            if let Some(found) = newest {
                return format!("{}:{}", found.ip_address, found.port_number);
            }
            assert!(since.elapsed() < READY_WITHIN, "{role} is not registered");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}
