//! Ports of the node's loopback that lead to pods: for sockets of the node's own, and for nobody else.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use kernel::NetNs;
use model::{HostPort, Packet, Protocol};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use plan::{Hop, PartId, Verdict};
use rstest::rstest;
use std::os::fd::AsRawFd;
use testkit::{Capture, Echo, eventually, send_frames};

use super::fixture::{Node, PATIENCE, mapped, plain};
use super::tcp::talk;
use crate::craft::Ends;
use crate::fixture::{Cluster, alike, ip, name};
use crate::sctp::mac;
use crate::shortcut::UdpEcho;

const PORT: u16 = 8080;

fn localhost(v6: bool) -> SocketAddr {
    let address: IpAddr = if v6 {
        Ipv6Addr::LOCALHOST.into()
    } else {
        Ipv4Addr::LOCALHOST.into()
    };
    SocketAddr::new(address, PORT)
}

fn port(protocol: Protocol, host_ip: Option<IpAddr>, container_port: u16) -> HostPort {
    HostPort {
        protocol,
        host_ip,
        host_port: PORT,
        container_port,
    }
}

/// The node's own address of a family.
fn own(cluster: &Cluster, v6: bool) -> IpAddr {
    cluster.lan.nodes[0].addresses()[usize::from(v6)]
}

impl Node {
    async fn publish(&mut self, pod: usize, ports: &[HostPort]) -> usize {
        self.cluster.publish(pod, ports);
        self.cluster.apply(0).await.writes
    }

    /// Runs something on the node itself.
    fn here<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.cluster.lan.nodes[0].netns.run(work).unwrap()
    }
}

/// Connects from an address.
fn from(source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let socket = socket(family, SockType::Stream, SockFlag::empty(), None)?;
    bind(
        socket.as_raw_fd(),
        &SockaddrStorage::from(SocketAddr::new(source, 0)),
    )?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(socket))
}

fn refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_node_itself_reaches_the_pod_and_no_pod_does(
    #[values(false, true)] v6: bool,
    #[values(false, true)] of_all_addresses: bool,
) {
    let mut node = Node::new(2).await;
    let echo = Echo::start(&node.cluster.pods[0].netns);
    let at = localhost(v6);
    assert!(node.here(|| refused(talk(at))));
    let host_ip = (!of_all_addresses).then_some(at.ip());
    node.publish(0, &[port(Protocol::Tcp, host_ip, echo.port)]).await;
    let source = own(&node.cluster, v6);
    node.here(|| {
        let (stream, seen) = talk(at).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at);
        assert_eq!(seen, source.to_string(), "who is asked for is who answers");
        // As with curl's --interface.
        let stream = from(source, at).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at);
        assert_eq!(stream.local_addr().unwrap().ip(), source);
        // Other addresses and ports stay what they are.
        let other = SocketAddr::new(at.ip(), PORT + 1);
        assert!(refused(talk(other)));
        assert!(v6 || refused(talk("127.0.0.2:8080".parse().unwrap())));
        assert_eq!(talk(SocketAddr::new(source, PORT)).is_ok(), of_all_addresses);
    });
    if !v6 {
        node.here(|| {
            let stream = TcpStream::connect_timeout(&mapped(at), PATIENCE).unwrap();
            assert_eq!(plain(stream.peer_addr().unwrap()), at);
        });
    }
    // A pod's loopback is its own, the served one's too.
    for pod in [0, 1] {
        assert!(node.within(pod, || refused(talk(at))));
    }
    node.publish(0, &[]).await;
    assert!(node.here(|| refused(talk(at))));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_tracer_says_the_same(#[values(false, true)] v6: bool) {
    let mut node = Node::new(1).await;
    let (echo, at) = (Echo::start(&node.cluster.pods[0].netns), localhost(v6));
    node.publish(0, &[port(Protocol::Tcp, Some(at.ip()), echo.port)])
        .await;
    let plans = BTreeMap::from([(name(0), node.cluster.plan(0))]);
    let source = own(&node.cluster, v6);
    let traced = |from| plan::trace(&plans, &Packet::tcp(from, at.ip(), PORT));
    let trace = traced(source);
    let Verdict::Delivered { source: told, .. } = trace.verdict else {
        panic!("{trace}");
    };
    assert_eq!(node.here(|| talk(at).unwrap().1), told.to_string(), "{trace}");
    let pods = traced(node.pod(0, v6));
    let is_translated = |hop: &Hop| matches!(hop, Hop::Translated { .. });
    assert!(!pods.hops.iter().any(is_translated), "{pods}");
}

/// What others send to a loopback address comes to nothing, as it does without such a port.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_packet_from_elsewhere_reaches_it(#[values(false, true)] v6: bool) {
    let mut node = Node::new(2).await;
    node.publish(0, &[port(Protocol::Udp, None, 5353)]).await;
    let cluster = &node.cluster;
    let (switch, neighbour) = (&cluster.lan.switch, &cluster.pods[1].netns);
    let outside = alike(&[ip("172.30.0.1"), ip("fd00:172:30::1")], localhost(v6).ip());
    let node_mac = mac(&cluster.lan.nodes[0].netns, "eth0").await;
    let senders: [(&NetNs, &str, _, _, IpAddr); 2] = [
        (switch, "br0", node_mac, mac(switch, "br0").await, outside),
        (
            neighbour,
            "eth0",
            plan::NODE_MAC.0,
            mac(neighbour, "eth0").await,
            cluster.pods[1].addresses[usize::from(v6)],
        ),
    ];
    for (sender, link, to_mac, from_mac, source) in senders {
        let at_pod = Capture::start(&cluster.pods[0].netns);
        let came = |data: &[u8]| {
            let frames = at_pod.frames();
            frames
                .iter()
                .any(|frame| frame.windows(data.len()).any(|part| part == data))
        };
        let frame = |to, data: &[u8]| Ends::new(source, to).udp(to_mac, from_mac, data);
        let lie = frame(localhost(v6).ip(), b"by the loopback");
        let truth = frame(own(cluster, v6), b"by the node's address");
        send_frames(sender, link, &[lie, truth]).unwrap();
        eventually(PATIENCE, || came(b"by the node's address"));
        assert!(!came(b"by the loopback"), "from {source}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn datagrams_are_answered_from_it_and_end_with_it(#[values(false, true)] v6: bool) {
    let mut node = Node::new(2).await;
    let echo = UdpEcho::start(&node.cluster.pods[0].netns, node.pod(0, v6));
    let at = localhost(v6);
    node.publish(0, &[port(Protocol::Udp, Some(at.ip()), echo.port)])
        .await;
    let bound = || {
        let socket = UdpSocket::bind(if v6 { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let ask = |socket: &UdpSocket| {
        socket.send_to(b"x", at)?;
        socket.recv_from(&mut [0; 8]).map(|(_, from)| from)
    };
    let (free, connected) = node.here(|| (bound(), bound()));
    connected.connect(at).unwrap();
    assert_eq!(connected.peer_addr().unwrap(), at);
    connected.send(b"x").unwrap();
    assert_eq!(connected.recv_from(&mut [0; 8]).unwrap().1, at);
    for _ in 0..2 {
        assert_eq!(ask(&free).unwrap(), at);
    }
    // Another pod has the port: who is connected would go on to the first.
    let other = UdpEcho::start(&node.cluster.pods[1].netns, node.pod(1, v6));
    drop(echo);
    node.publish(0, &[]).await;
    assert_eq!(
        connected.recv_from(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::ConnectionAborted
    );
    node.publish(1, &[port(Protocol::Udp, Some(at.ip()), other.port)])
        .await;
    assert_eq!(ask(&free).unwrap(), at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_finds_it_in_place_and_removes_leftovers() {
    let mut node = Node::new(2).await;
    let (first, second) = (
        Echo::start(&node.cluster.pods[0].netns),
        Echo::start(&node.cluster.pods[1].netns),
    );
    let [at, at6] = [localhost(false), localhost(true)];
    node.publish(0, &[port(Protocol::Tcp, None, first.port)]).await;
    node.cluster.restart_agent(0);
    assert_eq!(node.publish(0, &[port(Protocol::Tcp, None, first.port)]).await, 0);
    let id = PartId::Attachment(node.cluster.pods[0].id.clone());
    let part = node.cluster.plan(0).parts[&id].clone();
    let again = node.cluster.kernels[0].apply_part(&id, &part).await.unwrap();
    assert_eq!(again, 0, "ADD again");
    assert!(node.here(|| talk(at6).is_ok()));

    // While no agent ran the pod lost its port, and another one got that of one family.
    drop(first);
    node.cluster.restart_agent(0);
    node.cluster.publish(0, &[]);
    node.publish(1, &[port(Protocol::Tcp, Some(at.ip()), second.port)])
        .await;
    assert!(node.here(|| talk(at).is_ok()));
    assert!(node.here(|| refused(talk(at6))));

    // As DEL does it.
    let id = PartId::Attachment(node.cluster.pods[1].id.clone());
    let part = node.cluster.plan(0).parts[&id].clone();
    node.cluster.kernels[0].remove_part(&id, &part).await.unwrap();
    assert!(node.here(|| refused(talk(at))));
}
