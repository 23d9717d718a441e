//! A headless Chromium, driven over the DevTools protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>).

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::{find, guard, guard::Guard};

/// A browser with a profile of its own; stopped when dropped.
pub(crate) struct Browser {
    guard: Guard,
    /// Host and port of its DevTools.
    address: String,
    control: Session,
}

/// An open page.
pub(crate) struct Page {
    session: Session,
}

/// A DevTools connection, on which one command runs at a time.
struct Session {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    commands: u64,
    /// What the page threw, or logged as an error, since it was opened.
    faults: Vec<String>,
    loaded: bool,
}

const PROGRAMS: [&str; 6] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/usr/bin/chromium",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/// Root may only run it without its sandbox, and it talks to nobody but us.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
    "--remote-debugging-address=127.0.0.1",
    "--remote-debugging-port=0",
];

const LIMIT: Duration = Duration::from_secs(30);

/// Where the program is.
pub(crate) fn program() -> PathBuf {
    find::program("LIZARDS_TEST_CHROMIUM", &PROGRAMS)
}

impl Browser {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let directory = guard::directory("chromium");
        let profile = directory.path().join("profile");
        let mut server = Command::new(program());
        server.args(FLAGS).arg(format!("--user-data-dir={}", profile.display()));
        server.arg("about:blank").env("HOME", directory.path());
        let guard = Guard::start("Chromium", directory, "KILL", &server);

        // Chromium writes two lines there: the port and the path of its own connection.
        let file = profile.join("DevToolsActivePort");
        let (port, path) = guard
            .until(LIMIT, async || {
                let text = std::fs::read_to_string(&file).ok()?;
                let (port, path) = text.split_once('\n')?;
                path.starts_with('/').then(|| (port.to_owned(), path.trim().to_owned()))
            })
            .await;
        let address = format!("127.0.0.1:{port}");
        let control = Session::connect(&format!("ws://{address}{path}")).await;
        Self { guard, address, control }
    }

    /// Opens a page and waits until it has loaded.
    pub(crate) async fn open(&mut self, url: &str) -> Page {
        let target = self.control.command("Target.createTarget", json!({"url": "about:blank"}));
        let target = target.await["targetId"].as_str().expect("a new page has an id").to_owned();
        let url_of_page = format!("ws://{}/devtools/page/{target}", self.address);
        let mut session = Session::connect(&url_of_page).await;
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            session.command(domain, json!({})).await;
        }
        session.loaded = false;
        let answer = session.command("Page.navigate", json!({ "url": url })).await;
        assert!(answer.get("errorText").is_none(), "Chromium cannot open {url}: {answer}");
        let load = async {
            while !session.loaded {
                session.next().await;
            }
        };
        let loaded = tokio::time::timeout(LIMIT, load).await;
        assert!(loaded.is_ok(), "{url} has not loaded. Chromium says:\n{}", self.guard.log());
        Page { session }
    }
}

impl Page {
    /// The value of a JavaScript expression; a promise is waited for.
    pub(crate) async fn evaluate(&mut self, javascript: &str) -> Value {
        let how = json!({"expression": javascript, "awaitPromise": true, "returnByValue": true});
        let answer = self.session.command("Runtime.evaluate", how).await;
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "the page throws in `{javascript}`: {thrown}");
        answer["result"]["value"].clone()
    }

    /// Waits until the expression is true.
    pub(crate) async fn until(&mut self, javascript: &str) {
        let wait = async {
            while self.evaluate(&format!("Boolean({javascript})")).await != json!(true) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let came = tokio::time::timeout(LIMIT, wait).await.is_ok();
        assert!(came, "`{javascript}` does not come true; faults: {:?}", self.faults());
    }

    /// What the page threw, and what was logged as an error, until the last command.
    pub(crate) fn faults(&self) -> &[String] {
        &self.session.faults
    }

    /// Writes what is seen of the page as a PNG file.
    pub(crate) async fn screenshot(&mut self, file: &Path) {
        let answer = self.session.command("Page.captureScreenshot", json!({})).await;
        let data = answer["data"].as_str().expect("a screenshot has data");
        let png = BASE64_STANDARD.decode(data).expect("DevTools sends base64");
        std::fs::write(file, png).expect("the screenshot can be written");
    }
}

impl Session {
    async fn connect(url: &str) -> Self {
        let (socket, _) = connect_async(url).await.expect("DevTools takes connections");
        Self { socket, commands: 0, faults: Vec::new(), loaded: false }
    }

    /// Sends a command and waits for its result.
    async fn command(&mut self, method: &str, params: Value) -> Value {
        self.commands += 1;
        let id = self.commands;
        let text = json!({"id": id, "method": method, "params": params}).to_string();
        self.socket.send(Message::text(text)).await.expect("DevTools listens");
        let result = async {
            loop {
                let mut message = self.next().await;
                if message["id"] == id {
                    assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                    return message["result"].take();
                }
            }
        };
        let result = tokio::time::timeout(LIMIT, result).await;
        result.unwrap_or_else(|_| panic!("DevTools does not answer {method}"))
    }

    /// The next message; events that matter are noted.
    async fn next(&mut self) -> Value {
        loop {
            let message = self.socket.next().await.expect("DevTools stays connected");
            let Message::Text(text) = message.expect("DevTools speaks WebSocket") else { continue };
            let message: Value = serde_json::from_str(&text).expect("DevTools speaks JSON");
            let params = &message["params"];
            match message["method"].as_str() {
                Some("Page.loadEventFired") => self.loaded = true,
                Some("Runtime.exceptionThrown") => self.faults.push(params.to_string()),
                Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                    self.faults.push(params["entry"].to_string());
                }
                Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                    self.faults.push(params["args"].to_string());
                }
                _ => {}
            }
            return message;
        }
    }
}
