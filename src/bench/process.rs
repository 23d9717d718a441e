//! Processes under measurement: how they are started and stopped, and what they have used.

use std::{collections::HashMap, env, ffi::OsStr, fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a process may say nothing where something is due, and how long it may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a program and stops it when our end of its standard input closes, though it be halted: a
/// benchmark that is killed leaves nothing behind.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- >&2 &
program=$!
echo "$program"
{ cat <&3 >/dev/null; kill -TERM "$program" 2>/dev/null; kill -CONT "$program" 2>/dev/null; } >/dev/null &
wait "$program"
"#;

/// Processor time of each thread of a process.
///
/// The scheduler counts in nanoseconds; the times of whole processes are counted in ticks of 10 ms.
#[derive(Debug)]
pub(crate) struct CpuTime(HashMap<String, u64>);

impl CpuTime {
    /// What a process has used so far.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut threads = HashMap::new();
        let folder = format!("/proc/{pid}/task");
        let entries = fs::read_dir(&folder).with_context(|| format!("{folder} cannot be read"))?;
        for entry in entries {
            let entry = entry?;
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            let used = text.split_whitespace().next().and_then(|field| field.parse().ok());
            let used = used.with_context(|| format!("{folder}: no schedstat in {text:?}"))?;
            threads.insert(entry.file_name().to_string_lossy().into_owned(), used);
        }
        Ok(Self(threads))
    }

    /// All of it.
    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.0.values().sum())
    }

    /// What it has used since an earlier time.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let used = self.0.iter().map(|(thread, now)| {
            now.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        });
        Duration::from_nanos(used.sum())
    }
}

/// How much memory of a process is in use (RSS), in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1_024).with_context(|| format!("{path}: no VmRSS"))
}

/// Lets this process, and those it starts, have as many open files as the system allows.
pub(crate) fn raise_file_limit() -> std::io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// The environment variable of a key of the configuration.
pub(crate) fn variable(key: &str) -> String {
    format!("LIZARDS_{}", key.replace('.', "_").to_uppercase())
}

/// A program that takes no orders, such as nats-server.
pub(crate) struct Program {
    guard: Child,
    alive: Option<ChildStdin>,
    pid: u32,
}

impl Program {
    /// Starts it. What it prints goes to our standard error.
    pub(crate) async fn start(
        program: &Path,
        args: &[&OsStr],
        variables: &[(String, &str)],
    ) -> Result<Self> {
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(program)
            .args(args)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not start", program.display()))?;
        let alive = guard.stdin.take();
        let stdout = guard.stdout.take().context("the guard has a standard output")?;
        let pid = BufReader::new(stdout).lines().next_line().await?;
        let pid = pid.and_then(|pid| pid.trim().parse().ok());
        let pid = pid.with_context(|| format!("{} does not start", program.display()))?;
        Ok(Self { guard, alive, pid })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Has it ended by itself?
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.guard.try_wait(), Ok(None))
    }

    /// Asks it to stop, and waits for that.
    pub(crate) async fn stop(mut self) {
        drop(self.alive.take());
        let _ = timeout(PATIENCE, self.guard.wait()).await;
    }
}

/// Another process of this program. It is told things, and answers, in lines of JSON, and ends
/// when its standard input closes.
pub(crate) struct Helper {
    child: Child,
    pid: u32,
    orders: ChildStdin,
}

/// What a helper says.
pub(crate) struct Answers(Lines<BufReader<ChildStdout>>);

impl Helper {
    pub(crate) fn start(args: &[&str]) -> Result<(Self, Answers)> {
        let mut child = Command::new(env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("a second process of lizards does not start")?;
        let pid = child.id().context("it has just started")?;
        let orders = child.stdin.take().context("it has a standard input")?;
        let answers = child.stdout.take().context("it has a standard output")?;
        Ok((Self { child, pid, orders }, Answers(BufReader::new(answers).lines())))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells it something.
    pub(crate) async fn give(&mut self, order: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders.write_all(&line).await.context("a process of the benchmark has ended")
    }

    /// Ends it, and waits for that.
    pub(crate) async fn stop(mut self) {
        drop(self.orders);
        let _ = timeout(PATIENCE, self.child.wait()).await;
    }
}

impl Answers {
    /// The next thing it says, however long that takes.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<T> {
        match self.0.next_line().await? {
            Some(line) => serde_json::from_str(&line).with_context(|| line),
            None => bail!("a process of the benchmark has ended"),
        }
    }

    /// The next thing it says, which is due.
    pub(crate) async fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        timeout(PATIENCE, self.next()).await.context("a process of the benchmark says nothing")?
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_is_counted_and_waiting_is_not() {
        let own = std::process::id();
        let before = CpuTime::of(own).unwrap();
        let start = Instant::now();
        let mut turns = 0_u64;
        while start.elapsed() < Duration::from_millis(50) {
            turns = std::hint::black_box(turns + 1);
        }
        let used = CpuTime::of(own).unwrap().since(&before);
        assert!(used > Duration::ZERO, "{turns} turns took no time");
        assert!(resident_bytes(own).unwrap() > 1 << 20);
    }

    #[tokio::test]
    async fn a_program_stops_when_it_is_told_though_it_be_halted() {
        let mut program =
            Program::start(Path::new("sleep"), &[OsStr::new("1000")], &[]).await.unwrap();
        assert!(!program.has_ended());
        let pid = program.pid();
        let halted = Command::new("kill").args(["-s", "STOP", &pid.to_string()]).status().await;
        assert!(halted.unwrap().success());
        program.stop().await;
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
