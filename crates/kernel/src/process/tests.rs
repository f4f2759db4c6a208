use std::process::Child;

use super::*;
use crate::cgroup::Hierarchies;

fn sleeper() -> Child {
    Command::new("sleep").arg("60").spawn().expect("sleep runs")
}

#[test]
fn the_program_name_does_not_confuse_the_parser() {
    let stat = b"7 (a) R (b) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
    assert_eq!(parse_stat(stat), Some(('S', 4711)));
    assert_eq!(parse_stat(b"7 (a"), None);
}

#[test]
fn another_start_time_is_another_process() {
    let id = ProcessId::current();
    assert!(id.is_alive());
    let stranger = ProcessId {
        start_time: id.start_time + 1,
        ..id
    };
    assert!(!stranger.is_alive());
    assert!(stranger.open().expect("pidfd").is_none());
    assert!(stranger.command_line().is_empty());
    assert_eq!(stranger.executable(), None);
}

#[test]
fn a_process_started_when_it_was_started() {
    let before = SystemTime::now();
    let mut child = sleeper();
    let started = ProcessId::of(child.id())
        .expect("alive")
        .started()
        .expect("/proc tells");
    let slack = Duration::from_secs(1);
    assert!(
        started + slack > before && started < SystemTime::now() + slack,
        "{started:?}"
    );
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

#[tokio::test]
async fn a_process_that_was_asked_to_end_is_seen_to_end() {
    let mut child = sleeper();
    let id = ProcessId::of(child.id()).expect("alive");
    let process = id.open().expect("pidfd").expect("alive");
    process.terminate(Duration::from_secs(20)).await.expect("ended");
    // Not reaped yet: a zombie isn't alive.
    assert!(!id.is_alive());
    process.signal(Signal::SIGKILL).expect("too late, and no error");
    let status = child.wait().expect("reaped");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
}

#[tokio::test]
async fn a_process_that_ignores_the_request_is_killed() {
    let mut child = Command::new("sh")
        .args(["-c", "trap '' TERM; echo; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh runs");
    let mut ready = [0];
    let mut output = child.stdout.take().expect("piped");
    std::io::Read::read_exact(&mut output, &mut ready).expect("the trap is set");
    let id = ProcessId::of(child.id()).expect("alive");
    let process = id.open().expect("pidfd").expect("alive");
    process
        .terminate(Duration::from_millis(50))
        .await
        .expect("killed");
    let status = child.wait().expect("reaped");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

#[test]
fn a_command_holds_nothing_that_somebody_left_open() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("held");
    // A copy made by hand stays open in children, as a shell's do.
    let held = unistd::dup(File::create(&path).expect("a file")).expect("a copy");
    let show = |prepared: bool| {
        let mut command = Command::new("ls");
        command.args(["-l", "/proc/self/fd"]);
        if prepared {
            prepare(&mut command, &Place::default()).expect("prepared");
        }
        let output = command.output().expect("ls runs");
        String::from_utf8_lossy(&output.stdout).contains(&*path.to_string_lossy())
    };
    assert!(show(false), "or this test says nothing");
    assert!(!show(true));
    drop(held);
}

#[test]
fn a_command_starts_in_its_cgroup_and_network_namespace_and_logs() {
    let dir = tempfile::tempdir().expect("a folder");
    let group = Hierarchies::detect()
        .expect("cgroups")
        .group(&format!("/ripstop-test/process-{}", std::process::id()));
    group.create().expect("a cgroup");
    let netns = std::thread::spawn(|| {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("root");
        File::open("/proc/thread-self/ns/net").expect("the namespace")
    });
    let netns = netns.join().expect("a namespace");
    let place = Place {
        netns: Some(format!("/proc/self/fd/{}", netns.as_raw_fd()).into()),
        mountns: None,
        cgroup: Some(group.clone()),
        hostname: Some("a-node".to_owned()),
    };
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "cat /proc/self/cgroup /proc/net/dev /proc/sys/kernel/hostname; exec sleep 60",
    ]);
    let log = dir.path().join("log");
    log_to(&mut command, &log).expect("a log");
    prepare(&mut command, &place).expect("prepared");
    let mut child = command.spawn().expect("sh runs");

    assert!(group.pids().contains(&child.id()));
    let id = ProcessId::of(child.id()).expect("alive");
    assert_ne!(id.namespace("net"), ProcessId::current().namespace("net"));
    assert_eq!(id.namespace("mnt"), ProcessId::current().namespace("mnt"));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !id.command_line().contains(&"60".to_owned()) {
        assert!(std::time::Instant::now() < deadline, "{:?}", id.command_line());
        std::thread::sleep(Duration::from_millis(5));
    }
    let text = fs::read_to_string(&log).expect("a log");
    assert!(text.contains(&group.path()) && text.contains("lo:"), "{text}");
    assert!(!text.contains("eth0"), "{text}");
    assert!(text.lines().any(|line| line == "a-node"), "{text}");
    let own = fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    assert_ne!(own.trim(), "a-node");
    group.kill_all(Duration::from_secs(20)).expect("killed");
    child.wait().expect("reaped");
    group.remove(Duration::from_secs(20)).expect("removed");
    Hierarchies::detect()
        .expect("cgroups")
        .group("/ripstop-test")
        .remove_if_empty();
}
