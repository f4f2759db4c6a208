//! These need root: groups are made for real, below `/ripstop-test`.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// A group of one test, gone when the test is.
struct Own(Group);

impl Own {
    fn new(test: &str) -> Self {
        let path = format!("/ripstop-test/{test}-{}", std::process::id());
        let group = Hierarchies::detect().expect("cgroups").group(&path);
        group.create().expect("root");
        Self(group)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.kill_all(LIMIT).expect("killed");
        self.0.remove(LIMIT).expect("removed");
        let parent = Hierarchies::detect().expect("cgroups").group("/ripstop-test");
        parent.remove_if_empty();
    }
}

#[test]
fn the_machine_can_limit_memory_processor_and_processes() {
    let hierarchies = Hierarchies::detect().expect("cgroups");
    for controller in ["memory", "cpu", "pids"] {
        assert!(hierarchies.has(controller), "{controller}: {hierarchies:?}");
    }
}

#[test]
fn a_group_exists_in_every_hierarchy_and_goes_with_all_below() {
    let own = Own::new("tree");
    let inner = own.0.child("a").child("b");
    inner.create().expect("made");
    inner.create().expect("making it twice is fine");
    for dir in inner.dirs() {
        assert!(dir.join("cgroup.procs").exists(), "{}", dir.display());
    }
    own.0.remove(LIMIT).expect("removed");
    assert!(!own.0.exists());
    own.0.remove(LIMIT).expect("removing twice is fine");
}

#[test]
fn killing_a_group_ends_what_is_below_it_and_nothing_else() {
    let own = Own::new("kill");
    let (doomed, spared) = (own.0.child("doomed"), own.0.child("spared"));
    let inner = doomed.child("inner");
    inner.create().expect("made");
    spared.create().expect("made");
    let sleeper = || Command::new("sleep").arg("60").spawn().expect("sleep runs");
    let (mut first, mut second) = (sleeper(), sleeper());
    inner.add(first.id()).expect("moved");
    spared.add(second.id()).expect("moved");
    assert_eq!(doomed.pids(), BTreeSet::from([first.id()]));

    doomed.kill_all(LIMIT).expect("killed");
    assert!(doomed.pids().is_empty());
    assert!(doomed.has_remnants(), "nobody has taken notice of its end yet");
    assert_eq!(first.wait().expect("reaped").signal(), Some(9));
    assert!(!doomed.has_remnants());
    assert!(second.try_wait().expect("a child").is_none());
    spared.kill_all(LIMIT).expect("killed");
    second.wait().expect("reaped");
}

#[test]
fn the_kernel_takes_a_groups_limits() {
    let own = Own::new("limits");
    own.0
        .limit(&Limits {
            cpu_shares: Some(512),
            cpu_quota: Some((50_000, 100_000)),
            memory: Some(64 << 20),
        })
        .expect("limited");
    let read = |files: [&str; 2]| {
        let texts = own
            .0
            .dirs()
            .flat_map(|dir| files.map(|file| fs::read_to_string(dir.join(file))));
        let text = texts.flatten().next().expect("one of the versions' files");
        text.trim().to_owned()
    };
    assert_eq!(read(["memory.max", "memory.limit_in_bytes"]), "67108864");
    assert!(read(["cpu.max", "cpu.cfs_quota_us"]).starts_with("50000"));
    let absent = own.0.child("absent").limit(&Limits {
        memory: Some(1 << 20),
        ..Limits::default()
    });
    assert!(absent.is_err(), "a group that isn't there can't be limited");
}

#[test]
fn a_group_with_processes_is_not_removed() {
    let own = Own::new("busy");
    let mut child = Command::new("sleep").arg("60").spawn().expect("sleep runs");
    own.0.add(child.id()).expect("moved");
    let error = own.0.remove(Duration::from_millis(20)).expect_err("in use");
    assert!(error.to_string().contains(&own.0.path()), "{error}");
    own.0.kill_all(LIMIT).expect("killed");
    child.wait().expect("reaped");
}

#[test]
fn a_line_of_proc_cgroup_names_a_group() {
    let group = Group {
        path: "ripstop/local/node-1".to_owned(),
        hierarchies: Vec::new(),
    };
    assert!(group.holds("4:memory:/ripstop/local/node-1"));
    assert!(group.holds("0::/ripstop/local/node-1/kubepods/pod1"));
    assert!(group.holds("0::/ripstop/local/node-1 (deleted)"));
    assert!(!group.holds("0::/ripstop/local/node-10"));
    assert!(!group.holds("0::/ripstop/local"));
    assert!(!group.holds(""));
}

#[test]
fn options_of_a_version_1_mount_name_its_controllers() {
    let mount = |options: &str| Mount {
        root: "/".into(),
        target: "/nowhere".into(),
        fstype: "cgroup".to_owned(),
        options: options.to_owned(),
        shared: false,
    };
    let controllers = |options| Hierarchy::of(&mount(options)).expect("a hierarchy").controllers;
    assert_eq!(controllers("rw,cpu,cpuacct"), words("cpu cpuacct"));
    assert_eq!(
        controllers("rw,xattr,release_agent=/x,name=systemd"),
        words("name=systemd")
    );
}
