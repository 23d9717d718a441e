//! A headless Chromium with a profile of its own, driven over the DevTools protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>).

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chromiumoxide::{Browser, Handler, error::CdpError, handler::HandlerConfig};
use futures_util::StreamExt;
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStdin, Command},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::config::BrowserConfig;

/// Ends the browser when we end, in whatever way.
const GUARD: &str = include_str!("guard.sh");

/// What it is called where `ingest.browser.program` does not say.
const PROGRAMS: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// How long it may take to listen.
const START_WITHIN: Duration = Duration::from_secs(30);

/// How long one command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);

/// A window, nothing that calls home, and no way to the network but the proxy of each page: names
/// are not resolved here, there is no QUIC, and WebRTC may not go around a proxy. A script has
/// 256 MiB, and pictures are not loaded.
const FLAGS: [&str; 19] = [
    "--headless",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--mute-audio",
    "--deny-permission-prompts",
    "--window-size=1280,900",
    "--blink-settings=imagesEnabled=false",
    "--js-flags=--max-old-space-size=256",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--remote-debugging-address=127.0.0.1",
    "--remote-debugging-port=0",
];

/// A running browser, killed when dropped.
pub(super) struct Chromium {
    pub(super) browser: Browser,
    /// Cancelled when it has ended.
    pub(super) gone: CancellationToken,
    /// The guard kills it when this pipe ends.
    _alive: Option<ChildStdin>,
}

/// Why there is no browser.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("no Chromium is on PATH; ingest.browser.program names one")]
    NoProgram,
    #[error("{program} cannot be started: {fault}")]
    Start { program: String, fault: String },
}

impl Chromium {
    /// Starts one.
    pub(super) async fn start(config: &BrowserConfig) -> Result<Self, StartError> {
        let program = program(config).ok_or(StartError::NoProgram)?;
        let failed = |fault: &dyn ToString| StartError::Start {
            program: program.display().to_string(),
            fault: fault.to_string(),
        };
        let folder = tempfile::Builder::new().prefix("lizards-browser-").tempdir();
        let folder = folder.map_err(|fault| failed(&fault))?;
        let profile = folder.path().join("profile");
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(folder.path()).arg(&program).args(FLAGS);
        if !config.sandbox {
            guard.arg("--no-sandbox");
        }
        guard.arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        guard.env("HOME", folder.path()).env("TMPDIR", folder.path());
        guard.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Ctrl-C goes to our process group.
        let mut guard = guard.process_group(0).spawn().map_err(|fault| failed(&fault))?;
        // From now on the guard removes it.
        let _ = folder.keep();
        let alive = guard.stdin.take();
        let address = listening(&mut guard, &profile).await.map_err(|fault| failed(&fault))?;
        let config = HandlerConfig {
            ignore_https_errors: false,
            ignore_invalid_messages: false,
            viewport: None,
            request_timeout: COMMAND_WITHIN,
            ..HandlerConfig::default()
        };
        let connected = Browser::connect_with_config(address, config).await;
        let (browser, handler) = connected.map_err(|fault| failed(&fault))?;
        info!(program = %program.display(), "a browser was started");
        let gone = CancellationToken::new();
        tokio::spawn(drive(guard, handler, gone.clone()));
        Ok(Self { browser, gone, _alive: alive })
    }
}

/// Moves the messages of the browser, to its end.
async fn drive(mut guard: Child, mut handler: Handler, gone: CancellationToken) {
    let moving = async {
        // A message that the library does not know is one of a newer Chromium, and nobody awaits it.
        while let Some(Ok(()) | Err(CdpError::InvalidMessage(..))) = handler.next().await {}
    };
    tokio::select! {
        () = moving => {}
        _ = guard.wait() => {}
    }
    gone.cancel();
    // Where only the connection broke, the pipe is closed soon, and the guard ends.
    let _ = guard.wait().await;
    debug!("a browser has ended");
}

/// Where the program is.
fn program(config: &BrowserConfig) -> Option<PathBuf> {
    if !config.program.is_empty() {
        return Some(PathBuf::from(&config.program));
    }
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut places = PROGRAMS.iter().flat_map(|name| folders.iter().map(move |f| f.join(name)));
    places.find(|place| place.is_file())
}

/// Waits until it listens; the address of its DevTools, or the last that it said.
async fn listening(guard: &mut Child, profile: &Path) -> Result<String, String> {
    // It writes two lines there: the port, and the path.
    let file = profile.join("DevToolsActivePort");
    let deadline = Instant::now() + START_WITHIN;
    loop {
        let text = tokio::fs::read_to_string(&file).await.unwrap_or_default();
        if let Some((port, path)) = text.split_once('\n')
            && path.starts_with('/')
        {
            return Ok(format!("ws://127.0.0.1:{port}{}", path.trim()));
        }
        if !matches!(guard.try_wait(), Ok(None)) {
            let mut said = String::new();
            if let Some(output) = &mut guard.stdout {
                // Without it, there only is less to tell.
                let _ = output.read_to_string(&mut said).await;
            }
            return Err(format!("it ended at once: {}", said.trim()));
        }
        if Instant::now() > deadline {
            return Err(format!("it does not listen within {} s", START_WITHIN.as_secs()));
        }
        sleep(Duration::from_millis(20)).await;
    }
}
