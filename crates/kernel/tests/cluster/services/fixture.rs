//! A node with pods whose sockets our programs see, and Services made by hand.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bpf_abi::service::{Choice, Frontend, SlotKey, strategy};
use kernel::cgroup::Hierarchies;
use kernel::services::{At, Services};
use model::Backend;

use crate::fixture::{Cluster, Stack};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// A control group that this process may be in: sockets belong to the group that their process is in
/// when it makes them.
pub(crate) struct Group {
    path: String,
    dir: PathBuf,
    root: PathBuf,
    before: PathBuf,
}

impl Group {
    pub(crate) fn new() -> Group {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let hierarchies = Hierarchies::detect().unwrap();
        let unified = hierarchies.iter().find(|hierarchy| hierarchy.unified).unwrap();
        let path = format!("/ripstop-test-{}-{number}", process::id());
        let dir = unified.root.join(&path[1..]);
        fs::create_dir(&dir).unwrap();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let before = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        Group {
            path,
            dir,
            root: unified.root.clone(),
            before: unified.root.join(before),
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Moves this process in, with all its threads.
    pub(crate) fn enter(&self) {
        fs::write(self.dir.join("cgroup.procs"), process::id().to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let procs = |dir: &PathBuf| fs::write(dir.join("cgroup.procs"), process::id().to_string());
        let _ = procs(&self.before).or_else(|_| procs(&self.root));
        let _ = fs::remove_dir(&self.dir);
    }
}

/// A Service of one port.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) set: u32,
    pub(crate) at: At,
    /// Ids of its backends, in the order of slots.
    pub(crate) ids: Vec<u32>,
}

/// A node whose sockets' programs are on groups of their own.
pub(crate) struct Node {
    pub(crate) cluster: Cluster,
    pub(crate) maps: Arc<Services>,
    group: Group,
}

impl Node {
    /// A node with as many pods, in whose group this process is.
    pub(crate) async fn new(pods: usize) -> Node {
        let group = Group::new();
        let mut cluster = Cluster::new(1, Stack::Dual).await;
        cluster.facts[0].cgroup = Some(group.path().to_owned());
        let cluster = cluster.with_pods(pods).await;
        let maps = cluster.kernels[0].services().unwrap();
        group.enter();
        Node { cluster, maps, group }
    }

    /// The address of a pod.
    pub(crate) fn pod(&self, number: usize, v6: bool) -> IpAddr {
        self.cluster.pods[number].addresses[usize::from(v6)]
    }

    /// A node of its own kind of Services: the same addresses, another group.
    pub(crate) fn enter(&self) {
        self.group.enter();
    }

    /// Runs something in a pod.
    pub(crate) fn within<T: Send>(&self, pod: usize, work: impl FnOnce() -> T + Send) -> T {
        self.cluster.pods[pod].netns.run(work).unwrap()
    }
}

/// Writes a Service, everything that leads to it last.
pub(crate) fn put(maps: &Services, at: SocketAddr, protocol: u8, backends: &[SocketAddr]) -> Service {
    put_as(maps, at, protocol, backends, |_| {})
}

/// The same, otherwise than usual.
pub(crate) fn put_as(
    maps: &Services,
    at: SocketAddr,
    protocol: u8,
    backends: &[SocketAddr],
    change: impl FnOnce(&mut Frontend),
) -> Service {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let next = || NEXT.fetch_add(1, Ordering::Relaxed);
    let set = next();
    let ids: Vec<u32> = backends.iter().map(|_| next()).collect();
    let entries = ids.iter().zip(backends).map(|(id, socket)| {
        let backend = Backend {
            socket: *socket,
            local: true,
        };
        (*id, backend)
    });
    maps.put_backends(&entries.collect::<Vec<_>>()).unwrap();
    let slots = (0..).zip(&ids).map(|(slot, id)| (SlotKey { set, slot }, *id));
    maps.put_slots(&slots.collect::<Vec<_>>()).unwrap();
    let choice = Choice {
        set,
        slots: u32::try_from(ids.len()).unwrap(),
    };
    let mut frontend = Frontend {
        inside: choice,
        outside: choice,
        affinity: 0,
        strategy: strategy::RANDOM,
        flags: 0,
        zero: 0,
    };
    change(&mut frontend);
    let at = At {
        address: at.ip(),
        port: at.port(),
        protocol,
    };
    maps.put_frontends(&[(at, frontend)]).unwrap();
    Service { set, at, ids }
}

/// The Services' address that tests use.
pub(crate) fn vip(v6: bool, port: u16) -> SocketAddr {
    let address = if v6 { "fd00:10:96::50" } else { "10.96.0.50" };
    SocketAddr::new(address.parse().unwrap(), port)
}

/// The same address as IPv6 sockets have IPv4's.
pub(crate) fn mapped(at: SocketAddr) -> SocketAddr {
    match at.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), at.port()),
        IpAddr::V6(_) => at,
    }
}

/// The same address without that disguise.
pub(crate) fn plain(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}
