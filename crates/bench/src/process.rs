//! What processes hold and use, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

use crate::cluster::Cluster;
use crate::figures::{Figures, Unit};

/// After this long without anything to do, a process is idle.
const SETTLE: Duration = Duration::from_secs(5);

/// Reads the server's and the agents' memory.
pub(crate) async fn measure_memory(
    cluster: &Cluster,
    when: &str,
    bar: Option<f64>,
    figures: &mut Figures,
) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    for process in ["server", "agent"] {
        let mut all = Vec::new();
        let mut proportional = Vec::new();
        for pid in cluster.pids(process)? {
            all.push(resident(pid)?);
            proportional.push(mib(pid, "smaps_rollup", "Pss:")?);
        }
        // Of several agents, the largest has to hold.
        let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        let note = format!("{:.1} MiB by its share of shared pages", most(&proportional));
        let what = format!("{process}, resident memory, {when}");
        figures.add(&what, most(&all), Unit::MiB, bar, note);
    }
    Ok(())
}

/// Resident memory in MiB.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    mib(pid, "status", "VmRSS:")
}

/// Processor time so far, of threads that have ended too.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let ticks = ticks(&text).with_context(|| format!("{path} isn't as expected: {text}"))?;
    let second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel has no clock tick")?;
    Ok(Duration::from_secs_f64(ticks as f64 / second as f64))
}

/// `utime` and `stime` of a process' `stat`; its name, in parentheses, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// A figure in kB out of a file of a process.
fn mib(pid: u32, file: &str, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    Ok(number.with_context(|| format!("{path} has no {field}"))? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let pid = std::process::id();
        assert!(resident(pid).unwrap() > 0.1);
        assert!(mib(pid, "smaps_rollup", "Pss:").unwrap() <= resident(pid).unwrap() * 2.0);
        assert!(mib(pid, "status", "Nothing:").is_err());
        cpu(pid).unwrap();
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 50 6 7 8 20 0 1 0 99";
        assert_eq!(ticks(stat), Some(56));
        assert_eq!(ticks("7 (a) S 1"), None);
        assert_eq!(ticks(""), None);
    }
}
