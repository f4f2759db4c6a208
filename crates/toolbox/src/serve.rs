//! `toolbox serve`: the listeners, the connections, and leaving politely.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::answer::Identity;
use crate::args::{self, Args};
use crate::clock;
use crate::converse::Server;
use crate::drain::State;
use crate::echo;
use crate::failure::Failure;
use crate::signals::Signals;
use crate::sink;

const HELP: &str = "\
Answers HTTP and echoes TCP and UDP until it is asked to end.

Usage: toolbox serve [OPTIONS]

  --http PORT|ADDRESS:PORT   where HTTP is answered [8080, IPv4 and IPv6]
  --echo PORT|ADDRESS:PORT   where TCP and UDP are echoed [9000]
  --sink PORT|ADDRESS:PORT   where TCP and UDP are counted, for `toolbox flood` [nowhere]
  --drain DURATION           how long it goes on after SIGTERM [3s]
  --delay DURATION           wait before every answer [0s]
  --quiet                    don't print a line for each request

GET /                        JSON: who asked whom for what
    ?delay=500ms             wait first             ?load=200ms  burn a processor first
    ?status=503              answer with a status   ?size=10MiB  that many bytes
    ?chunks=10&interval=1s   a slow stream; with ?size=, of that size in all
POST /                       the same, with `body_bytes` and the body's first 4 KiB
GET /healthz, /readyz        200; POST /healthz?status=500 changes it;
                             /readyz answers 503 once the server is draining

On SIGTERM or SIGINT it answers for the time of --drain as before, finishes what
is under way and exits with 0; a second signal ends it at once.
";

/// More connections than this at once are told to come back later.
const MOST_CONNECTIONS: usize = 512;
/// As many threads may wait for connections; what more there were end.
const MOST_WAITING: usize = 8;
/// A connection's thread needs little; the default would be 2 MiB of it.
const STACK: usize = 128 << 10;
/// What a client is told that is one too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";

/// Runs the server until it is asked to end.
pub(crate) fn command(words: &[String]) -> Result<(), Failure> {
    let mut args = Args::new(words, HELP)?;
    let http = args.option("--http", place)?.unwrap_or(anywhere(8080));
    let echo = args.option("--echo", place)?.unwrap_or(anywhere(9000));
    let sink = args.option("--sink", place)?;
    let drain = args.option("--drain", args::duration)?;
    let drain = drain.unwrap_or(Duration::from_secs(3));
    let state = Arc::new(State::default());
    let server = Arc::new(Server {
        state: Arc::clone(&state),
        identity: identity(),
        delay: args.option("--delay", args::duration)?.unwrap_or_default(),
        quiet: args.switch("--quiet"),
    });
    args.rest(0, 0)?;

    // Before any thread, so that all of them leave signals to this one.
    let signals = Signals::block().map_err(|e| Failure::Other(format!("signals: {e}")))?;
    let sockets = Sockets::open(http, echo, sink)?;
    say(&format!("listening {sockets}"));
    let listeners = sockets.listeners();
    sockets.serve(server);
    let asked = listen_for_signals(signals);
    end(&state, &asked, drain, &listeners);
    Ok(())
}

/// The sockets, bound.
struct Sockets {
    http: TcpListener,
    echo: (TcpListener, UdpSocket),
    sink: Option<(TcpListener, UdpSocket)>,
}

impl Sockets {
    fn open(http: SocketAddr, echo: SocketAddr, sink: Option<SocketAddr>) -> Result<Self, Failure> {
        Ok(Self {
            http: listen("HTTP", http, TcpListener::bind)?,
            echo: both("echo", echo)?,
            sink: sink.map(|at| both("sink", at)).transpose()?,
        })
    }

    fn listeners(&self) -> Vec<i32> {
        let sink = self.sink.iter().map(|(tcp, _)| tcp);
        let all = [&self.http, &self.echo.0].into_iter().chain(sink);
        all.map(AsRawFd::as_raw_fd).collect()
    }

    /// Starts a thread for each.
    fn serve(self, server: Arc<Server>) {
        let state = Arc::clone(&server.state);
        let Self { http, echo, sink } = self;
        start_accepting(http, &state, FULL, move |s| server.converse(s));
        let shared = Arc::clone(&state);
        start_accepting(echo.0, &state, b"", move |s| echo::tcp(s, &shared));
        start(move || echo::udp(&echo.1));
        if let Some((tcp, udp)) = sink {
            start_accepting(tcp, &state, b"", sink::tcp);
            start(move || sink::udp(&udp));
        }
    }
}

impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |socket: &TcpListener| match socket.local_addr() {
            Ok(address) => address.to_string(),
            Err(e) => e.to_string(),
        };
        write!(f, "http={} echo={}", at(&self.http), at(&self.echo.0))?;
        match &self.sink {
            Some((tcp, _)) => write!(f, " sink={}", at(tcp)),
            None => Ok(()),
        }
    }
}

/// TCP and UDP on one port.
fn both(what: &str, at: SocketAddr) -> Result<(TcpListener, UdpSocket), Failure> {
    let tcp = listen(&format!("TCP {what}"), at, TcpListener::bind)?;
    // The port that was found, where any would do.
    let udp = tcp.local_addr().unwrap_or(at);
    Ok((tcp, listen(&format!("UDP {what}"), udp, UdpSocket::bind)?))
}

/// A message for every time that somebody asks this process to end.
fn listen_for_signals(signals: Signals) -> mpsc::Receiver<()> {
    let (sender, asked) = mpsc::channel();
    start(move || {
        loop {
            signals.wait_for_end();
            if sender.send(()).is_err() {
                return;
            }
        }
    });
    asked
}

/// Waits until asked to end, then leaves in the order that loses nothing.
fn end(state: &State, asked: &mpsc::Receiver<()>, drain: Duration, sockets: &[i32]) {
    if asked.recv().is_err() {
        return;
    }
    say(&format!("draining: new requests are answered for {drain:?} more"));
    state.drain();
    let again = || say("asked twice: ending at once");
    if asked.recv_timeout(drain).is_ok() {
        return again();
    }
    state.close();
    for socket in sockets {
        // Wakes the thread that accepts, and refuses new connections.
        let _ = nix::sys::socket::shutdown(*socket, nix::sys::socket::Shutdown::Both);
    }
    // A request that has just arrived is not under way for a moment.
    let mut quiet = 0;
    while quiet < 3 {
        if asked.recv_timeout(Duration::from_millis(10)).is_ok() {
            return again();
        }
        quiet = if state.idle() { quiet + 1 } else { 0 };
    }
    say("drained");
}

/// Prints a line with the time. Nobody reading it is no reason to fail.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{} {text}", clock::now());
}

fn start(run: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK).spawn(run);
    // The first few threads of a process; without them there is no server.
    thread.expect("the process may start threads");
}

fn identity() -> Identity {
    let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let hostname = nix::unistd::gethostname().map_or_else(
        |_| String::from("unknown"),
        |name| name.to_string_lossy().into_owned(),
    );
    let account = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    Identity {
        hostname,
        node: var("NODE_NAME"),
        pod: var("POD_NAME"),
        namespace: var("POD_NAMESPACE").or_else(|| std::fs::read_to_string(account).ok()),
    }
}

fn anywhere(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

/// A port, or an address with a port.
fn place(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(anywhere(port));
    }
    text.parse()
        .map_err(|_| "neither a port nor an address with a port".to_owned())
}

/// Binds; where the machine has no IPv6, all of IPv4 stands for everything.
fn listen<T>(what: &str, at: SocketAddr, bind: fn(SocketAddr) -> io::Result<T>) -> Result<T, Failure> {
    let everywhere = at.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let bound = match bind(at) {
        Err(e) if everywhere && e.kind() != io::ErrorKind::AddrInUse => {
            bind((Ipv4Addr::UNSPECIFIED, at.port()).into())
        }
        other => other,
    };
    bound.map_err(|e| Failure::Other(format!("can't listen for {what} on {at}: {e}")))
}

fn start_accepting<F>(listener: TcpListener, state: &Arc<State>, refusal: &'static [u8], talk: F)
where
    F: Fn(TcpStream) + Send + Sync + 'static,
{
    let door = Arc::new(Door {
        listener,
        state: Arc::clone(state),
        refusal,
        talk,
        waiting: AtomicUsize::new(1),
    });
    start(move || door.keep());
}

/// Where connections come in. The thread that takes one in also serves it, and sees to it that another waits
/// meanwhile: a connection costs neither a thread of its own nor a switch to one, so that what is measured
/// with this server is the network.
struct Door<F> {
    listener: TcpListener,
    state: Arc<State>,
    /// What a client is told that is one too many.
    refusal: &'static [u8],
    talk: F,
    /// Threads that wait for a connection.
    waiting: AtomicUsize,
}

impl<F> Door<F>
where
    F: Fn(TcpStream) + Send + Sync + 'static,
{
    /// Takes connections in and serves them until the server closes, or enough others wait.
    fn keep(self: &Arc<Self>) {
        loop {
            let Ok((mut stream, _)) = self.listener.accept() else {
                if self.state.closed() {
                    return;
                }
                // Out of descriptors or memory, or a client that left at once.
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            let Some(place) = self.state.admit(MOST_CONNECTIONS) else {
                let _ = stream.set_write_timeout(Some(Duration::from_millis(10)));
                let _ = stream.write_all(self.refusal);
                continue;
            };
            let was_last = self.waiting.fetch_sub(1, Ordering::Relaxed) == 1;
            if was_last && !self.start_another() {
                // Whoever stays must wait; the connection is closed.
                self.waiting.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            (self.talk)(stream);
            drop(place);
            if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Starts a thread that waits; false if none can be had.
    fn start_another(self: &Arc<Self>) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let door = Arc::clone(self);
        let thread = thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || door.keep());
        if thread.is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        thread.is_ok()
    }
}
