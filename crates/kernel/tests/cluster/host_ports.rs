//! Ports of a node that lead to pods.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use kernel::NetNs;
use kernel::conntrack::{Conntrack, Which};
use kernel::nftables::Nft;
use model::{HostPort, Packet, Protocol};
use nft::Place;
use plan::{NodePlan, PartId, Verdict};
use rstest::rstest;
use testkit::{Echo, TestNs, ask};

use crate::fixture::{Cluster, Stack, alike, ip, name, net};

fn port(protocol: Protocol, host_port: u16, container_port: u16) -> HostPort {
    HostPort {
        protocol,
        host_ip: None,
        host_port,
        container_port,
    }
}

impl Cluster {
    pub(crate) fn publish(&mut self, pod: usize, ports: &[HostPort]) {
        let id = self.pods[pod].id.clone();
        let attachments = self
            .snapshots
            .iter_mut()
            .find_map(|snapshot| snapshot.attachments.get_mut(&id));
        attachments.unwrap().host_ports = ports.to_vec();
    }

    fn plans(&self) -> BTreeMap<String, NodePlan> {
        (0..self.kernels.len())
            .map(|node| (name(node), self.plan(node)))
            .collect()
    }
}

#[rstest]
#[case::ipv4(Stack::V4)]
#[case::ipv6(Stack::V6)]
#[case::dual_stack(Stack::Dual)]
#[tokio::test(flavor = "multi_thread")]
async fn a_host_port_leads_to_its_pod_from_everywhere_as_the_tracer_says(#[case] stack: Stack) {
    let mut cluster = Cluster::running(2, 2, stack).await;
    let echo = Echo::start(&cluster.pods[0].netns);
    cluster.publish(0, &[port(Protocol::Tcp, 8080, echo.port)]);
    cluster.apply(0).await;
    let plans = cluster.plans();
    let node = cluster.snapshots[0].nodes[&name(0)].addresses.clone();
    let outside = [ip("172.30.0.1"), ip("fd00:172:30::1")];
    let mut clients: Vec<(&TestNs, Vec<IpAddr>, bool)> = vec![(&cluster.lan.switch, outside.to_vec(), true)];
    for (index, pod) in cluster.pods.iter().enumerate() {
        clients.push((&pod.netns, pod.addresses.clone(), index != 0));
    }
    for node in &cluster.lan.nodes {
        clients.push((&node.netns, node.addresses().to_vec(), true));
    }
    for (client, sources, keeps_its_address) in clients {
        for address in &node {
            let source = alike(&sources, *address);
            let trace = plan::trace(&plans, &Packet::tcp(source, *address, 8080));
            let Verdict::Delivered { source: told, .. } = trace.verdict else {
                panic!("{trace}");
            };
            let seen = ask(client, SocketAddr::new(*address, 8080)).unwrap();
            assert_eq!(seen, told, "{trace}");
            assert_eq!(seen == source, keeps_its_address, "{trace}");
            assert!(
                keeps_its_address || seen == *address,
                "a pod sees itself as the node"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_elses_addresses_and_no_loopback_are_translated() {
    let mut cluster = Cluster::running(2, 2, Stack::Dual).await;
    let echo = Echo::start(&cluster.pods[0].netns);
    let (here, there) = (&cluster.lan.nodes[0].netns, ip("172.30.0.12"));
    let netlink = here.netlink();
    let uplink = netlink.link_index("eth0").await.unwrap();
    netlink.add_address(uplink, net("172.30.0.77/24")).await.unwrap();
    let at = HostPort {
        host_ip: Some(ip("172.30.0.11")),
        ..port(Protocol::Tcp, 9090, echo.port)
    };
    cluster.publish(0, &[port(Protocol::Tcp, 8080, echo.port), at]);
    cluster.apply(0).await;
    let (outside, here) = (&cluster.lan.switch, &cluster.lan.nodes[0].netns);
    let answers = |client: &NetNs, address: IpAddr, port| ask(client, SocketAddr::new(address, port)).is_ok();
    // A port of all addresses, and one of one address.
    for (address, port, answered) in [
        ("172.30.0.11", 8080, true),
        ("172.30.0.77", 8080, true),
        ("fd00:172:30::11", 8080, true),
        ("172.30.0.11", 9090, true),
        ("172.30.0.77", 9090, false),
        ("fd00:172:30::11", 9090, false),
    ] {
        assert_eq!(answers(outside, ip(address), port), answered, "{address} {port}");
    }
    for loopback in ["127.0.0.1", "127.0.0.5", "::1"] {
        assert!(!answers(here, ip(loopback), 8080), "{loopback}");
    }
    for client in [here, &cluster.pods[1].netns] {
        for other in [there, ip("172.30.0.1"), cluster.pods[1].addresses[0]] {
            assert!(!answers(client, other, 8080), "{other}");
        }
    }
}

/// A UDP server in a namespace.
fn server(netns: &NetNs) -> UdpSocket {
    bound(netns)
}

fn bound(netns: &NetNs) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

/// Whether a datagram arrives.
fn arrives(client: &UdpSocket, to: SocketAddr, server: &UdpSocket) -> bool {
    let attempt = || -> io::Result<bool> {
        // What an earlier refusal left.
        let _ = client.take_error();
        client.send_to(b"hello", to)?;
        let mut buffer = [0; 16];
        match server.recv_from(&mut buffer) {
            Ok((length, from)) => {
                server.send_to(&buffer[..length], from)?;
                client.recv_from(&mut buffer).map(|(_, from)| from == to)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    };
    attempt().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_keeps_sending_follows_the_port_to_another_pod() {
    let mut cluster = Cluster::running(1, 2, Stack::V4).await;
    let (first, second) = (server(&cluster.pods[0].netns), server(&cluster.pods[1].netns));
    let number = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let client = bound(&cluster.lan.switch);
    let to: SocketAddr = "172.30.0.11:5353".parse().unwrap();

    // Sent before the port is there: the kernel remembers that it was for the node itself.
    client.send_to(b"too early", to).unwrap();
    cluster.publish(0, &[port(Protocol::Udp, 5353, number(&first))]);
    cluster.apply(0).await;
    assert!(arrives(&client, to, &first));

    // Another pod has it, in one step.
    cluster.publish(0, &[]);
    cluster.publish(1, &[port(Protocol::Udp, 5353, number(&second))]);
    cluster.apply(0).await;
    assert!(arrives(&client, to, &second));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_port_translated_is_forgotten_and_nothing_else() {
    let mut cluster = Cluster::running(1, 2, Stack::Dual).await;
    let echo = Echo::start(&cluster.pods[0].netns);
    cluster.publish(
        0,
        &[
            port(Protocol::Tcp, 8080, echo.port),
            port(Protocol::Tcp, 9090, echo.port),
        ],
    );
    cluster.apply(0).await;
    for to in ["172.30.0.11:8080", "172.30.0.11:9090", "[fd00:172:30::11]:8080"] {
        ask(&cluster.lan.switch, to.parse().unwrap()).unwrap();
    }
    let direct = SocketAddr::new(cluster.pods[0].addresses[0], echo.port);
    // By the node: what goes from pod to pod is no connection of the node's.
    ask(&cluster.lan.nodes[0].netns, direct).unwrap();

    let node = NetNs::open(cluster.lan.nodes[0].netns.path()).unwrap();
    let conntrack = Conntrack::open(&node).unwrap();
    let destinations = |which| -> Vec<SocketAddr> {
        let connections = conntrack.connections(which).unwrap().into_iter();
        connections.map(|one| one.original.destination).collect()
    };
    assert_eq!(destinations(Which::Translated).len(), 3);
    cluster.publish(0, &[port(Protocol::Tcp, 9090, echo.port)]);
    let writes = cluster.apply(0).await.writes;
    assert_eq!(
        writes, 4,
        "an element and a port of the loopback a family; the pod still has a port"
    );
    assert_eq!(
        destinations(Which::Translated),
        ["172.30.0.11:9090".parse().unwrap()]
    );
    assert!(destinations(Which::All).contains(&direct));

    // The same by a removed pod, as DEL does it.
    let id = PartId::Attachment(cluster.pods[0].id.clone());
    let part = cluster.plan(0).parts[&id].clone();
    cluster.kernels[0].remove_part(&id, &part).await.unwrap();
    assert_eq!(destinations(Which::Translated), []);
    assert!(destinations(Which::All).contains(&direct));
    let place = Place::new(nft::Family::Inet, plan::TABLE);
    let table = Nft::open(&node).unwrap().observe(&place).unwrap().unwrap();
    for map in table
        .sets
        .values()
        .filter(|map| map.set.as_ref().unwrap().name.starts_with("host_ports"))
    {
        assert!(map.elements.is_empty(), "{map:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_finds_host_ports_in_place_and_removes_leftovers() {
    let mut cluster = Cluster::running(1, 2, Stack::Dual).await;
    let echo = Echo::start(&cluster.pods[0].netns);
    cluster.publish(0, &[port(Protocol::Tcp, 8080, echo.port)]);
    cluster.apply(0).await;
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
    let id = PartId::Attachment(cluster.pods[0].id.clone());
    let part = cluster.plan(0).parts[&id].clone();
    assert_eq!(
        cluster.kernels[0].apply_part(&id, &part).await.unwrap(),
        0,
        "ADD again"
    );

    // While no agent ran the pod lost its port, and another one got it.
    ask(&cluster.lan.switch, "172.30.0.11:8080".parse().unwrap()).unwrap();
    let other = Echo::start(&cluster.pods[1].netns);
    cluster.publish(0, &[]);
    cluster.publish(1, &[port(Protocol::Tcp, 8080, other.port)]);
    cluster.restart_agent(0);
    cluster.apply(0).await;
    let conntrack = Conntrack::open(&cluster.lan.nodes[0].netns).unwrap();
    assert_eq!(conntrack.connections(Which::Translated).unwrap(), []);
    drop(echo);
    ask(&cluster.lan.switch, "172.30.0.11:8080".parse().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_element_that_leads_elsewhere_is_replaced_by_add() {
    let mut cluster = Cluster::running(1, 2, Stack::V4).await;
    let echo = Echo::start(&cluster.pods[1].netns);
    cluster.publish(0, &[port(Protocol::Tcp, 8080, 1)]);
    cluster.apply(0).await;
    // As if a crash had left it: nobody knows of it.
    cluster.publish(0, &[]);
    cluster.publish(1, &[port(Protocol::Tcp, 8080, echo.port)]);
    let id = PartId::Attachment(cluster.pods[1].id.clone());
    let part = cluster.plan(0).parts[&id].clone();
    cluster.kernels[0].apply_part(&id, &part).await.unwrap();
    ask(&cluster.lan.switch, "172.30.0.11:8080".parse().unwrap()).unwrap();
}
