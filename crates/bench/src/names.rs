//! Names: `ripstop dns` beside dnsmasq, and beside CoreDNS where there is one, on the same processor, with
//! the same names, asked by the same client on another processor.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dns::memory::{Memory, Remembered};
use dns::record::{Kind, Service};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use crate::extent::Extent;
use crate::figures::{Figures, Unit, quantile};

const SERVICES: u16 = 5000;
/// Questions on their way at a time.
const FULL: usize = 64;
const LIGHT: usize = 4;
/// How long a server may take to answer at first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures all of them in turns; CoreDNS if `coredns` is where it is.
pub(crate) fn measure(
    ripstop: &Path,
    coredns: Option<&Path>,
    extent: &Extent,
    figures: &mut Figures,
) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder for names")?;
    let mut servers = vec![own(ripstop, &folder)?, dnsmasq(&folder)?];
    if let Some(program) = coredns {
        servers.push(self::coredns(program, &folder)?);
    }
    let mut cost = vec![Vec::new(); servers.len()];
    let mut late = vec![Vec::new(); servers.len()];
    for _ in 0..extent.rounds {
        for (at, server) in servers.iter().enumerate() {
            let time = Duration::from_secs_f64(extent.seconds.max(0.2));
            cost[at].push(server.ask(FULL, time)?.cost());
            late[at].push(server.ask(LIGHT, time)?.late());
        }
    }
    let middle = |values: &[f64]| quantile(values, 0.5);
    let (own_cost, own_late) = (middle(&cost[0]), middle(&late[0]));
    for (at, server) in servers.iter().enumerate().skip(1) {
        let (name, bar) = (server.name, server.bar);
        let other = middle(&cost[at]);
        let note = format!("{:.0} a second, {name} {:.0}", 1e3 / own_cost, 1e3 / other);
        let what = format!("DNS, {SERVICES} Services: time an answer at full load, against {name}");
        figures.add(&what, own_cost / other, Unit::Times, bar, note);
        let other = middle(&late[at]);
        let [own, others] = [own_late, other].map(|late| Unit::Millis.write(late));
        let note = format!("{own}, {name} {others}");
        let what =
            format!("DNS, {SERVICES} Services: 99 of 100 answers with {LIGHT} at a time, against {name}");
        figures.add(&what, own_late / other, Unit::Times, bar, note);
    }
    Ok(())
}

/// A server that answers at a port of loopback until it's dropped.
struct Server {
    /// What it is, and what Ripstop's time may be of its.
    name: &'static str,
    bar: Option<f64>,
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the client saw: how long each answer took.
struct Seen {
    times: Vec<f64>,
    all: Duration,
}

impl Seen {
    /// Milliseconds an answer.
    fn cost(&self) -> f64 {
        self.all.as_secs_f64() * 1e3 / self.times.len() as f64
    }

    /// Milliseconds within which 99 of 100 came.
    fn late(&self) -> f64 {
        quantile(&self.times, 0.99)
    }
}

impl Server {
    /// Starts a program on the first processor, and waits until it answers.
    fn start(name: &'static str, program: &Path, args: &[String], address: SocketAddr) -> Result<Server> {
        let child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let server = Server {
            name,
            bar: None,
            child,
            address,
        };
        let end = Instant::now() + PATIENCE;
        while server.ask(1, Duration::from_millis(1)).is_err() {
            if Instant::now() > end {
                bail!("{} doesn't answer", program.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Asks for that long with as many questions on their way, from a thread on the last processor.
    fn ask(&self, window: usize, time: Duration) -> Result<Seen> {
        let address = self.address;
        let work = move || -> Result<Seen> {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            let mut last = CpuSet::new();
            last.set(processors - 1)?;
            sched_setaffinity(Pid::from_raw(0), &last).context("choose a processor")?;
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            let (mut sent, mut times) = (vec![Instant::now(); 1 << 16], Vec::new());
            let mut id = 0u16;
            let mut send = |sent: &mut Vec<Instant>| -> Result<()> {
                id = id.wrapping_add(1);
                sent[usize::from(id)] = Instant::now();
                socket.send(&question(id))?;
                Ok(())
            };
            let begin = Instant::now();
            for _ in 0..window {
                send(&mut sent)?;
            }
            let mut buffer = [0; 512];
            while begin.elapsed() < time || times.is_empty() {
                let length = socket.recv(&mut buffer).context("no answer")?;
                let answers = u16::from_be_bytes([buffer[6], buffer[7]]);
                if length < 12 || buffer[3] & 0xf != 0 || answers != 1 {
                    bail!("another answer than the name's address");
                }
                let id = u16::from_be_bytes([buffer[0], buffer[1]]);
                times.push(sent[usize::from(id)].elapsed().as_secs_f64() * 1e3);
                send(&mut sent)?;
            }
            let all = begin.elapsed();
            Ok(Seen { times, all })
        };
        std::thread::spawn(work).join().expect("asking doesn't panic")
    }
}

fn name(number: u16) -> (String, String) {
    (format!("ns-{}", number % 50), format!("svc-{number}"))
}

fn address(number: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 20)) + u32::from(number))
}

/// One of the names, another one each time.
fn question(id: u16) -> Vec<u8> {
    let (namespace, service) = name(id.wrapping_mul(7919) % SERVICES);
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in [&service, &namespace, "svc", "cluster", "local"] {
        bytes.push(u8::try_from(label.len()).expect("a short label"));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

fn free() -> Result<SocketAddr> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// `ripstop dns` while the API is away: it has the names of its last run.
fn own(ripstop: &Path, folder: &TempDir) -> Result<Server> {
    let listen = free()?;
    let data = folder.path().join("dns");
    let mut remembered = Remembered {
        domain: "cluster.local".to_owned(),
        ..Remembered::default()
    };
    let services = (0..SERVICES).map(|number| {
        let kind = Kind::Cluster(vec![IpAddr::V4(address(number))]);
        (
            name(number),
            Service {
                kind,
                ports: Vec::new(),
            },
        )
    });
    remembered.records.services.extend(services);
    Memory::new(&data).remember(&remembered);
    let kubeconfig = folder.path().join("kubeconfig");
    let nowhere = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    });
    fs::write(&kubeconfig, nowhere.to_string())?;
    let config = folder.path().join("dns.json");
    let text = json!({
        "nodeName": "node-1", "kubeconfig": kubeconfig, "dataDir": data, "listen": [listen],
        "servers": ["10.96.0.10"], "resolvConf": "/dev/null",
    });
    fs::write(&config, text.to_string())?;
    let args = [
        "dns".to_owned(),
        "--config".to_owned(),
        config.display().to_string(),
    ];
    Server::start("Ripstop", ripstop, &args, listen)
}

fn dnsmasq(folder: &TempDir) -> Result<Server> {
    let found = ["/usr/sbin/dnsmasq", "/usr/local/sbin/dnsmasq", "/usr/bin/dnsmasq"].map(PathBuf::from);
    let program = found.into_iter().find(|path| path.is_file());
    let program =
        program.context("dnsmasq isn't there: install dnsmasq-base (scripts/deps.sh --bench does)")?;
    let listen = free()?;
    let file = hosts(folder)?;
    let args = [
        "--keep-in-foreground".to_owned(),
        "--conf-file=/dev/null".to_owned(),
        "--no-resolv".to_owned(),
        "--no-hosts".to_owned(),
        "--bind-interfaces".to_owned(),
        "--listen-address=127.0.0.1".to_owned(),
        "--user=root".to_owned(),
        "--pid-file=".to_owned(),
        "--cache-size=10000".to_owned(),
        format!("--port={}", listen.port()),
        format!("--addn-hosts={}", file.display()),
    ];
    Server::start("dnsmasq", &program, &args, listen)
}

/// CoreDNS with the same names from a file, which is less work to it than the API's objects.
fn coredns(program: &Path, folder: &TempDir) -> Result<Server> {
    let listen = free()?;
    let file = folder.path().join("Corefile");
    let text = format!(
        "cluster.local:{} {{\n  bind 127.0.0.1\n  cache 30\n  hosts {}\n}}\n",
        listen.port(),
        hosts(folder)?.display()
    );
    fs::write(&file, text)?;
    let args = ["-conf".to_owned(), file.display().to_string()];
    let mut server = Server::start("CoreDNS", program, &args, listen)?;
    server.bar = Some(1.0 / 3.0);
    Ok(server)
}

/// The names as `/etc/hosts` has them.
fn hosts(folder: &TempDir) -> Result<PathBuf> {
    let mut hosts = String::new();
    for number in 0..SERVICES {
        let (namespace, service) = name(number);
        // A String takes everything that is written to it.
        let _ = writeln!(
            hosts,
            "{} {service}.{namespace}.svc.cluster.local",
            address(number)
        );
    }
    let file = folder.path().join("hosts");
    fs::write(&file, hosts)?;
    Ok(file)
}
