//! NATS with JetStream, one server per test.

use std::{path::PathBuf, process::Command, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream};

use super::{find, guard, guard::Guard, port};

/// A private nats-server with a store of its own; stopped when dropped.
pub(crate) struct NatsServer {
    guard: Guard,
    address: String,
    monitor: String,
}

const READY_WITHIN: Duration = Duration::from_secs(20);

/// Where the program is.
pub(crate) fn nats_server_program() -> PathBuf {
    find::program("LIZARDS_NATS_SERVER", &[".tools/bin/nats-server", "nats-server"])
}

impl NatsServer {
    /// Starts one with JetStream.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with further command line arguments.
    pub(crate) async fn start_with(args: &[&str]) -> Self {
        Self::launch(args, "").await
    }

    /// Starts one that has no JetStream.
    pub(crate) async fn without_jetstream() -> Self {
        Self::launch(&[], "enabled: false").await
    }

    /// Starts one whose clients together may store so much.
    pub(crate) async fn with_storage_limit(limit: &str) -> Self {
        Self::launch(&[], &format!("max_file_store: {limit}")).await
    }

    async fn launch(args: &[&str], jetstream: &str) -> Self {
        let directory = guard::directory("nats");
        // Not ports of its own choice: while it is down, one of those could become the near end of
        // a client's connection, even of one that tries to come back to it.
        let [address, monitor] = [(); 2].map(|()| format!("127.0.0.1:{}", port::free()));
        let config = directory.path().join("server.conf");
        let text = format!(
            "listen: \"{address}\"\nhttp: \"{monitor}\"\n\
             jetstream {{ store_dir: \"{store}\"\n{jetstream} }}\n",
            store = directory.path().join("store").display(),
        );
        std::fs::write(&config, text).expect("the directory is ours");

        let mut server = Command::new(nats_server_program());
        server.arg("--config").arg(config).args(args);
        let guard = Guard::start("nats-server", directory, "KILL", &server);
        let started = Self { guard, address, monitor };
        started.answers().await;
        started
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Where it answers about itself over HTTP.
    pub(crate) fn monitor_url(&self) -> String {
        format!("http://{}", self.monitor)
    }

    /// Kills it as a crash would; its store stays.
    pub(crate) async fn kill(&mut self) {
        self.guard.kill().await;
    }

    /// Starts it again with the same store and ports, after killing it if it still runs.
    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        self.guard.start_again().await;
        self.answers().await;
    }

    /// It opens its door to clients when JetStream has recovered.
    async fn answers(&self) {
        let greeting = async || {
            let mut client = TcpStream::connect(&self.address).await.ok()?;
            let mut info = [0; 4];
            client.read_exact(&mut info).await.ok()?;
            (&info == b"INFO").then_some(())
        };
        self.guard.until(READY_WITHIN, greeting).await;
    }
}
