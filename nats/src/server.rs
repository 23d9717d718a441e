//! Finds, starts, watches and stops a private nats-server.

use std::{
    env,
    fs::{File, TryLockError},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    fs,
    process::{Child, ChildStdin, Command},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use crate::NatsConfig;

/// The configuration of the private server; what is decided at the start stands in `{…}`.
const CONFIGURATION: &str = include_str!("server.conf");

/// Runs the server and stops it when our end of its standard input closes: a process that is
/// killed leaves no server behind.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
{ cat <&3 >/dev/null; kill -TERM "$server" 2>/dev/null; } &
wait "$server"
"#;

/// How long the server may take to listen.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long the server may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// How long the server of a process that was killed may take to stop, before its folder counts as
/// somebody else's.
const PREDECESSOR_DEADLINE: Duration = Duration::from_secs(5);

/// A private nats-server that stops with us.
pub struct Server {
    url: String,
    monitor_url: String,
    pid: u32,
    guard: Child,
    alive: Option<ChildStdin>,
    log: PathBuf,
}

/// A private server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There is no program to start.
    #[error(
        "no nats-server was found in .tools/bin or on PATH; `make run` gets one, nats.server names \
         one, and nats.url (--nats-url) uses one that runs already"
    )]
    NotFound,
    /// Somebody else listens there.
    #[error(
        "port {port} for {what} is taken: {fault}; choose another with {key}, or use the NATS \
         server that runs there with --nats-url nats://127.0.0.1:{port}"
    )]
    PortTaken {
        /// Which port.
        port: u16,
        /// What it was for.
        what: &'static str,
        /// The key that chooses another.
        key: &'static str,
        /// What the system says.
        fault: std::io::Error,
    },
    /// Another server has its streams there, and two of them would ruin each other's.
    #[error(
        "another lizards runs its private nats-server in {0}; stop that one, use it with \
         --nats-url, or keep this one's data elsewhere with --data-dir"
    )]
    FolderTaken(PathBuf),
    /// Its files cannot be written.
    #[error("the folder of the private nats-server cannot be written: {path}: {fault}")]
    Folder {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        fault: std::io::Error,
    },
    /// It does not start.
    #[error("the private nats-server {program} does not start: {fault}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What it says.
        fault: String,
    },
    /// It ended while it was needed.
    #[error("the private nats-server ended: {0}")]
    Ended(String),
}

/// What the server writes into its ports file.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
    #[serde(default)]
    monitoring: Vec<String>,
}

impl Server {
    /// Starts a server with its streams in `folder`. The ports are those of the configuration; 0
    /// is any free one.
    pub async fn start(config: &NatsConfig, folder: &Path) -> Result<Self, ServerError> {
        let program = program(config)?;
        let written = |path: &Path| {
            let path = path.to_owned();
            move |fault| ServerError::Folder { path, fault }
        };
        fs::create_dir_all(folder).await.map_err(written(folder))?;
        let lock = lock(folder).await?;
        check_free(config.port, "NATS", "nats.port")?;
        check_free(config.monitor_port, "NATS monitoring", "nats.monitor_port")?;
        let ports_folder = folder.join("ports");
        // Left by a server that was killed, it would name ports of the past.
        if let Err(fault) = fs::remove_dir_all(&ports_folder).await
            && fault.kind() != std::io::ErrorKind::NotFound
        {
            return Err(written(&ports_folder)(fault));
        }
        fs::create_dir_all(&ports_folder).await.map_err(written(&ports_folder))?;
        let log = folder.join("nats-server.log");
        let configuration = folder.join("nats-server.conf");
        let text = CONFIGURATION
            .replace("{port}", &any_if_zero(config.port))
            .replace("{monitor_port}", &any_if_zero(config.monitor_port))
            .replace("{store}", &quoted(&folder.join("jetstream")))
            .replace("{ports}", &quoted(&ports_folder))
            .replace("{log}", &quoted(&log));
        fs::write(&configuration, text).await.map_err(written(&configuration))?;
        fs::write(&log, "").await.map_err(written(&log))?;

        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(&program)
            .arg("--config")
            .arg(&configuration)
            .stdin(Stdio::piped())
            // Nothing is printed there: it is how the server itself holds the lock, to its end.
            .stdout(Stdio::from(lock))
            .stderr(Stdio::null())
            // Ctrl-C goes to our process group: the server must outlive the draining.
            .process_group(0)
            .spawn()
            .map_err(|fault| ServerError::Start {
                program: program.clone(),
                fault: fault.to_string(),
            })?;
        let alive = guard.stdin.take();
        let (url, monitor_url) = (String::new(), String::new());
        let mut server = Self { url, monitor_url, pid: 0, guard, alive, log };
        let (pid, ports) = server.wait_for_ports(&ports_folder, &program).await?;
        server.pid = pid;
        server.url = ports.nats.into_iter().next().unwrap_or_default();
        server.monitor_url = ports.monitoring.into_iter().next().unwrap_or_default();
        info!(url = server.url, monitoring = server.monitor_url, "private nats-server started");
        Ok(server)
    }

    /// Where clients connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its HTTP monitoring is.
    pub fn monitor_url(&self) -> &str {
        &self.monitor_url
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Resolves when the server ends by itself, with the last thing it said.
    pub async fn ended(&mut self) -> ServerError {
        let status = self.guard.wait().await;
        let status = status.map_or_else(|fault| fault.to_string(), |status| status.to_string());
        ServerError::Ended(format!("{status}; {}", self.last_words().await))
    }

    /// Stops the server and waits for it.
    pub async fn stop(mut self) {
        drop(self.alive.take());
        match tokio::time::timeout(STOP_DEADLINE, self.guard.wait()).await {
            Ok(_) => info!("private nats-server stopped"),
            Err(_) => warn!("the private nats-server has not stopped in time"),
        }
    }

    async fn wait_for_ports(
        &mut self,
        folder: &Path,
        program: &Path,
    ) -> Result<(u32, Ports), ServerError> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(ports) = read_ports(folder).await {
                return Ok(ports);
            }
            let gone = matches!(self.guard.try_wait(), Ok(Some(_)));
            if gone || Instant::now() > deadline {
                let fault = self.last_words().await;
                return Err(ServerError::Start { program: program.to_owned(), fault });
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The last complaint in its log, or the last line.
    async fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).await.unwrap_or_default();
        let line = log
            .lines()
            .rfind(|line| line.contains("[FTL]") || line.contains("[ERR]"))
            .or_else(|| log.lines().next_back());
        match line {
            Some(line) => line.to_owned(),
            None => format!("it said nothing in {}", self.log.display()),
        }
    }
}

/// The configured program, else that of the tools folder, else that on PATH.
pub fn program(config: &NatsConfig) -> Result<PathBuf, ServerError> {
    if !config.server.is_empty() {
        return Ok(PathBuf::from(&config.server));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(PathBuf::from(".tools/bin"))
        .chain(env::split_paths(&path))
        .map(|folder| folder.join("nats-server"))
        .find(|program| program.is_file())
        .ok_or(ServerError::NotFound)
}

/// The right to be the only server in the folder: held by whoever has the file open.
async fn lock(folder: &Path) -> Result<File, ServerError> {
    let path = folder.join("lock");
    let deadline = Instant::now() + PREDECESSOR_DEADLINE;
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(|fault| ServerError::Folder { path: path.clone(), fault })?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(fault)) => return Err(ServerError::Folder { path, fault }),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                sleep(Duration::from_millis(50)).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(ServerError::FolderTaken(folder.to_owned()));
            }
        }
    }
}

/// The server would say it too, but only in its log.
fn check_free(port: u16, what: &'static str, key: &'static str) -> Result<(), ServerError> {
    if port == 0 {
        return Ok(());
    }
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .map(drop)
        .map_err(|fault| ServerError::PortTaken { port, what, key, fault })
}

fn any_if_zero(port: u16) -> String {
    if port == 0 { "-1".to_owned() } else { port.to_string() }
}

fn quoted(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let escaped = absolute.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

/// The server's process and ports: the file is called `nats-server_<pid>.ports`.
async fn read_ports(folder: &Path) -> Option<(u32, Ports)> {
    let mut files = fs::read_dir(folder).await.ok()?;
    while let Ok(Some(file)) = files.next_entry().await {
        let path = file.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(pid) = name.rsplit('_').next().and_then(|pid| pid.parse().ok())
            && let Ok(text) = fs::read(&path).await
            && let Ok(ports) = serde_json::from_slice::<Ports>(&text)
        {
            return Some((pid, ports));
        }
    }
    None
}
