//! A server's process, which ends when the test process does, in whatever way.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// What runs beside the server; see its first lines.
const SCRIPT: &str = include_str!("guard.sh");

/// How long a kill or a start may take to be carried out.
const ORDER_WITHIN: Duration = Duration::from_secs(15);

/// How often a server is asked whether it has come so far.
const POLL: Duration = Duration::from_millis(20);

/// A running server; dropping it stops the server and removes its directory, and shows the end of
/// its log when a test fails. A static is never dropped: there the end of the process does it.
pub(crate) struct Guard {
    name: &'static str,
    directory: PathBuf,
    shell: Child,
    orders: Option<ChildStdin>,
}

/// A new directory for a server, given to its [`Guard`].
pub(crate) fn directory(name: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("lizards-{name}-"))
        .tempdir()
        .expect("the folder for temporary files can be written")
}

impl Guard {
    /// Starts the server in its directory. `signal` is what stops it: `KILL` where nothing of it
    /// needs to survive.
    pub(crate) fn start(
        name: &'static str,
        directory: TempDir,
        signal: &str,
        server: &Command,
    ) -> Self {
        let directory = directory.keep();
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "guard"]).arg(&directory).arg(signal);
        shell.arg(server.get_program()).args(server.get_args());
        shell.envs(server.get_envs().filter_map(|(key, value)| Some((key, value?))));
        shell.current_dir(&directory).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut shell = shell.process_group(0).spawn().expect("there is a shell `sh`");
        Self { name, directory, orders: shell.stdin.take(), shell }
    }

    /// Where the server keeps its files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process of the guard itself.
    pub(crate) fn id(&self) -> u32 {
        self.shell.id()
    }

    /// Kills the server as a crash would; its files stay.
    pub(crate) async fn kill(&mut self) {
        self.order("kill");
        self.until_ended(true).await;
    }

    /// Starts it again after [`Guard::kill`].
    pub(crate) async fn start_again(&mut self) {
        self.order("start");
        self.until_ended(false).await;
    }

    /// Sends the server a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.directory.join("pid")).expect("it was started");
        let sent = Command::new("kill").args(["-s", signal, pid.trim()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{} takes no signal", self.name);
    }

    async fn until_ended(&self, ended: bool) {
        let since = Instant::now();
        while self.has_ended() != ended {
            let what = if ended { "does not end" } else { "does not stay started" };
            let in_time = since.elapsed() < ORDER_WITHIN;
            assert!(in_time, "{} {what}. Its log ends with:\n{}", self.name, self.log_tail());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the server has come so far that `ready` gives something.
    ///
    /// # Panics
    /// When it ends before, or has not come so far within `limit`.
    pub(crate) async fn until<T>(
        &self,
        limit: Duration,
        mut ready: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        let since = Instant::now();
        loop {
            // A connection to a server that is not there yet may take longer than it does to come.
            if let Ok(Some(sign)) = tokio::time::timeout(limit, ready()).await {
                return sign;
            }
            let fault = match (self.has_ended(), since.elapsed() > limit) {
                (true, _) => "ended at once",
                (_, true) => "was not ready in time",
                _ => {
                    tokio::time::sleep(POLL).await;
                    continue;
                }
            };
            panic!("{} {fault}. Its log ends with:\n{}", self.name, self.log_tail());
        }
    }

    /// Shows the end of the server's log when the calling test is failing.
    pub(crate) fn explain_failure(&self) {
        if std::thread::panicking() {
            eprintln!("--- the log of {} ends with:\n{}", self.name, self.log_tail());
        }
    }

    /// Everything the server has printed.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read(self.directory.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Whether the server has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.directory.join("ended").exists()
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("the pipe is open until the guard is dropped");
        writeln!(orders, "{order}").expect("the guard listens as long as its pipe is open");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.explain_failure();
        drop(self.orders.take());
        // An error would mean that somebody else has waited for the guard already.
        let _ = self.shell.wait();
    }
}
