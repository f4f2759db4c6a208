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

/// Nodes whose sockets' programs are on groups of their own.
pub(crate) struct Node {
    pub(crate) cluster: Cluster,
    pub(crate) maps: Arc<Services>,
    _group: Group,
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
        Node {
            cluster,
            maps,
            _group: group,
        }
    }

    /// The address of a pod.
    pub(crate) fn pod(&self, number: usize, v6: bool) -> IpAddr {
        self.cluster.pods[number].addresses[usize::from(v6)]
    }

    /// Runs something in a pod.
    pub(crate) fn within<T: Send>(&self, pod: usize, work: impl FnOnce() -> T + Send) -> T {
        self.cluster.pods[pod].netns.run(work).unwrap()
    }
}

/// Writes a Service, everything that leads to it last.
pub(crate) fn put(maps: &Services, at: SocketAddr, protocol: u8, backends: &[SocketAddr]) {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let set = NEXT.fetch_add(1, Ordering::Relaxed);
    for (slot, socket) in (0..).zip(backends) {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let backend = Backend {
            socket: *socket,
            local: true,
        };
        maps.put_backends(&[(id, backend)]).unwrap();
        maps.put_slots(&[(SlotKey { set, slot }, id)]).unwrap();
    }
    let choice = Choice {
        set,
        slots: u32::try_from(backends.len()).unwrap(),
    };
    let frontend = Frontend {
        inside: choice,
        outside: choice,
        affinity: 0,
        strategy: strategy::RANDOM,
        flags: 0,
        zero: 0,
    };
    let at = At {
        address: at.ip(),
        port: at.port(),
        protocol,
    };
    maps.put_frontends(&[(at, frontend)]).unwrap();
}

/// The Services' address that tests use.
pub(crate) fn vip(v6: bool, port: u16) -> SocketAddr {
    let address = if v6 { "fd00:10:96::50" } else { "10.96.0.50" };
    SocketAddr::new(address.parse().unwrap(), port)
}
