//! What the processes of a group use, as the kernel counts it.

use std::fs;

use super::Group;

/// Figures of a group and all below it; those that the kernel doesn't count are absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time so far, in nanoseconds.
    pub cpu_nanos: Option<u64>,
    /// Memory, caches of files included, in bytes.
    pub memory: Option<u64>,
    /// Memory without the part of file caches that isn't in use, in bytes.
    pub working_set: Option<u64>,
    /// Memory that is no copy of a file, in bytes.
    pub rss: Option<u64>,
    /// Threads.
    pub pids: Option<u64>,
}

impl Group {
    /// Reads the figures now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let (unified, memory) = self.read("memory", "memory.usage_in_bytes", "memory.current");
        let memory = number(&memory);
        let stat = self.read("memory", "memory.stat", "memory.stat").1;
        let (inactive, rss) = match unified {
            true => ("inactive_file", "anon"),
            false => ("total_inactive_file", "total_rss"),
        };
        Usage {
            cpu_nanos: self.cpu_nanos(),
            memory,
            working_set: memory.map(|all| all.saturating_sub(field(&stat, inactive).unwrap_or(0))),
            rss: field(&stat, rss),
            pids: number(&self.read("pids", "pids.current", "pids.current").1),
        }
    }

    fn cpu_nanos(&self) -> Option<u64> {
        // cgroup2 counts time with the controller and without.
        match self.read("cpuacct", "cpuacct.usage", "cpu.stat") {
            (false, text) if !text.is_empty() => number(&text),
            _ => {
                let unified = self.hierarchies.iter().find(|hierarchy| hierarchy.unified)?;
                let text = fs::read_to_string(unified.root.join(&self.path).join("cpu.stat")).ok()?;
                field(&text, "usage_usec")?.checked_mul(1000)
            }
        }
    }

    /// A file of the hierarchy that has a controller, and whether that is cgroup2; empty if there is none.
    fn read(&self, controller: &str, version_1: &str, unified: &str) -> (bool, String) {
        let hierarchy = self
            .hierarchies
            .iter()
            .find(|h| h.controllers.contains(controller));
        let Some(hierarchy) = hierarchy else {
            return (false, String::new());
        };
        let file = if hierarchy.unified { unified } else { version_1 };
        let text = fs::read_to_string(hierarchy.root.join(&self.path).join(file));
        (hierarchy.unified, text.unwrap_or_default())
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number after a name, one a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = |line: &str| number(line.strip_prefix(name)?.strip_prefix(' ')?);
    text.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::Hierarchy;
    use super::*;

    fn hierarchy(root: &Path, unified: bool, controllers: &[&str], files: &[(&str, &str)]) -> Hierarchy {
        let dir = root.join("group");
        fs::create_dir_all(&dir).expect("a folder");
        for (file, text) in files {
            fs::write(dir.join(file), text).expect("written");
        }
        Hierarchy {
            root: root.to_owned(),
            unified,
            controllers: controllers
                .iter()
                .map(|&name| name.to_owned())
                .collect::<BTreeSet<_>>(),
        }
    }

    fn usage(hierarchies: Vec<Hierarchy>) -> Usage {
        let path = "group".to_owned();
        Group { path, hierarchies }.usage()
    }

    const EXPECTED: Usage = Usage {
        cpu_nanos: Some(5000),
        memory: Some(100),
        working_set: Some(70),
        rss: Some(40),
        pids: Some(3),
    };

    #[test]
    fn one_hierarchy_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let files = [
            ("cpu.stat", "usage_usec 5\nuser_usec 3\n"),
            ("memory.current", "100\n"),
            ("memory.stat", "anon 40\nfile 60\ninactive_file 30\n"),
            ("pids.current", "3\n"),
        ];
        let one = hierarchy(dir.path(), true, &["cpu", "memory", "pids"], &files);
        assert_eq!(usage(vec![one]), EXPECTED);
    }

    #[test]
    fn hierarchies_of_version_1_are_read() {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a folder")).collect();
        let stat = "inactive_file 1\nrss 2\ntotal_inactive_file 30\ntotal_rss 40\n";
        let memory = [("memory.usage_in_bytes", "100\n"), ("memory.stat", stat)];
        let all = vec![
            hierarchy(
                dirs[0].path(),
                false,
                &["cpu", "cpuacct"],
                &[("cpuacct.usage", "5000\n")],
            ),
            hierarchy(dirs[1].path(), false, &["memory"], &memory),
            hierarchy(dirs[2].path(), false, &["pids"], &[("pids.current", "3\n")]),
        ];
        assert_eq!(usage(all), EXPECTED);
    }

    #[test]
    fn a_group_that_is_gone_uses_nothing_that_is_known() {
        let dir = tempfile::tempdir().expect("a folder");
        let one = hierarchy(dir.path(), true, &["cpu", "memory", "pids"], &[]);
        assert_eq!(usage(vec![one]), Usage::default());
    }
}
