//! Two pods, and the traffic between them.

use std::any::Any;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kernel::NetNs;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::by_service::ByService;
use crate::group::Group;

/// Two pods that reach each other.
pub(crate) struct Pair {
    pub(crate) client: Arc<NetNs>,
    pub(crate) server: Arc<NetNs>,
    /// The server's.
    pub(crate) address: IpAddr,
    /// What the client asks in place of it.
    pub(crate) by: Option<ByService>,
    /// Where the client asks from.
    pub(crate) group: Group,
    /// What has to live as long: a namespace without processes ends with its last handle.
    pub(crate) _keep: Vec<Box<dyn Any>>,
}

impl Pair {
    /// A pair of which the client asks the server's own address, from nobody's control group.
    pub(crate) fn new(
        client: Arc<NetNs>,
        server: Arc<NetNs>,
        address: IpAddr,
        keep: Vec<Box<dyn Any>>,
    ) -> Result<Self> {
        Ok(Self {
            client,
            server,
            address,
            by: None,
            group: Group::of_nobody()?,
            _keep: keep,
        })
    }

    /// What the client asks.
    pub(crate) fn asked(&self) -> IpAddr {
        self.by.as_ref().map_or(self.address, |service| service.address)
    }
}

/// The static toolbox, and the two processors that it is run on.
#[derive(Debug)]
pub(crate) struct Toolbox {
    program: PathBuf,
    cpus: [usize; 2],
    /// What puts it before everything else.
    first: &'static [&'static str],
}

/// Real-time scheduling: niceness counts only among the processes of one terminal (autogroup) or
/// one control group, so that a compiler in another would have as much of the processors.
const REAL_TIME: &[&str] = &["chrt", "--rr", "1"];
const NICE: &[&str] = &["nice", "-n", "-20"];

/// A server, ended when dropped.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where `toolbox serve` counts what `toolbox flood` sends.
pub(crate) const SINK: u16 = 9001;
/// Where it says what it's told.
pub(crate) const ECHO: u16 = 9000;

impl Toolbox {
    pub(crate) fn new(program: PathBuf) -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("ask which processors there are")?;
        let allowed = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        let allowed: Vec<usize> = allowed.collect();
        let (Some(first), Some(last)) = (allowed.first(), allowed.last()) else {
            bail!("this process may use no processor");
        };
        let cpus = [*first, *last];
        let tried = Command::new(REAL_TIME[0])
            .args(&REAL_TIME[1..])
            .arg("true")
            .output();
        let first = if tried.is_ok_and(|output| output.status.success()) {
            REAL_TIME
        } else {
            eprintln!("no real-time scheduling here: figures of a busy machine will vary");
            NICE
        };
        Ok(Self { program, cpus, first })
    }

    /// Starts the server and waits until the client reaches it.
    pub(crate) fn serve(&self, pair: &Pair, cpu: usize) -> Result<Server> {
        let sink = SINK.to_string();
        let mut command = self.command(&["serve", "--quiet", "--drain", "0s", "--sink", &sink]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = self.on(cpu, &pair.server, || command.spawn())?;
        let server = Server(child.with_context(|| format!("run {}", self.program.display()))?);
        let at = SocketAddr::new(pair.address, SINK);
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let limit = Duration::from_millis(500);
            match pair.client.run(|| TcpStream::connect_timeout(&at, limit))? {
                Ok(_) => break,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("one pod doesn't reach the other at {at}"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        if let Some(service) = &pair.by {
            let (asked, echo) = (service.address.to_string(), ECHO.to_string());
            service.wait(|| Ok(self.ask(pair, cpu, &["tcp", &asked, &echo])?.status.success()))?;
        }
        Ok(server)
    }

    /// Runs a client, to its end.
    pub(crate) fn ask(&self, pair: &Pair, cpu: usize, words: &[&str]) -> Result<Output> {
        let mut command = self.command_of_group(&pair.group, words);
        let output = self.on(cpu, &pair.client, || command.output())?;
        output.with_context(|| format!("run {}", self.program.display()))
    }

    /// Before everything else that wants a processor, so that a busy machine disturbs less.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.first[0]);
        command.args(&self.first[1..]).arg(&self.program).args(words);
        command
    }

    /// The same, by a process of a control group.
    fn command_of_group(&self, group: &Group, words: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let join = r#"door=$1; shift; echo 0 > "$door" && exec "$@""#;
        command.args(["-c", join, "sh"]).arg(group.door());
        command.args(self.first).arg(&self.program).args(words);
        command
    }

    /// On a thread inside the namespace and on one of the two processors; children inherit both.
    fn on<T: Send>(&self, cpu: usize, netns: &NetNs, work: impl FnOnce() -> T + Send) -> Result<T> {
        let cpu = self.cpus[cpu];
        let done = netns.run(|| {
            let mut set = CpuSet::new();
            set.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &set)?;
            Ok(work())
        })?;
        done.map_err(|errno: nix::Error| anyhow::anyhow!("stay on processor {cpu}: {errno}"))
    }
}

/// Where `make build` leaves the static toolbox: `../TRIPLE/release/toolbox` from `target/release`.
pub(crate) fn toolbox_beside(program: &Path) -> Result<PathBuf> {
    let target = program.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let folders = std::fs::read_dir(target).with_context(|| target.display().to_string())?;
    let mut files = folders
        .filter_map(Result::ok)
        .filter(|folder| folder.file_name().to_string_lossy().contains("-linux-"))
        .map(|folder| folder.path().join("release/toolbox"));
    let found = files.find(|file| file.is_file());
    found.context("there is no static toolbox: run `make build`, or name it with --toolbox")
}
