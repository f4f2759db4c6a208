//! What a group may take of the machine, in the files of whichever version its hierarchies are.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::{Group, Hierarchy};
use crate::context::Context;

/// What a group's processes may take together. What isn't set stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Its part of the processor's time when there isn't enough, as version 1 counts it: 1024 is one
    /// processor's.
    pub cpu_shares: Option<u64>,
    /// Processor time a period, both in microseconds.
    pub cpu_quota: Option<(u64, u64)>,
    /// Bytes.
    pub memory: Option<u64>,
}

impl Limits {
    /// The files to write for a controller, in that order, with their content.
    fn files(&self, controller: &str, unified: bool) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        match (controller, unified) {
            ("cpu", true) => {
                let weight = self.cpu_shares.map(|shares| weight(shares).to_string());
                files.extend(weight.map(|text| ("cpu.weight", text)));
                let most = self.cpu_quota.map(|(quota, period)| format!("{quota} {period}"));
                files.extend(most.map(|text| ("cpu.max", text)));
            }
            ("cpu", false) => {
                files.extend(self.cpu_shares.map(|shares| ("cpu.shares", shares.to_string())));
                if let Some((quota, period)) = self.cpu_quota {
                    files.push(("cpu.cfs_period_us", period.to_string()));
                    files.push(("cpu.cfs_quota_us", quota.to_string()));
                }
            }
            ("memory", true) => files.extend(self.memory.map(|most| ("memory.max", most.to_string()))),
            ("memory", false) => {
                files.extend(
                    self.memory
                        .map(|most| ("memory.limit_in_bytes", most.to_string())),
                );
            }
            _ => {}
        }
        files
    }
}

/// Version 1's shares (2 to 262,144) on the scale of version 2 (1 to 10,000), as runtimes do it.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

impl Group {
    /// Sets limits.
    ///
    /// # Errors
    /// When the group isn't there, the machine doesn't have the controller, or the kernel refuses the value.
    pub fn limit(&self, limits: &Limits) -> io::Result<()> {
        for controller in ["cpu", "memory"] {
            let place = self.place_of(controller);
            let unified = place.as_ref().is_some_and(|(hierarchy, _)| hierarchy.unified);
            for (file, content) in limits.files(controller, unified) {
                let Some((_, dir)) = &place else {
                    return Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        format!(
                            "the machine has no {controller} controller to limit {} with",
                            self.path()
                        ),
                    ));
                };
                let path = dir.join(file);
                fs::write(&path, &content).context(|| format!("write {content} to {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn place_of(&self, controller: &str) -> Option<(&Hierarchy, PathBuf)> {
        let mut all = self.hierarchies.iter();
        let found = all.find(|hierarchy| hierarchy.controllers.contains(controller))?;
        Some((found, found.root.join(&self.path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Limits = Limits {
        cpu_shares: Some(1024),
        cpu_quota: Some((50_000, 100_000)),
        memory: Some(64 << 20),
    };

    #[test]
    fn each_version_has_files_of_its_own() {
        let lines = |unified| {
            let files = ["cpu", "memory"]
                .iter()
                .flat_map(|controller| ALL.files(controller, unified));
            let lines: Vec<String> = files.map(|(file, text)| format!("{file}={text}")).collect();
            lines
        };
        assert_eq!(
            lines(true),
            ["cpu.weight=39", "cpu.max=50000 100000", "memory.max=67108864"]
        );
        assert_eq!(
            lines(false),
            [
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.limit_in_bytes=67108864"
            ]
        );
        assert!(Limits::default().files("memory", true).is_empty());
    }

    #[test]
    fn weights_span_the_whole_scale() {
        assert_eq!((weight(2), weight(262_144), weight(0)), (1, 10_000, 1));
    }
}
