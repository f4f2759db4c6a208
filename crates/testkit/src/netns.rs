//! Network namespaces for one test.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use kernel::{NetNs, Netlink, netns, sysctl};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// A name that no other test on this machine has: what it's for, the process, a counter.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "rt-{what}-{}-{}",
        process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A network namespace in `/run/netns` with loopback up; its name goes when this is dropped.
#[derive(Debug)]
pub struct TestNs {
    name: String,
    netns: NetNs,
    pins: OnceLock<OwnedFd>,
}

impl TestNs {
    /// Makes one; `what` becomes part of its name.
    pub async fn new(what: &str) -> TestNs {
        let name = unique(what);
        let netns =
            NetNs::create_named(&name).expect("making a network namespace (tests of the network need root)");
        // A new namespace takes these over from the machine, which may forward or not.
        let still = [
            ("net/ipv4/ip_forward", "0"),
            ("net/ipv6/conf/all/forwarding", "0"),
        ];
        sysctl::write_in(&netns, &still).expect("writing a new namespace's sysctls");
        let ns = TestNs {
            name,
            netns,
            pins: OnceLock::new(),
        };
        ns.netlink().set_up("lo").await.expect("setting loopback up");
        ns
    }

    /// Its name in `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        netns::named(&self.name)
    }

    /// Where a node that this namespace plays keeps its BPF programs: a bpffs that is mounted nowhere,
    /// so that it goes with this, or with the process if that is killed. Other processes find it under
    /// the same path.
    pub fn pins(&self) -> PathBuf {
        let mount = self
            .pins
            .get_or_init(|| bpffs().expect("making a bpffs (tests of the network need root)"));
        PathBuf::from(format!("/proc/{}/fd/{}", process::id(), mount.as_raw_fd()))
    }

    /// A connection into it.
    pub fn netlink(&self) -> Netlink {
        Netlink::open(&self.netns).expect("connecting to a namespace of the test's own")
    }

    /// Runs `work` on a thread inside it.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns
            .run(work)
            .expect("entering a namespace of the test's own")
    }
}

impl Deref for TestNs {
    type Target = NetNs;

    fn deref(&self) -> &NetNs {
        &self.netns
    }
}

impl Drop for TestNs {
    fn drop(&mut self) {
        if let Err(error) = NetNs::delete_named(&self.name) {
            eprintln!("left behind: {error}");
        }
    }
}

fn bpffs() -> io::Result<OwnedFd> {
    let fs = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&fs)?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    Ok(fsmount(&fs, flags, MountAttrFlags::empty())?)
}
