//! What takes the shortcut, and that nothing does which netfilter translates.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bpf_abi::Counter;
use kernel::conntrack::{Conntrack, Which};
use kernel::{Hooks, NetNs};
use nix::sys::socket::sockopt::{Linger, ReuseAddr, SendTimeout};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};
use rstest::rstest;
use testkit::{Echo, Pong, ask, ping};

use crate::fixture::{Cluster, Stack, ip};

const PATIENCE: Duration = Duration::from_secs(3);
/// A port of clients.
const SOURCE: u16 = 23_456;

/// Answers datagrams with what they hold, in a namespace, until dropped.
pub(crate) struct UdpEcho {
    pub(crate) port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    pub(crate) fn start(netns: &NetNs, address: IpAddr) -> UdpEcho {
        UdpEcho::at(netns, SocketAddr::new(address, 0))
    }

    pub(crate) fn at(netns: &NetNs, address: SocketAddr) -> UdpEcho {
        let socket = netns.run(|| UdpSocket::bind(address)).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        UdpEcho {
            port,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Connects from a port that an earlier connection may have had, and exchanges some bytes. The
/// connection ends with a reset, so that its port is free at once.
fn tcp_from(netns: &NetNs, port: u16, to: SocketAddr) -> io::Result<IpAddr> {
    let talk = || -> io::Result<IpAddr> {
        let family = if to.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, ReuseAddr, &true)?;
        setsockopt(&socket, SendTimeout, &TimeVal::seconds(3))?;
        setsockopt(
            &socket,
            Linger,
            &libc::linger {
                l_onoff: 1,
                l_linger: 0,
            },
        )?;
        let any: IpAddr = if to.is_ipv4() {
            [0; 4].into()
        } else {
            [0_u16; 8].into()
        };
        use std::os::fd::AsRawFd;
        bind(
            socket.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(any, port)),
        )?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" {
            stream.read_exact(&mut byte)?;
            line.extend_from_slice(&byte);
        }
        stream.write_all(b"x")?;
        stream.read_exact(&mut byte)?;
        String::from_utf8_lossy(&line)
            .trim()
            .parse()
            .map_err(io::Error::other)
    };
    netns.run(talk).unwrap()
}

/// Sends a datagram from a port and waits for it to come back from whom it was sent to.
fn udp_from(netns: &NetNs, port: u16, to: SocketAddr) -> io::Result<()> {
    let talk = || -> io::Result<()> {
        let any: IpAddr = if to.is_ipv4() {
            [0; 4].into()
        } else {
            [0_u16; 8].into()
        };
        let socket = UdpSocket::bind((any, port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(b"x", to)?;
        let (length, from) = socket.recv_from(&mut [0; 16])?;
        match (length, from == to) {
            (1, true) => Ok(()),
            _ => Err(io::Error::other(format!(
                "{length} bytes from {from} instead of {to}"
            ))),
        }
    };
    netns.run(talk).unwrap()
}

/// Loads a ruleset into a node: what hostPort and Services do, by others' means.
fn nft(netns: &NetNs, rules: &str) {
    let run = || {
        let mut nft = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft is installed");
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{rules}");
    };
    netns.run(run).unwrap();
}

/// Translates a port of a node's, for both protocols, to a pod's; what goes on to another node takes
/// this node's address, or its answer would not come by here.
fn translate(cluster: &Cluster, node: usize, port: u16, to: SocketAddr) {
    let own = cluster.lan.nodes[node].addresses();
    let (family, own) = if to.is_ipv4() {
        ("ip", own[0])
    } else {
        ("ip6", own[1])
    };
    let table = format!(
        "table {family} others {{
            chain pre {{
                type nat hook prerouting priority dstnat;
                {family} daddr {own} meta l4proto {{ tcp, udp }} th dport {port} dnat to {to}
            }}
            chain post {{
                type nat hook postrouting priority 99;
                iifname eth0 oifname eth0 ct status dnat masquerade
            }}
        }}"
    );
    nft(&cluster.lan.nodes[node].netns, &table);
}

impl Cluster {
    /// How often something was counted on a node.
    pub(crate) fn count(&self, node: usize, counter: Counter) -> u64 {
        let counts = self.kernels[node].counts().unwrap();
        counts.into_iter().find(|(which, _)| *which == counter).unwrap().1
    }

    /// How many packets of pods each node's network stack has had.
    pub(crate) fn stack(&self) -> Vec<u64> {
        let nodes = 0..self.kernels.len();
        nodes
            .map(|node| self.count(node, Counter::StackFromPod) + self.count(node, Counter::StackFromWire))
            .collect()
    }

    pub(crate) fn address(&self, pod: usize, v6: bool) -> IpAddr {
        self.pods[pod].addresses[usize::from(v6)]
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn conversations_between_pods_of_one_node_take_the_shortcut(
    #[values(Hooks::probe(), Hooks::Clsact)] hooks: Hooks,
    #[values(false, true)] v6: bool,
) {
    let cluster = Cluster::hooked(hooks, 1, 2, Stack::Dual).await;
    let (client, server) = (&cluster.pods[0].netns, cluster.address(1, v6));
    let echo = Echo::start(&cluster.pods[1].netns);
    let before = cluster.count(0, Counter::StackFromPod);
    ask(client, SocketAddr::new(server, echo.port)).unwrap();
    assert_eq!(ping(client, server, 8).unwrap(), Pong::Reply);
    assert_eq!(cluster.count(0, Counter::StackFromPod), before);
    assert!(cluster.count(0, Counter::PeerFromPod) > 8);

    // A datagram's asker isn't known to be no answerer until it was seen.
    let echo = UdpEcho::start(&cluster.pods[1].netns, server);
    for _ in 0..3 {
        udp_from(client, SOURCE, SocketAddr::new(server, echo.port)).unwrap();
    }
    assert_eq!(cluster.count(0, Counter::StackFromPod), before + 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn conversations_between_pods_of_two_nodes_take_the_shortcut(
    #[values(Hooks::probe(), Hooks::Clsact)] hooks: Hooks,
    #[values(false, true)] v6: bool,
) {
    let cluster = Cluster::hooked(hooks, 2, 1, Stack::Dual).await;
    let (client, server) = (&cluster.pods[0].netns, cluster.address(1, v6));
    let echo = Echo::start(&cluster.pods[1].netns);
    let before = cluster.stack();
    ask(client, SocketAddr::new(server, echo.port)).unwrap();
    assert_eq!(ping(client, server, 8).unwrap(), Pong::Reply);
    assert_eq!(cluster.stack(), before);
    for node in [0, 1] {
        assert!(cluster.count(node, Counter::Forwarded) > 4);
        assert!(cluster.count(node, Counter::PeerFromWire) > 4);
    }

    let echo = UdpEcho::start(&cluster.pods[1].netns, server);
    for _ in 0..3 {
        udp_from(client, SOURCE, SocketAddr::new(server, echo.port)).unwrap();
    }
    let once_more: Vec<u64> = before.iter().map(|count| count + 1).collect();
    assert_eq!(cluster.stack(), once_more);
}

/// A port of a node's that leads to a pod, asked by a pod: the answer must be translated back. `asker`
/// and `node` differ, so that asker, translation and pod are on one node, two, or three.
#[rstest]
#[case::asker_translation_and_server_on_one_node(0, 0, 1)]
#[case::asker_elsewhere(2, 0, 1)]
#[case::server_elsewhere(0, 0, 2)]
#[case::translation_elsewhere(0, 1, 1)]
#[case::translated_on_the_way_to_another_node(0, 1, 4)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_translated_finds_its_way_back(
    #[case] asker: usize,
    #[case] node: usize,
    #[case] server: usize,
    #[values(false, true)] v6: bool,
    #[values(Hooks::probe(), Hooks::Clsact)] hooks: Hooks,
) {
    const PORT: u16 = 8080;
    let cluster = Cluster::hooked(hooks, 3, 2, Stack::Dual).await;
    let client = &cluster.pods[asker].netns;
    let address = cluster.address(server, v6);
    let tcp = Echo::start(&cluster.pods[server].netns);
    let udp = UdpEcho::start(&cluster.pods[server].netns, address);
    let vip = SocketAddr::new(cluster.lan.nodes[node].addresses()[usize::from(v6)], PORT);
    let (tcp_to, udp_to) = (
        SocketAddr::new(address, tcp.port),
        SocketAddr::new(address, udp.port),
    );

    // An earlier conversation between the same ports mustn't mislead the translated one, nor the
    // other way round.
    translate(&cluster, node, PORT, tcp_to);
    for attempt in 0..3 {
        let seen = tcp_from(client, SOURCE, tcp_to).unwrap();
        assert_eq!(seen, cluster.address(asker, v6), "directly, {attempt}");
        tcp_from(client, SOURCE, vip).unwrap_or_else(|error| panic!("translated, {attempt}: {error}"));
    }
    nft(
        &cluster.lan.nodes[node].netns,
        if v6 {
            "delete table ip6 others"
        } else {
            "delete table ip others"
        },
    );
    translate(&cluster, node, PORT, udp_to);
    for attempt in 0..3 {
        for _ in 0..2 {
            udp_from(client, SOURCE, udp_to).unwrap_or_else(|error| panic!("directly, {attempt}: {error}"));
        }
        for _ in 0..2 {
            udp_from(client, SOURCE + 1, vip)
                .unwrap_or_else(|error| panic!("translated, {attempt}: {error}"));
        }
    }
}

/// Makes the nodes forget their connections, as they do with time: our programs' tables don't.
fn connections_expire(cluster: &Cluster) {
    for node in &cluster.lan.nodes {
        let conntrack = Conntrack::open(&node.netns).unwrap();
        for connection in conntrack.connections(Which::All).unwrap() {
            conntrack.delete(&connection).unwrap();
        }
    }
}

/// UDP says neither where a conversation begins nor where it ends: one that was direct long ago must
/// not mislead one between the same ports that is translated, nor the other way round.
#[rstest]
#[case::asker_translation_and_server_on_one_node(0, 0, 1)]
#[case::asker_elsewhere(2, 0, 1)]
#[case::server_elsewhere(0, 0, 2)]
#[case::translation_elsewhere(0, 1, 1)]
#[case::translated_on_the_way_to_another_node(0, 1, 4)]
#[tokio::test(flavor = "multi_thread")]
async fn a_direct_conversation_of_long_ago_does_not_mislead_a_translated_one(
    #[case] asker: usize,
    #[case] node: usize,
    #[case] server: usize,
    #[values(false, true)] v6: bool,
) {
    const PORT: u16 = 8080;
    let cluster = Cluster::running(3, 2, Stack::Dual).await;
    let client = &cluster.pods[asker].netns;
    let address = cluster.address(server, v6);
    let echo = UdpEcho::start(&cluster.pods[server].netns, address);
    let direct = SocketAddr::new(address, echo.port);
    let vip = SocketAddr::new(cluster.lan.nodes[node].addresses()[usize::from(v6)], PORT);
    translate(&cluster, node, PORT, direct);
    for attempt in 0..3 {
        for (to, way) in [(direct, "directly"), (vip, "translated")] {
            for datagram in 0..3 {
                udp_from(client, SOURCE, to)
                    .unwrap_or_else(|error| panic!("{way}, {attempt} {datagram}: {error}"));
            }
            connections_expire(&cluster);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_tables_forgot_goes_on_and_is_learned_again() {
    let cluster = Cluster::running(2, 2, Stack::V4).await;
    for server in [1, 2] {
        let echo = Echo::start(&cluster.pods[server].netns);
        let to = SocketAddr::new(cluster.address(server, false), echo.port);
        let client = &cluster.pods[0].netns;
        let mut stream = client.run(|| TcpStream::connect(to)).unwrap().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut exchange = |count: usize| {
            let mut byte = [0];
            for _ in 0..count {
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut byte).unwrap();
            }
        };
        // The server's greeting.
        exchange(20);
        let stack: u64 = cluster.stack().iter().sum();
        let forgotten: usize = cluster
            .kernels
            .iter()
            .map(|kernel| kernel.forget_flows().unwrap())
            .sum();
        assert!(forgotten >= 1, "{forgotten}");
        exchange(20);
        let after: u64 = cluster.stack().iter().sum();
        assert!((stack + 1..stack + 15).contains(&after), "{stack} {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_traffic_is_shaped_is_reached_by_its_queue() {
    let mut cluster = Cluster::running(1, 2, Stack::V4).await;
    let id = cluster.pods[1].id.clone();
    let shaped = cluster.snapshots[0].attachments.get_mut(&id).unwrap();
    shaped.limits.ingress = Some(model::Rate {
        bits: 1_000_000_000,
        burst: None,
    });
    cluster.apply(0).await;
    let echo = Echo::start(&cluster.pods[1].netns);
    let before = cluster.count(0, Counter::StackFromPod);
    ask(
        &cluster.pods[0].netns,
        SocketAddr::new(cluster.address(1, false), echo.port),
    )
    .unwrap();
    assert!(cluster.count(0, Counter::StackFromPod) > before + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_a_smaller_mtu_gets_no_packet_that_is_too_large() {
    let mut cluster = Cluster::running(2, 2, Stack::Dual).await;
    for pod in [1, 2] {
        let node = usize::from(pod == 2);
        let id = cluster.pods[pod].id.clone();
        cluster.snapshots[node].attachments.get_mut(&id).unwrap().mtu = 1300;
        cluster.apply(node).await;
    }
    for pod in [1, 2] {
        let echo = Echo::start(&cluster.pods[pod].netns);
        for v6 in [false, true] {
            let to = cluster.address(pod, v6);
            ask(&cluster.pods[0].netns, SocketAddr::new(to, echo.port)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_the_shortcut_has_one_hop_less() {
    let cluster = Cluster::running(1, 2, Stack::V4).await;
    let server = cluster.address(1, false);
    let socket = cluster.pods[1]
        .netns
        .run(|| UdpSocket::bind((server, 0)))
        .unwrap()
        .unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv4RecvTtl, &true).unwrap();
    let to = socket.local_addr().unwrap();
    let client = cluster.pods[0]
        .netns
        .run(|| UdpSocket::bind((ip("0.0.0.0"), 0)))
        .unwrap()
        .unwrap();
    client.set_ttl(9).unwrap();
    for _ in 0..3 {
        client.send_to(b"x", to).unwrap();
        assert_eq!(hops(&socket), 8);
    }
    assert!(cluster.count(0, Counter::PeerFromPod) >= 2);
}

/// The hops that the next datagram has left.
fn hops(socket: &UdpSocket) -> i32 {
    use std::os::fd::AsRawFd;
    let mut control = nix::cmsg_space!(i32);
    let mut buffer = [0; 16];
    let mut parts = [io::IoSliceMut::new(&mut buffer)];
    let message = nix::sys::socket::recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        nix::sys::socket::MsgFlags::empty(),
    )
    .unwrap();
    let found = message.cmsgs().unwrap().find_map(|message| match message {
        nix::sys::socket::ControlMessageOwned::Ipv4Ttl(hops) => Some(hops),
        _ => None,
    });
    found.unwrap()
}
