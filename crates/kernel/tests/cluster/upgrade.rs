//! Another version of our programs takes over under traffic, and the folder of the pins.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aya::EbpfLoader;
use aya::maps::MapData;
use aya::programs::tc::SchedClassifier;
use kernel::{Kernel, NetNs};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use testkit::{Echo, TestNs, eventually};

use crate::fixture::{Cluster, Stack};
use crate::shortcut::UdpEcho;

const PATIENCE: Duration = Duration::from_secs(3);
const OBJECT: &[u8] = include_bytes!("../../src/bpf/ripstop.bpf.o");
const OLD: &str = "0123456789abcdef";

/// Asks and is answered all the time, until it's stopped.
struct Talk {
    answers: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Talk {
    /// `ask` says whether the answer came.
    fn start(mut ask: impl FnMut(u64) -> bool + Send + 'static) -> Talk {
        let (answers, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (answers.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut lost = 0;
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                match ask(number) {
                    true => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    false => lost += 1,
                }
            }
            lost
        });
        Talk {
            answers,
            stop,
            thread,
        }
    }

    fn udp(client: &TestNs, to: SocketAddr) -> Talk {
        let any: IpAddr = if to.is_ipv4() {
            [0; 4].into()
        } else {
            [0_u16; 8].into()
        };
        let socket = client.within(|| UdpSocket::bind((any, 0))).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Talk::start(move |number| {
            let mut answer = [0; 8];
            socket.send(&number.to_be_bytes()).unwrap();
            socket.recv(&mut answer).is_ok() && answer == number.to_be_bytes()
        })
    }

    fn tcp(client: &TestNs, to: SocketAddr) -> Talk {
        let mut stream = client.within(|| TcpStream::connect(to)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        while byte != *b"\n" {
            stream.read_exact(&mut byte).unwrap();
        }
        Talk::start(move |number| {
            let mut answer = [0; 8];
            stream.write_all(&number.to_be_bytes()).unwrap();
            stream.read_exact(&mut answer).is_ok() && answer == number.to_be_bytes()
        })
    }

    /// Waits for more answers.
    fn goes_on(&self) {
        let before = self.answers.load(Ordering::Relaxed);
        eventually(PATIENCE * 3, || {
            self.answers.load(Ordering::Relaxed) > before + 50
        });
    }

    /// How many answers never came.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Segments that the TCP of a namespace had to send again.
fn sent_again(netns: &TestNs) -> u64 {
    let text = netns.within(|| fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs
        .find(|(name, _)| *name == "RetransSegs")
        .unwrap()
        .1
        .parse()
        .unwrap()
}

/// What is pinned, by version; the kernel may put files of its own beside it.
pub(crate) fn versions(pins: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(pins).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

/// Ids of what is pinned, by name.
fn ids(version: &Path) -> BTreeMap<String, u32> {
    let entries = fs::read_dir(version).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = match name.starts_with("rip_") {
                true => SchedClassifier::from_pin(entry.path())
                    .unwrap()
                    .info()
                    .unwrap()
                    .id(),
                false => MapData::from_pin(entry.path()).unwrap().info().unwrap().id(),
            };
            (name, id)
        })
        .collect()
}

/// Makes what is there another version's, whose map `openings4` is of another size, and leaves what an
/// agent leaves that was killed while it pinned a third.
pub(crate) fn age(pins: &Path) {
    let old = pins.join(OLD);
    fs::rename(&versions(pins)[0], &old).unwrap();
    let mut other = EbpfLoader::new();
    other.btf(None).map_max_entries("openings4", 100);
    let mut other = other.load(OBJECT).unwrap();
    fs::remove_file(old.join("openings4")).unwrap();
    other
        .map_mut("openings4")
        .unwrap()
        .pin(old.join("openings4"))
        .unwrap();
    let unfinished = pins.join("unfinished");
    fs::create_dir(&unfinished).unwrap();
    other
        .map_mut("counters")
        .unwrap()
        .pin(unfinished.join("counters"))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_takes_over_and_no_packet_is_lost() {
    let mut cluster = Cluster::running(2, 2, Stack::Dual).await;
    let pins = cluster.lan.nodes[0].netns.pins();
    let client = &cluster.pods[0].netns;
    let mut talks = Vec::new();
    let mut servers = Vec::new();
    for server in [1, 2] {
        let tcp = Echo::start(&cluster.pods[server].netns);
        for address in &cluster.pods[server].addresses {
            let udp = UdpEcho::start(&cluster.pods[server].netns, *address);
            talks.push(Talk::udp(client, SocketAddr::new(*address, udp.port)));
            talks.push(Talk::tcp(client, SocketAddr::new(*address, tcp.port)));
            servers.push(udp);
        }
        // Ends the server, not its connections.
        drop(tcp);
    }
    talks.iter().for_each(Talk::goes_on);
    age(&pins);
    let before = ids(&pins.join(OLD));
    let (stack, again) = (cluster.stack(), sent_again(client));

    cluster.restart_agent(0);
    let writes = cluster.apply(0).await.writes;
    // Two programs on each of two pods' links and on the uplink.
    assert_eq!(writes, 6);
    talks.iter().for_each(Talk::goes_on);
    let [new] = &versions(&pins)[..] else {
        panic!("{:?}", versions(&pins));
    };
    let after = ids(new);
    assert_eq!(after.len(), before.len());
    for (name, id) in &after {
        let is_new = name.starts_with("rip_") || name == "openings4";
        assert_eq!(*id != before[name], is_new, "{name}");
    }
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0, "the same version again");
    assert_eq!(versions(&pins), std::slice::from_ref(new));

    let lost: u64 = talks.into_iter().map(Talk::stop).sum();
    assert_eq!(lost, 0);
    assert_eq!(sent_again(&cluster.pods[0].netns), again);
    // What was known stayed known.
    assert_eq!(cluster.stack(), stack);
}

/// In a mount namespace of its own, so that nothing stays mounted.
#[test]
fn a_folder_that_is_no_bpffs_becomes_one() {
    let check = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let pins = dir.path().join("not").join("there/bpf");
            let mut cluster = Cluster::running(1, 1, Stack::Dual).await;
            for expected in [true, false] {
                let netns = NetNs::open(cluster.lan.nodes[0].netns.path()).unwrap();
                cluster.kernels[0] = Kernel::open(netns, pins.clone()).unwrap();
                let writes = cluster.apply(0).await.writes;
                assert_eq!(writes > 0, expected, "{writes}");
            }
            assert_eq!(ids(&versions(&pins)[0]).len(), 69);
            nix::mount::umount(&pins).unwrap();
            assert!(versions(&pins).is_empty());
        });
    };
    thread::spawn(check).join().unwrap();
}
