//! The plugin binary against an agent that this test plays.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use cni::wire::{Request, Response};
use cni::{Code, Error};
use rstest::rstest;
use serde_json::{Value, json};

/// Runs the plugin as a container runtime does.
fn plugin(command: &str, config: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ripstop-cni"))
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "c0ffee")
        .env("CNI_NETNS", "/run/netns/none")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web")
        .env("CNI_PATH", "/opt/cni/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the plugin starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin
        .write_all(config.as_bytes())
        .expect("the plugin reads stdin");
    drop(stdin);
    child.wait_with_output().expect("the plugin ends")
}

fn config(version: &str, socket: &Path) -> String {
    json!({
        "cniVersion": version, "name": "ripstop", "type": "ripstop-cni", "socket": socket,
        "connectTimeoutMs": 2000, "answerTimeoutMs": 10_000,
    })
    .to_string()
}

fn stdout(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output:?}"))
}

/// Reads the next request from a plugin.
fn accept(listener: &UnixListener) -> (UnixStream, Request) {
    let (mut stream, _) = listener.accept().expect("a plugin connects");
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .expect("the plugin closes its half");
    (stream, Request::parse(&bytes).expect("a request"))
}

fn answer(mut stream: UnixStream, response: &Response) {
    let bytes = serde_json::to_vec(response).expect("JSON");
    stream.write_all(&bytes).expect("the plugin reads");
}

struct Agent {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    listener: UnixListener,
}

impl Agent {
    fn new() -> Agent {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("cni.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        Agent {
            _dir: dir,
            socket,
            listener,
        }
    }

    /// Answers one call.
    fn once(self, response: Response) -> JoinHandle<Request> {
        thread::spawn(move || {
            // The whole agent moves in here: its directory lives as long as the call.
            let agent = self;
            let (stream, request) = accept(&agent.listener);
            answer(stream, &response);
            drop(agent);
            request
        })
    }
}

#[test]
fn an_add_reaches_the_agent_whole_and_its_result_is_printed_as_it_is() {
    let agent = Agent::new();
    let config = config("1.0.0", &agent.socket);
    let result = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.244.0.2/32"}]});
    let served = agent.once(Response::Success(Some(result.clone())));

    let output = plugin("ADD", &config);

    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout(&output), result);
    let request = served.join().expect("served");
    assert_eq!(request.call.command, cni::Command::Add);
    assert_eq!(request.call.container_id, "c0ffee");
    assert_eq!(request.call.netns.as_deref(), Some("/run/netns/none"));
    assert_eq!(request.call.arg("K8S_POD_NAME"), "web");
    assert_eq!(request.config.name, "ripstop");
}

#[rstest]
#[case("DEL", "1.0.0")]
#[case("CHECK", "0.4.0")]
#[case("STATUS", "1.1.0")]
#[case("GC", "1.1.0")]
fn commands_without_a_result_print_nothing(#[case] command: &str, #[case] version: &str) {
    let agent = Agent::new();
    let config = config(version, &agent.socket);
    let served = agent.once(Response::Success(None));

    let output = plugin(command, &config);

    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(served.join().expect("served").call.command.as_str(), command);
}

#[test]
fn the_agents_error_is_printed_in_the_callers_version_with_a_failing_exit_code() {
    let agent = Agent::new();
    let config = config("1.1.0", &agent.socket);
    let served = agent.once(Response::Failure(Error::new(
        Code::NotAvailable,
        "no podCIDR yet",
    )));

    let output = plugin("STATUS", &config);

    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stdout(&output),
        json!({"cniVersion": "1.1.0", "code": 50, "msg": "no podCIDR yet"})
    );
    served.join().expect("served");
}

#[test]
fn an_agent_that_is_not_there_means_try_again_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = plugin("ADD", &config("1.0.0", &dir.path().join("cni.sock")));

    assert_eq!(output.status.code(), Some(1));
    let error = stdout(&output);
    assert_eq!(error["code"], 11);
    let message = error["msg"].as_str().expect("a message");
    assert!(
        message.contains("there is no such socket") && message.contains("it may be restarting"),
        "{message}"
    );
}

#[test]
fn a_socket_that_nobody_listens_on_means_try_again_later() {
    let agent = Agent::new();
    drop(agent.listener);
    let output = plugin("DEL", &config("0.3.1", &agent.socket));
    assert_eq!(stdout(&output)["code"], 11);
}

#[test]
fn an_agent_that_starts_a_little_later_is_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("cni.sock");
    let config = config("1.0.0", &socket);
    let served = thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(100));
        let listener = UnixListener::bind(&socket).expect("a socket");
        let (stream, _) = accept(&listener);
        answer(stream, &Response::Success(None));
    });
    let output = plugin("DEL", &config);
    assert!(output.status.success(), "{output:?}");
    served.join().expect("served");
}

#[rstest]
#[case::before_a_word("")]
#[case::in_the_middle_of_the_answer(r#"{"success":{"cniVer"#)]
fn a_call_that_a_restart_interrupts_is_sent_again(#[case] cut: &'static str) {
    let agent = Agent::new();
    let config = config("1.0.0", &agent.socket);
    let served = thread::spawn(move || {
        let (mut stream, first) = accept(&agent.listener);
        stream.write_all(cut.as_bytes()).expect("the plugin reads");
        drop(stream);
        let (stream, second) = accept(&agent.listener);
        answer(stream, &Response::Success(None));
        (first, second)
    });
    let output = plugin("DEL", &config);
    assert!(output.status.success(), "{output:?}");
    let (first, second) = served.join().expect("served");
    assert_eq!(first, second);
}

/// Only the time without any agent counts: those that were killed before they answered were there.
#[test]
fn agents_that_are_ended_one_after_the_other_are_waited_for_anew() {
    let agent = Agent::new();
    let mut config: Value = serde_json::from_str(&config("1.0.0", &agent.socket)).expect("JSON");
    config["connectTimeoutMs"] = json!(400);
    let served = thread::spawn(move || {
        for _ in 0..4 {
            let (stream, _) = accept(&agent.listener);
            thread::sleep(std::time::Duration::from_millis(150));
            drop(stream);
        }
        let (stream, _) = accept(&agent.listener);
        answer(stream, &Response::Success(None));
    });
    let output = plugin("DEL", &config.to_string());
    assert!(output.status.success(), "{output:?}");
    served.join().expect("served");
}

#[test]
fn an_agent_that_always_ends_before_its_answer_is_given_up_in_the_end() {
    let agent = Agent::new();
    let mut config: Value = serde_json::from_str(&config("1.0.0", &agent.socket)).expect("JSON");
    config["answerTimeoutMs"] = json!(300);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let socket = agent.socket.clone();
    let served = thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            drop(agent.listener.accept());
        }
    });
    let output = plugin("DEL", &config.to_string());
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    drop(UnixStream::connect(&socket));
    served.join().expect("served");
    let error = stdout(&output);
    assert_eq!(error["code"], 11);
    let message = error["msg"].as_str().expect("a message");
    assert!(message.contains("for 300ms (the connection broke)"), "{message}");
}

#[test]
fn an_agent_that_stays_silent_is_given_up() {
    let agent = Agent::new();
    let mut config: Value = serde_json::from_str(&config("1.0.0", &agent.socket)).expect("JSON");
    config["answerTimeoutMs"] = json!(100);
    let output = plugin("ADD", &config.to_string());
    let error = stdout(&output);
    assert_eq!(error["code"], 11);
    assert!(
        error["msg"]
            .as_str()
            .is_some_and(|msg| msg.contains("didn't answer in 100ms")),
        "{error}"
    );
}

#[rstest]
#[case("0.3.1")]
#[case("0.4.0")]
#[case("1.0.0")]
#[case("1.1.0")]
fn version_is_answered_without_an_agent(#[case] version: &str) {
    let output = plugin("VERSION", &json!({"cniVersion": version}).to_string());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        stdout(&output),
        json!({"cniVersion": version, "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]})
    );
}

#[rstest]
#[case::garbage("ADD", "{", 6)]
#[case::old_version("ADD", r#"{"cniVersion": "0.2.0", "name": "n", "socket": "/s"}"#, 1)]
#[case::no_socket("ADD", r#"{"cniVersion": "1.0.0", "name": "n"}"#, 7)]
#[case::unknown_command("SHRUG", r#"{"cniVersion": "1.0.0", "name": "n"}"#, 4)]
#[case::too_early_for_gc("GC", r#"{"cniVersion": "1.0.0", "name": "n", "socket": "/s"}"#, 1)]
fn what_the_plugin_cannot_read_it_refuses_itself(
    #[case] command: &str,
    #[case] config: &str,
    #[case] code: u32,
) {
    let output = plugin(command, config);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output)["code"], code);
}

#[test]
fn started_by_hand_it_says_what_it_is() {
    let output = Command::new(env!("CARGO_BIN_EXE_ripstop-cni"))
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("the plugin starts");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("started by the container runtime"));
}
