//! What processes hold, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::figures::{Figures, Unit};

/// After this long without anything to do, a process is idle.
const SETTLE: Duration = Duration::from_secs(5);

/// Reads the server's and the agents' memory.
pub(crate) async fn measure(
    cluster: &Cluster,
    when: &str,
    bar: Option<f64>,
    figures: &mut Figures,
) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    for process in ["server", "agent"] {
        let mut resident = Vec::new();
        let mut proportional = Vec::new();
        for pid in cluster.pids(process)? {
            resident.push(mib(pid, "status", "VmRSS:")?);
            proportional.push(mib(pid, "smaps_rollup", "Pss:")?);
        }
        // Of several agents, the largest has to hold.
        let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        let note = format!("{:.1} MiB by its share of shared pages", most(&proportional));
        let what = format!("{process}, resident memory, {when}");
        figures.add(&what, most(&resident), Unit::MiB, bar, note);
    }
    Ok(())
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
        let resident = mib(pid, "status", "VmRSS:").unwrap();
        assert!(resident > 0.1);
        assert!(mib(pid, "smaps_rollup", "Pss:").unwrap() <= resident * 2.0);
        assert!(mib(pid, "status", "Nothing:").is_err());
    }
}
