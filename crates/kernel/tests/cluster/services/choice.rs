//! Which endpoint is picked, and who stays with it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use aya::maps::{HashMap, Map, MapData};
use bpf_abi::service::strategy;
use kernel::services::Services;
use rstest::rstest;
use testkit::eventually;

use super::fixture::{Node, PATIENCE, TCP, UDP, put_as, vip};
use crate::upgrade::versions;

/// Listens at four ports of a pod; nobody need accept.
fn listeners(node: &Node, pod: usize, v6: bool) -> (Vec<TcpListener>, Vec<SocketAddr>) {
    let listeners: Vec<TcpListener> = node.within(pod, || {
        (0..4)
            .map(|_| TcpListener::bind((node.pod(pod, v6), 0)).unwrap())
            .collect()
    });
    let addresses = listeners.iter().map(|one| one.local_addr().unwrap()).collect();
    (listeners, addresses)
}

/// How often each endpoint is picked. The socket says the Service's name, so it's told from where the
/// connections arrive.
fn picks(node: &Node, pod: usize, at: SocketAddr, listeners: &[TcpListener], count: usize) -> Vec<usize> {
    let streams: Vec<TcpStream> = node.within(pod, || {
        (0..count)
            .map(|_| TcpStream::connect_timeout(&at, PATIENCE).unwrap())
            .collect()
    });
    let counts = arrived(listeners);
    drop(streams);
    counts
}

fn arrived(listeners: &[TcpListener]) -> Vec<usize> {
    let accepted = listeners.iter().map(|listener| {
        listener.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| listener.accept().ok()).count()
    });
    accepted.collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_spread_as_the_strategy_says(#[values(false, true)] v6: bool) {
    let node = Node::new(3).await;
    let (listeners, backends) = listeners(&node, 2, v6);
    let at = vip(v6, 80);
    put_as(&node.maps, at, TCP, &backends, |_| {});
    let counts = picks(&node, 0, at, &listeners, 200);
    assert_eq!(counts.iter().sum::<usize>(), 200);
    // Seven standard deviations.
    assert!(counts.iter().all(|count| (8..93).contains(count)), "{counts:?}");

    let at = vip(v6, 81);
    put_as(&node.maps, at, TCP, &backends, |frontend| {
        frontend.strategy = strategy::ROUND_ROBIN
    });
    assert_eq!(picks(&node, 0, at, &listeners, 40), [10; 4]);
    assert_eq!(picks(&node, 1, at, &listeners, 6).iter().max(), Some(&2));

    let at = vip(v6, 82);
    put_as(&node.maps, at, TCP, &backends, |frontend| {
        frontend.strategy = strategy::SOURCE_HASH
    });
    for pod in [0, 1] {
        let cookie = node.cluster.pods[pod].netns.cookie().unwrap();
        let first = picks(&node, pod, at, &listeners, 20);
        assert_eq!(first.iter().max(), Some(&20), "{first:?}");
        // By its address, once that is known, and always by the same.
        let addresses = &node.cluster.pods[pod].addresses;
        node.maps.put_namespace(cookie, addresses, false).unwrap();
        let then = picks(&node, pod, at, &listeners, 20);
        assert_eq!(then.iter().max(), Some(&20), "{then:?}");
        assert_eq!(picks(&node, pod, at, &listeners, 20), then);
    }
}

fn loads(maps: &Services) -> BTreeMap<u32, u64> {
    maps.loads().unwrap().into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_until_they_are_closed_and_fewer_are_better() {
    let node = Node::new(2).await;
    let (listeners, backends) = listeners(&node, 1, false);
    let (backends, at) = (&backends[..2], vip(false, 80));
    let service = put_as(&node.maps, at, TCP, backends, |frontend| {
        frontend.strategy = strategy::LEAST_CONNECTIONS;
    });
    let connect = |count: usize| -> Vec<TcpStream> {
        node.within(0, || {
            (0..count)
                .map(|_| TcpStream::connect_timeout(&at, PATIENCE).unwrap())
                .collect()
        })
    };
    let streams = connect(40);
    assert_eq!(
        arrived(&listeners)[..2],
        [20, 20],
        "two choices among two are all of them"
    );
    let [first, second] = service.ids[..] else {
        panic!()
    };
    assert_eq!(loads(&node.maps), BTreeMap::from([(first, 20), (second, 20)]));
    // A connection that fails is counted no more once its socket is closed.
    drop(listeners);
    node.within(0, || TcpStream::connect_timeout(&at, PATIENCE).unwrap_err());
    assert_eq!(loads(&node.maps).values().sum::<u64>(), 40);
    drop(streams);
    assert_eq!(loads(&node.maps).values().sum::<u64>(), 0);
    // What a process that is killed had open is closed as well.
    let socket = node.within(0, || UdpSocket::bind("0.0.0.0:0").unwrap());
    put_as(&node.maps, at, UDP, backends, |frontend| {
        frontend.strategy = strategy::LEAST_CONNECTIONS
    });
    socket.connect(at).unwrap();
    assert_eq!(loads(&node.maps).values().sum::<u64>(), 1);
    let mut child = node.within(0, || {
        let held = UdpSocket::bind("0.0.0.0:0").unwrap();
        held.connect(at).unwrap();
        let held: std::os::fd::OwnedFd = held.into();
        std::process::Command::new("sleep")
            .arg("600")
            .stdin(held)
            .spawn()
            .unwrap()
    });
    assert_eq!(loads(&node.maps).values().sum::<u64>(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually(PATIENCE, || loads(&node.maps).values().sum::<u64>() == 1);
    node.maps.forget_loads(|_| true).unwrap();
    assert!(loads(&node.maps).is_empty());
}

/// Makes all clients that stay with an endpoint come so many seconds earlier; says how many there are.
fn age_clients(node: &Node, seconds: u32) -> usize {
    let pins = node.cluster.lan.nodes[0].netns.pins();
    let pin = versions(&pins)[0].join("affinity");
    let map = Map::from_map_data(MapData::from_pin(pin).unwrap()).unwrap();
    let mut clients = HashMap::<_, [u32; 5], [u32; 2]>::try_from(map).unwrap();
    let all: Vec<_> = clients.iter().map(Result::unwrap).collect();
    for (client, [backend, seen]) in &all {
        clients
            .insert(client, [*backend, seen.wrapping_sub(seconds)], 0)
            .unwrap();
    }
    all.len()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_with_its_endpoint_for_its_time(#[values(false, true)] v6: bool) {
    let node = Node::new(3).await;
    let (listeners, backends) = listeners(&node, 2, v6);
    let at = vip(v6, 80);
    let service = put_as(&node.maps, at, TCP, &backends, |frontend| {
        frontend.affinity = 1000
    });
    let one = |counts: Vec<usize>| counts.iter().position(|count| *count == 20);
    let first = one(picks(&node, 0, at, &listeners, 20)).expect("always the same");
    one(picks(&node, 1, at, &listeners, 20)).expect("another client has its own");
    // Time passes: those seen long ago are as if they were new.
    let aged = age_clients(&node, 999);
    assert_eq!(aged, 2);
    assert_eq!(
        one(picks(&node, 0, at, &listeners, 20)),
        Some(first),
        "and each use counts"
    );
    age_clients(&node, 1002);
    let mut seen = Vec::new();
    for _ in 0..40 {
        age_clients(&node, 1002);
        seen.push(picks(&node, 0, at, &listeners, 1));
    }
    assert!(seen.iter().any(|counts| *counts != seen[0]), "{seen:?}");
    // Its endpoint goes: the client has another one at once.
    let gone = one(picks(&node, 0, at, &listeners, 20)).expect("always the same");
    node.maps.remove_backends(!v6, &[service.ids[gone]]).unwrap();
    // A slot that leads nowhere is passed over, which the agent leaves for a moment only.
    if gone != 0 {
        let then = one(picks(&node, 0, at, &listeners, 20)).expect("always the same");
        assert_ne!(then, gone);
    }
    let forgotten = node.maps.forget_clients(|set, _| set == service.set).unwrap();
    assert!(forgotten >= 1);
}
