//! nats-server's own WebSocket listener.

use std::{collections::HashMap, ffi::OsStr, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{Process, Server};
use crate::{
    bench::{fanout::publisher::Publisher, process::Program},
    config::Config,
};

/// Its defaults, but for pings, which would only disturb.
const CONFIGURATION: &str = r#"
listen: "127.0.0.1:-1"
ports_file_dir: "{folder}"
log_file: "{folder}/nats-server.log"
ping_interval: "1h"
websocket { listen: "127.0.0.1:-1", no_tls: true }
"#;

const START_DEADLINE: Duration = Duration::from_secs(20);

pub(super) struct NatsServer {
    program: Program,
    _folder: TempDir,
}

impl NatsServer {
    pub(super) async fn start(config: &Config) -> Result<Server> {
        let folder = TempDir::with_prefix("lizards-bench-")?;
        let file = folder.path().join("nats-server.conf");
        let path = folder.path().display().to_string();
        std::fs::write(&file, CONFIGURATION.replace("{folder}", &path))?;
        let program = nats::server::program(&config.nats)?;
        let args = [OsStr::new("--config"), file.as_os_str()];
        let mut program = Program::start(&program, &args, &[]).await?;
        let deadline = Instant::now() + START_DEADLINE;
        let ports = loop {
            if let Some(ports) = ports(folder.path()) {
                break ports;
            }
            if program.has_ended() || Instant::now() > deadline {
                let log = std::fs::read_to_string(folder.path().join("nats-server.log"));
                bail!("nats-server does not start: {}", log.unwrap_or_default());
            }
            sleep(Duration::from_millis(10)).await;
        };
        let address = |what: &str| {
            let url = ports.get(what).and_then(|urls| urls.first());
            let address = url.and_then(|url| url.split_once("://")).map(|(_, address)| address);
            address.map(str::to_owned).with_context(|| format!("nats-server has no {what} port"))
        };
        let publisher = Publisher::core(&address("nats")?).await?;
        let address = address("websocket")?;
        let process = Process::Nats(Self { program, _folder: folder });
        Ok(Server { process, address, publisher })
    }

    pub(super) fn pid(&self) -> u32 {
        self.program.pid()
    }

    pub(super) async fn stop(self) {
        self.program.stop().await;
    }
}

/// What it has written into its ports file, once that is whole.
fn ports(folder: &Path) -> Option<HashMap<String, Vec<String>>> {
    let mut files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let file = files.find(|file| file.path().extension() == Some(OsStr::new("ports")))?;
    serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()
}
