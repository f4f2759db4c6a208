//! The built program against itself, on loopback.
#![expect(clippy::unwrap_used, reason = "in a test, whatever goes wrong is the failure")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Server {
    child: Child,
    /// Kept open, so that the server can go on reporting.
    _output: BufReader<ChildStdout>,
    http: SocketAddr,
    echo: SocketAddr,
    sink: SocketAddr,
}

impl Server {
    fn start(host: &str, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_toolbox"))
            .args([
                "serve",
                "--http",
                &format!("{host}:0"),
                "--echo",
                &format!("{host}:0"),
                "--sink",
                &format!("{host}:0"),
            ])
            .args(options)
            .env("NODE_NAME", "node-7")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let at = |key: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(key));
            word.unwrap().parse().unwrap()
        };
        let (http, echo, sink) = (at("http="), at("echo="), at("sink="));
        Self {
            child,
            _output: output,
            http,
            echo,
            sink,
        }
    }

    fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.http)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// What one connection answers to these bytes.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn toolbox(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolbox"));
    command.args(words).output().unwrap()
}

/// The output of a run that succeeded.
fn out(words: &[&str]) -> String {
    let output = toolbox(words);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn get_prints_what_the_server_saw() {
    let server = Server::start("127.0.0.1", &[]);
    let url = server.url("/some/path?x=1");
    for (field, value) in [
        ("client_ip", "127.0.0.1"),
        ("node", "node-7"),
        ("path", "/some/path"),
        ("query", "x=1"),
        ("method", "GET"),
    ] {
        assert_eq!(out(&["get", "--field", field, &url]), format!("{value}\n"));
    }
    let posted = out(&["get", "--post", "hello", "--field", "body", &url]);
    assert_eq!(posted, "hello\n");
    let json: serde_json::Value = serde_json::from_str(&out(&["get", "--json", &url])).unwrap();
    let both = out(&[
        "get",
        "--parallel",
        "--field",
        "path",
        &server.url("/?delay=100ms"),
        &url,
    ]);
    assert_eq!(both, "/\n/some/path\n");
    assert_eq!(
        (json["status"].as_u64(), json["body"]["path"].as_str()),
        (Some(200), Some("/some/path"))
    );
}

#[test]
fn ipv4_clients_of_a_dual_stack_server_have_plain_addresses() {
    let server = Server::start("[::]", &[]);
    let v4 = format!("http://127.0.0.1:{}/", server.http.port());
    assert_eq!(out(&["get", "--field", "client_ip", &v4]), "127.0.0.1\n");
    assert_eq!(out(&["get", "--field", "server_ip", &v4]), "127.0.0.1\n");
    let port = server.echo.port().to_string();
    assert_eq!(out(&["udp", "127.0.0.1", &port, "four"]), "four\n");
    assert_eq!(out(&["tcp", "127.0.0.1", &port, "four"]), "four\n");
    // Another address of the same interface must be the one that answers.
    assert_eq!(out(&["udp", "127.0.0.9", &port, "nine"]), "nine\n");
    // A machine without IPv6 has nothing more to show here.
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        assert_eq!(out(&["udp", "::1", &port, "six"]), "six\n");
        assert_eq!(out(&["udp", "--size", "mtu", "::1", &port]), "65488\n");
        let v6 = format!("http://[::1]:{}/", server.http.port());
        assert_eq!(out(&["get", "--field", "client_ip", &v6]), "::1\n");
    }
}

#[test]
fn bodies_arrive_whole_and_verified() {
    let server = Server::start("127.0.0.1", &["--quiet"]);
    for target in [
        "/?size=3MiB",
        "/?size=100001&chunks=7",
        "/?size=5&chunks=9&interval=1ms",
        "/?size=0",
    ] {
        let text = out(&["download", "--verify", &server.url(target)]);
        assert!(text.contains("complete: "), "{target}: {text}");
    }
    let short = toolbox(&["download", "--size", "5", &server.url("/?size=4")]);
    assert_eq!(short.status.code(), Some(9));
    let other = toolbox(&["download", "--verify", &server.url("/")]);
    assert_eq!(other.status.code(), Some(9));
    let (host, port) = (server.echo.ip().to_string(), server.echo.port().to_string());
    assert_eq!(out(&["udp", "--size", "9000", &host, &port]), "9000\n");
    let json = out(&["udp", "--json", "--size", "mtu", &host, &port]);
    assert!(json.starts_with("{\"bytes\":65507,"), "{json}");
    assert_eq!(
        out(&["get", &server.url("/?chunks=2")]),
        "chunk 1 of 2\nchunk 2 of 2\n"
    );
}

#[test]
fn exit_codes_tell_failures_apart() {
    let server = Server::start("127.0.0.1", &[]);
    let code = |words: &[&str]| toolbox(words).status.code();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let port = closed.port().to_string();
    assert_eq!(code(&["get", &format!("http://{closed}/")]), Some(4));
    assert_eq!(code(&["tcp", "127.0.0.1", &port]), Some(4));
    assert_eq!(code(&["udp", "127.0.0.1", &port, "x"]), Some(4));
    let slow = server.url("/?delay=2s");
    assert_eq!(code(&["get", "--timeout", "100ms", &slow]), Some(5));
    assert_eq!(code(&["get", &server.url("/?status=404")]), Some(8));
    assert_eq!(code(&["get", "--status", &server.url("/?status=404")]), Some(0));
    assert_eq!(code(&["get"]), Some(2));
    assert_eq!(code(&["nothing"]), Some(2));
    assert_eq!(code(&["serve", "--http", "x"]), Some(2));
    for command in ["serve", "get", "download", "tcp", "udp", "load"] {
        assert_eq!(code(&[command, "--help"]), Some(0));
    }
}

#[test]
fn bad_requests_get_an_answer_and_leave_the_server_well() {
    let server = Server::start("127.0.0.1", &[]);
    for (bytes, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\n\r\n\r\n"[..], "400"),
        (b"GET / HTTP/1.1\r\n\r\n", "400"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400",
        ),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", "505"),
        (&[b'x'; 100_000][..], "431"),
    ] {
        let answer = server.raw(bytes);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{bytes:.30?}: {answer}"
        );
    }
    let pipelined = server.raw(
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\
          HEAD /b HTTP/1.1\r\nHost: a\r\n\r\nGET /c?status=201 HTTP/1.0\r\n\r\n",
    );
    assert_eq!(pipelined.matches("HTTP/1.1 20").count(), 3, "{pipelined}");
    assert!(pipelined.contains("\"body\":\"hi\""), "{pipelined}");
    assert!(!pipelined.contains("\"/b\""), "{pipelined}");
}

#[test]
fn as_many_are_served_at_once_as_it_takes_and_their_threads_end_with_them() {
    let server = Server::start("127.0.0.1", &[]);
    let threads = || {
        let folder = format!("/proc/{}/task", server.child.id());
        std::fs::read_dir(folder).unwrap().count()
    };
    let echoed = |stream: &mut TcpStream| {
        let mut byte = [0];
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"a").unwrap();
        stream.read(&mut byte).unwrap_or(0) == 1
    };
    let mut held = Vec::new();
    for _ in 0..512 {
        let mut stream = TcpStream::connect(server.echo).unwrap();
        assert!(echoed(&mut stream), "connection {}", held.len());
        held.push(stream);
    }
    assert!(server.raw(b"").starts_with("HTTP/1.1 503 "));
    let (many, deadline) = (threads(), Instant::now() + Duration::from_secs(20));
    assert!(many > 512, "{many}");
    drop(held);
    while threads() > 32 {
        assert!(Instant::now() < deadline, "{} threads are left", threads());
        std::thread::sleep(Duration::from_millis(5));
    }
    let answer = server.raw(b"GET / HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn load_counts_what_was_answered_and_what_failed() {
    let server = Server::start("127.0.0.1", &["--quiet"]);
    let words = |target| {
        let url = server.url(target);
        toolbox(&[
            "load",
            "--json",
            "--seconds",
            "0.5",
            "--rate",
            "100",
            "--connections",
            "4",
            &url,
        ])
    };
    let good = words("/");
    assert!(good.status.success());
    let json: serde_json::Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!(
        (json["answered"].as_u64(), json["failed"].as_u64()),
        (Some(50), Some(0))
    );
    let bad = words("/?status=500");
    assert_eq!(bad.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(json["failures"]["HTTP status 500"], json["failed"]);
}

#[test]
fn load_of_tcp_is_a_byte_there_and_back() {
    let server = Server::start("127.0.0.1", &[]);
    let url = format!("tcp://{}", server.echo);
    for more in [&[][..], &["--fresh"], &["--connections", "3", "--rate", "100"]] {
        let mut words = vec!["load", "--json", "--seconds", "0.2", &url];
        words.extend(more);
        let account: serde_json::Value = serde_json::from_str(&out(&words)).unwrap();
        assert_eq!(account["failed"], 0, "{account}");
        assert!(account["answered"].as_u64().unwrap() > 1, "{account}");
    }
    // A server that speaks first, or something else, is no echo server.
    let url = format!("tcp://{}", server.http);
    let failed = toolbox(&["load", "--seconds", "0.1", "--timeout", "50ms", &url]);
    assert_eq!(failed.status.code(), Some(1));
}

#[test]
fn a_flood_is_counted_where_it_arrives() {
    let server = Server::start("127.0.0.1", &[]);
    let flood = |scheme: &str, more: &[&str]| -> serde_json::Value {
        let url = format!("{scheme}://{}", server.sink);
        let mut words = vec!["flood", "--json", "--seconds", "0.2", &url];
        words.extend(more);
        serde_json::from_str(&out(&words)).unwrap()
    };
    for streams in ["1", "8"] {
        let account = flood("tcp", &["--streams", streams, "--size", "64KiB"]);
        let received = account["received"].as_u64().unwrap();
        assert!(received > 0 && received % (64 << 10) == 0, "{account}");
        assert!(account["sent"].is_null());
    }
    for _ in 0..2 {
        let account = flood("udp", &["--size", "100"]);
        let (sent, received) = (&account["sent"], account["received"].as_u64().unwrap());
        assert!(received > 0 && received <= sent.as_u64().unwrap(), "{account}");
    }
    // What comes back isn't a count.
    let code = |words: &[&str]| toolbox(words).status.code();
    let echo = format!("tcp://{}", server.echo);
    assert_eq!(
        code(&["flood", "--seconds", "0.1", "--size", "9", &echo]),
        Some(9)
    );
    for bad in [
        &["udp://127.0.0.1:9", "--size", "1"][..],
        &["udp://127.0.0.1:9", "--streams", "2"],
        &["http://127.0.0.1:9"],
        &["tcp://127.0.0.1:9", "--streams", "0"],
    ] {
        assert_eq!(code(&[&["flood"][..], bad].concat()), Some(2), "{bad:?}");
    }
}

#[test]
fn asked_to_end_it_goes_on_answering_and_finishes_what_runs() {
    let mut server = Server::start("127.0.0.1", &["--drain", "1s"]);
    let slow = server.url("/?delay=2s&status=201");
    let running = std::thread::spawn(move || out(&["get", "--status", &slow]));
    // The request is under way once a second one, sent later, is answered.
    std::thread::sleep(Duration::from_millis(300));
    out(&["get", &server.url("/")]);
    let asked = Instant::now();
    server.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(out(&["get", "--status", &server.url("/new")]), "200\n");
    assert_eq!(out(&["get", "--status", &server.url("/readyz")]), "503\n");
    assert_eq!(out(&["get", "--status", &server.url("/healthz")]), "200\n");
    assert_eq!(running.join().unwrap(), "201\n");
    let ended = server.child.wait().unwrap();
    assert_eq!(ended.code(), Some(0));
    assert!(asked.elapsed() >= Duration::from_secs(1));
    assert_eq!(toolbox(&["get", &server.url("/")]).status.code(), Some(4));
}

#[test]
fn asked_twice_it_ends_at_once() {
    let mut server = Server::start("127.0.0.1", &["--drain", "1h"]);
    server.signal(Signal::SIGINT);
    let mut line = String::new();
    server._output.read_line(&mut line).unwrap();
    assert!(line.contains("draining"), "{line}");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn pause_ends_when_asked() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pause")).spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    // It has blocked the signals once it waits for them: rt_sigtimedwait is
    // 128 on x86-64 and 137 on aarch64.
    let waits = |call: String| call.starts_with("128 ") || call.starts_with("137 ");
    while !waits(std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
