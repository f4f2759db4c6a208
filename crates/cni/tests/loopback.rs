//! The plugin under the name `loopback`, in network namespaces of these tests' own. Needs root.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use rstest::rstest;
use serde_json::{Value, json};

/// A network namespace that lives as long as this value: a thread of its own sits in it.
struct Namespace {
    path: String,
    _alive: mpsc::Sender<()>,
}

impl Namespace {
    fn new() -> Namespace {
        let (alive, until) = mpsc::channel::<()>();
        let (ready, path) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (this test needs root)");
            let path = format!(
                "/proc/{}/task/{}/ns/net",
                std::process::id(),
                nix::unistd::gettid()
            );
            ready.send(path).expect("the test waits");
            let _ended = until.recv();
        });
        Namespace {
            path: path.recv().expect("the namespace's thread is up"),
            _alive: alive,
        }
    }
}

fn loopback(command: &str, netns: &str, config: &Value) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    let name = dir.path().join("loopback");
    symlink(env!("CARGO_BIN_EXE_ripstop-cni"), &name).expect("a link");
    let mut child = Command::new(&name)
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "c0ffee")
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "lo")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the plugin starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin
        .write_all(config.to_string().as_bytes())
        .expect("the plugin reads stdin");
    drop(stdin);
    child.wait_with_output().expect("the plugin ends")
}

/// What containerd sends: a name, a type, and no socket.
fn config(version: &str) -> Value {
    json!({"cniVersion": version, "name": "cni-loopback", "type": "loopback"})
}

fn stdout(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output:?}"))
}

#[rstest]
#[case("0.3.1", json!({"address": "127.0.0.1/8", "interface": 0, "version": "4"}))]
#[case("1.0.0", json!({"address": "127.0.0.1/8", "interface": 0}))]
fn add_brings_lo_up_and_says_what_it_has(#[case] version: &str, #[case] address: Value) {
    let namespace = Namespace::new();

    let output = loopback("ADD", &namespace.path, &config(version));

    assert!(output.status.success(), "{output:?}");
    let result = stdout(&output);
    assert_eq!(result["cniVersion"], version);
    assert_eq!(
        result["interfaces"],
        json!([{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": namespace.path}])
    );
    assert_eq!(result["ips"][0], address);
    let check = loopback("CHECK", &namespace.path, &config("1.0.0"));
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn adding_twice_is_as_good_as_once() {
    let namespace = Namespace::new();
    let first = loopback("ADD", &namespace.path, &config("1.0.0"));
    let second = loopback("ADD", &namespace.path, &config("1.0.0"));
    assert!(second.status.success());
    assert_eq!(stdout(&first), stdout(&second));
}

#[test]
fn a_previous_result_is_passed_on() {
    let namespace = Namespace::new();
    let mut config = config("1.0.0");
    config["prevResult"] = json!({"cniVersion": "1.0.0", "ips": [], "mine": true});
    let output = loopback("ADD", &namespace.path, &config);
    assert_eq!(stdout(&output), config["prevResult"]);
}

#[test]
fn check_finds_a_loopback_that_is_down() {
    let namespace = Namespace::new();
    let output = loopback("CHECK", &namespace.path, &config("1.0.0"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output)["code"], 100);
}

#[test]
fn del_succeeds_when_the_namespace_is_gone() {
    let output = loopback("DEL", "/run/netns/ripstop-no-such-namespace", &config("1.0.0"));
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty());
}

#[test]
fn add_to_a_namespace_that_is_gone_is_an_unknown_container() {
    let output = loopback("ADD", "/run/netns/ripstop-no-such-namespace", &config("1.0.0"));
    assert_eq!(stdout(&output)["code"], 3);
}

#[test]
fn a_path_that_is_no_namespace_is_refused() {
    let output = loopback("ADD", "/proc/self/status", &config("1.0.0"));
    assert_eq!(stdout(&output)["code"], 5);
}
