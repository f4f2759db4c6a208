//! TCP: connected once, and named as it was asked for.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use aya::maps::{Array, Map, MapData};
use bpf_abi::service::strategy;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
use rstest::rstest;
use testkit::Echo;

use super::fixture::{Node, PATIENCE, TCP, mapped, plain, put, put_as, vip};
use crate::upgrade::versions;

/// Connects, and says under which address it was seen.
pub(super) fn talk(to: SocketAddr) -> io::Result<(TcpStream, String)> {
    greeted(TcpStream::connect_timeout(&to, PATIENCE)?)
}

fn greeted(mut stream: TcpStream) -> io::Result<(TcpStream, String)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut line, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        line.extend_from_slice(&byte);
    }
    stream.write_all(b"x")?;
    stream.read_exact(&mut byte)?;
    Ok((stream, String::from_utf8_lossy(&line).trim().to_owned()))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_to_its_endpoint_and_keeps_its_name(#[values(false, true)] v6: bool) {
    let node = Node::new(2).await;
    let echo = Echo::start(&node.cluster.pods[1].netns);
    let at = vip(v6, 80);
    put(
        &node.maps,
        at,
        TCP,
        &[SocketAddr::new(node.pod(1, v6), echo.port)],
    );
    node.within(0, || {
        let (stream, seen) = talk(at).unwrap();
        assert_eq!(seen, node.pod(0, v6).to_string());
        assert_eq!(stream.peer_addr().unwrap(), at);
    });
    // A pod reaches itself as well, and is who it is.
    node.within(1, || {
        let (stream, seen) = talk(at).unwrap();
        assert_eq!(seen, node.pod(1, v6).to_string());
        assert_eq!(stream.peer_addr().unwrap(), at);
    });
    // What is no Service's stays what it is.
    let direct = SocketAddr::new(node.pod(1, v6), echo.port);
    node.within(0, || {
        assert_eq!(talk(direct).unwrap().0.peer_addr().unwrap(), direct)
    });
}

/// Makes all slots of sockets' Services a socket's that doesn't exist.
fn take_all_slots(node: &Node) {
    let pins = node.cluster.lan.nodes[0].netns.pins();
    let pin = versions(&pins)[0].join("named");
    let map = Map::from_map_data(MapData::from_pin(pin).unwrap()).unwrap();
    let mut slots = Array::<_, [u64; 5]>::try_from(map).unwrap();
    for slot in 0..slots.len() {
        slots.set(slot, [u64::MAX, 0, 0, 0, 0], 0).unwrap();
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_whose_slot_is_anothers_keeps_its_services_name(#[values(false, true)] v6: bool) {
    let node = Node::new(2).await;
    let echo = Echo::start(&node.cluster.pods[1].netns);
    let at = vip(v6, 80);
    let backend = SocketAddr::new(node.pod(1, v6), echo.port);
    put_as(&node.maps, at, TCP, &[backend], |frontend| {
        frontend.strategy = strategy::LEAST_CONNECTIONS;
    });
    let counted = || {
        node.maps
            .loads()
            .unwrap()
            .iter()
            .map(|(_, load)| load)
            .sum::<u64>()
    };
    node.within(0, || {
        let (with_slot, _) = talk(at).unwrap();
        assert_eq!(with_slot.peer_addr().unwrap(), at);
        take_all_slots(&node);
        assert_eq!(with_slot.peer_addr().unwrap(), backend, "its slot was taken away");
        let (without, _) = talk(at).unwrap();
        assert_eq!(without.peer_addr().unwrap(), at);
        assert_eq!(counted(), 2);
        drop((with_slot, without));
        assert_eq!(counted(), 0);
        let (direct, _) = talk(backend).unwrap();
        assert_eq!(direct.peer_addr().unwrap(), backend);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_socket_reaches_an_ipv4_service() {
    let node = Node::new(2).await;
    let echo = Echo::start(&node.cluster.pods[1].netns);
    let at = vip(false, 80);
    put(
        &node.maps,
        at,
        TCP,
        &[SocketAddr::new(node.pod(1, false), echo.port)],
    );
    node.within(0, || {
        let socket = socket(
            AddressFamily::Inet6,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        connect(socket.as_raw_fd(), &SockaddrStorage::from(mapped(at))).unwrap();
        let (stream, seen) = greeted(socket.into()).unwrap();
        assert_eq!(seen, node.pod(0, false).to_string());
        assert_eq!(plain(stream.peer_addr().unwrap()), at);
    });
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_port_is_its_own_addresses_and_nobody_elses(#[values(false, true)] v6: bool) {
    let node = Node::new(2).await;
    let echo = Echo::start(&node.cluster.pods[1].netns);
    let any: IpAddr = if v6 { [0_u16; 8].into() } else { [0; 4].into() };
    put(
        &node.maps,
        SocketAddr::new(any, 30_080),
        TCP,
        &[SocketAddr::new(node.pod(1, v6), echo.port)],
    );
    let own = node.cluster.lan.nodes[0].addresses()[usize::from(v6)];
    let at = SocketAddr::new(own, 30_080);
    // From a pod, and from a process of the node's.
    node.within(0, || assert_eq!(talk(at).unwrap().0.peer_addr().unwrap(), at));
    let netns = &node.cluster.lan.nodes[0].netns;
    netns.within(|| assert_eq!(talk(at).unwrap().0.peer_addr().unwrap(), at));
    for other in [any, node.pod(1, v6)] {
        let refused = node
            .within(0, || talk(SocketAddr::new(other, 30_080)))
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_share_a_kernel_have_services_of_their_own() {
    let nodes = [Node::new(2).await, Node::new(2).await];
    let at = vip(false, 80);
    let mut echoes = Vec::new();
    for node in &nodes {
        let echo = Echo::start(&node.cluster.pods[1].netns);
        put(
            &node.maps,
            at,
            TCP,
            &[SocketAddr::new(node.pod(1, false), echo.port)],
        );
        echoes.push(echo);
    }
    for node in &nodes {
        node.enter();
        // Both nodes' pods have the same addresses: only the right server's namespace is reached.
        node.within(0, || assert_eq!(talk(at).unwrap().0.peer_addr().unwrap(), at));
    }
    nodes[0]
        .maps
        .remove_frontends(&[put(&nodes[0].maps, at, TCP, &[]).at])
        .unwrap();
    nodes[1].enter();
    nodes[1].within(0, || talk(at).map(drop)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_may_see_services_as_they_are() {
    let node = Node::new(2).await;
    let echo = Echo::start(&node.cluster.pods[1].netns);
    let at = vip(false, 80);
    put(
        &node.maps,
        at,
        TCP,
        &[SocketAddr::new(node.pod(1, false), echo.port)],
    );
    let cookie = node.cluster.pods[0].netns.cookie().unwrap();
    let addresses = [node.pod(0, false)];
    node.maps.put_namespace(cookie, &addresses, true).unwrap();
    let known = node.maps.namespaces().unwrap();
    assert!(known.contains(&(cookie, addresses.to_vec(), true)), "{known:?}");
    // It goes out as it is, is given a backend on the link, and nothing here translates that.
    let before = node.cluster.count(0, bpf_abi::Counter::Service);
    node.within(0, || {
        TcpStream::connect_timeout(&at, std::time::Duration::from_millis(200)).unwrap_err();
    });
    assert!(node.cluster.count(0, bpf_abi::Counter::Service) > before);
    node.within(1, || talk(at).map(drop)).unwrap();
    node.maps.put_namespace(cookie, &addresses, false).unwrap();
    node.within(0, || talk(at).map(drop)).unwrap();
    assert!(node.maps.remove_namespace(cookie).unwrap());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_sources_in_the_ranges_may(#[values(false, true)] v6: bool) {
    let node = Node::new(3).await;
    let echo = Echo::start(&node.cluster.pods[2].netns);
    let at = vip(v6, 80);
    let service = put_as(
        &node.maps,
        at,
        TCP,
        &[SocketAddr::new(node.pod(2, v6), echo.port)],
        |frontend| frontend.flags = bpf_abi::service::frontend::RANGES,
    );
    for pod in [0, 1] {
        let cookie = node.cluster.pods[pod].netns.cookie().unwrap();
        let addresses = &node.cluster.pods[pod].addresses;
        node.maps.put_namespace(cookie, addresses, false).unwrap();
    }
    let range = ipnet::IpNet::from(node.pod(0, v6));
    node.maps.put_range(service.set, range).unwrap();
    assert_eq!(node.maps.ranges().unwrap(), [(service.set, range)]);
    node.within(0, || talk(at).map(drop)).unwrap();
    let refused = node.within(1, || talk(at).map(drop)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    assert!(node.maps.remove_range(service.set, range).unwrap());
    node.within(0, || talk(at).map(drop)).unwrap_err();
}
