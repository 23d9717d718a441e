//! A core of its own for what is measured.

use std::{
    fs,
    process::{self, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::print::complain;

/// Moves this process, and what it starts from now on, to all cores but the last, and tells that one.
/// Where there is only one, all share it, and nothing is told.
pub(crate) fn clear_the_last() -> Result<Option<usize>> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cores = parse(list.unwrap_or_default()).context("which cores there are")?;
    let Some((last, others)) = cores.split_last().filter(|(_, others)| !others.is_empty()) else {
        complain("there is only one core: the target shares it");
        return Ok(None);
    };
    let others: Vec<_> = others.iter().map(ToString::to_string).collect();
    allow(process::id(), &others.join(","))?;
    Ok(Some(*last))
}

/// Moves a process to a core.
pub(crate) fn move_to(core: usize, pid: u32) -> Result<()> {
    allow(pid, &core.to_string())
}

fn allow(pid: u32, cores: &str) -> Result<()> {
    let moved = Command::new("taskset")
        .args(["-acp", cores, &pid.to_string()])
        .stdout(Stdio::null())
        .status()
        .context("taskset (of util-linux) is needed")?;
    ensure!(moved.success(), "taskset: {moved}");
    Ok(())
}

/// A list of cores as the kernel writes it, `0-3,8`.
fn parse(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for range in list.trim().split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
        cores.extend(from..=to);
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_list_of_cores_is_read() {
        assert_eq!(parse("\t0-1\n"), Some(vec![0, 1]));
        assert_eq!(parse("0-2,5,8-9"), Some(vec![0, 1, 2, 5, 8, 9]));
        assert_eq!(parse(""), None);
    }
}
