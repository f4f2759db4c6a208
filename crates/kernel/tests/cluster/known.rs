//! What is kept of a conversation holds as long as it's true.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use aya::Pod;
use aya::maps::{Array, Map, MapData};
use bpf_abi::{Counter, NODE_MAC};
use rstest::rstest;
use testkit::{Echo, ask, eventually, send_frames};

use crate::craft::{ACK, Ends};
use crate::fixture::{Cluster, Stack};
use crate::shortcut::UdpEcho;
use crate::upgrade::versions;

const PATIENCE: Duration = Duration::from_secs(5);
/// Those of [`craft`](crate::craft)'s packets.
const PORTS: [u16; 2] = [0x5ba1, 0x1f90];

/// A client in the first pod.
fn client(cluster: &Cluster, to: SocketAddr) -> UdpSocket {
    let from = cluster.address(0, to.is_ipv6());
    let client = &cluster.pods[0].netns;
    let socket = client.run(|| UdpSocket::bind((from, PORTS[0]))).unwrap().unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// One in conversation with another pod by the shortcut in both directions.
fn talking(cluster: &Cluster, to: SocketAddr) -> UdpSocket {
    let socket = client(cluster, to);
    let before = cluster.direct();
    for _ in 0..10 {
        exchange(&socket);
    }
    assert!(
        cluster.direct() > before + 10,
        "the conversation takes the shortcut"
    );
    socket
}

fn exchange(socket: &UdpSocket) {
    socket.send(b"still there?").unwrap();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).expect("an answer");
    assert_eq!(&buffer[..length], b"still there?");
}

impl Cluster {
    /// How many packets have taken the shortcut to a pod on the first node.
    fn direct(&self) -> u64 {
        self.count(0, Counter::PeerFromPod) + self.count(0, Counter::PeerFromWire)
    }
}

/// Its next pod has the address, on another link: who talked to the one before reaches this one.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_follows_an_address_to_another_pod(#[values(false, true)] v6: bool) {
    let mut cluster = Cluster::running(1, 2, Stack::Dual).await;
    let to = SocketAddr::new(cluster.address(1, v6), PORTS[1]);
    let echo = UdpEcho::at(&cluster.pods[1].netns, to);
    let client = talking(&cluster, to);

    drop(echo);
    let before = cluster.snapshots[0]
        .attachments
        .remove(&cluster.pods[1].id)
        .unwrap();
    cluster.apply(0).await;
    let new = cluster.add_pod(0).await;
    let id = cluster.pods[new].id.clone();
    let attachment = cluster.snapshots[0].attachments.get_mut(&id).unwrap();
    attachment.addresses = before.addresses;
    cluster.apply(0).await;

    let _echo = UdpEcho::at(&cluster.pods[new].netns, to);
    exchange(&client);
}

/// As it may if the agent was ended in between: what it wrote isn't written again.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_has_paths_found_anew() {
    let mut cluster = Cluster::running(1, 2, Stack::V4).await;
    let to = SocketAddr::new(cluster.address(1, false), PORTS[1]);
    let _echo = UdpEcho::at(&cluster.pods[1].netns, to);
    let client = talking(&cluster, to);
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
    let before = cluster.direct();
    exchange(&client);
    assert_eq!(cluster.direct(), before + 2, "by the shortcut, as ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_becomes_shaped_is_reached_by_its_queue_from_then_on() {
    let mut cluster = Cluster::running(1, 2, Stack::V4).await;
    let to = SocketAddr::new(cluster.address(1, false), PORTS[1]);
    let _echo = UdpEcho::at(&cluster.pods[1].netns, to);
    let client = talking(&cluster, to);
    let id = cluster.pods[1].id.clone();
    let shaped = cluster.snapshots[0].attachments.get_mut(&id).unwrap();
    shaped.limits.ingress = Some(model::Rate {
        bits: 1_000_000_000,
        burst: None,
    });
    cluster.apply(0).await;
    let before = cluster.count(0, Counter::StackFromPod);
    for _ in 0..10 {
        exchange(&client);
    }
    assert_eq!(cluster.count(0, Counter::StackFromPod), before + 10);
}

/// What is for a node takes the network stack, whatever was known of the address before.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_becomes_a_nodes_is_a_pods_no_longer(#[values(false, true)] v6: bool) {
    let mut cluster = Cluster::running(2, 1, Stack::Dual).await;
    let to = SocketAddr::new(cluster.address(1, v6), PORTS[1]);
    let _echo = UdpEcho::at(&cluster.pods[1].netns, to);
    let client = client(&cluster, to);
    let forwarded = |cluster: &Cluster| cluster.count(0, Counter::Forwarded);
    // The first goes by the stack, which learns.
    exchange(&client);
    let before = forwarded(&cluster);
    exchange(&client);
    assert_eq!(forwarded(&cluster), before + 1, "by the shortcut");

    let node = &mut cluster.snapshots[0].nodes.get_mut("node1").unwrap().addresses;
    node.push(to.ip());
    cluster.apply(0).await;
    exchange(&client);
    assert_eq!(forwarded(&cluster), before + 1, "by the stack");

    let node = &mut cluster.snapshots[0].nodes.get_mut("node1").unwrap().addresses;
    node.pop();
    cluster.apply(0).await;
    exchange(&client);
    assert_eq!(forwarded(&cluster), before + 2, "by the shortcut again");
}

/// A third pod that guesses the addresses and ports of a conversation gets nothing into it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_speaks_in_a_known_conversation(#[values(false, true)] v6: bool) {
    let cluster = Cluster::running(1, 3, Stack::Dual).await;
    let to = SocketAddr::new(cluster.address(1, v6), PORTS[1]);
    let _echo = UdpEcho::at(&cluster.pods[1].netns, to);
    let client = talking(&cluster, to);
    let mut macs = Vec::new();
    for pod in [0, 2] {
        let link = cluster.pods[pod].netns.netlink().link("eth0").await;
        macs.push(link.unwrap().unwrap().address.unwrap().0);
    }
    let ends = Ends::new(cluster.address(0, v6), to.ip());
    for mac in macs {
        for frame in [
            ends.udp(NODE_MAC, mac, b"a lie"),
            ends.tcp(NODE_MAC, mac, ACK, b"a lie"),
        ] {
            let before = cluster.count(0, Counter::Spoofed);
            send_frames(&cluster.pods[2].netns, "eth0", &[frame]).unwrap();
            eventually(PATIENCE, || cluster.count(0, Counter::Spoofed) == before + 1);
        }
    }
    exchange(&client);
}

/// Four names to a set: that a place is used, and who has ended.
const USED: u16 = 0x2000;
const ENDED: u16 = 0xc000;

impl Cluster {
    /// A map of the first node's programs, of numbers.
    fn numbers<V: Pod>(&self, name: &str) -> Array<MapData, V> {
        let pin = versions(&self.lan.nodes[0].netns.pins())[0].join(name);
        Array::try_from(Map::from_map_data(MapData::from_pin(pin).unwrap()).unwrap()).unwrap()
    }

    /// The names of all conversations of IPv4 that the first node knows.
    fn names(&self) -> Vec<u16> {
        let sets = self.numbers::<[u16; 4]>("names4");
        let names = sets.iter().flat_map(|set| set.unwrap());
        names.filter(|name| name & USED != 0).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_both_sides_have_ended_gives_its_place_away() {
    let cluster = Cluster::running(1, 2, Stack::V4).await;
    let echo = Echo::start(&cluster.pods[1].netns);
    let to = SocketAddr::new(cluster.address(1, false), echo.port);
    for _ in 0..5 {
        ask(&cluster.pods[0].netns, to).unwrap();
    }
    eventually(PATIENCE, || {
        let names = cluster.names();
        names.len() == 5 && names.iter().all(|name| name & ENDED == ENDED)
    });
    let to = SocketAddr::new(cluster.address(1, false), PORTS[1]);
    let _echo = UdpEcho::at(&cluster.pods[1].netns, to);
    let _client = talking(&cluster, to);
    let is_open = |name: &&u16| **name & ENDED == 0;
    assert_eq!(cluster.names().iter().filter(is_open).count(), 1);
}

/// As if there were as many conversations as there are places.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_takes_a_place_where_all_are_taken() {
    let cluster = Cluster::running(1, 2, Stack::V4).await;
    let mut sets = cluster.numbers::<[u16; 4]>("names4");
    let others = [1, 2, 3, 4].map(|number| USED | number);
    for set in 0..sets.len() {
        sets.set(set, others, 0).unwrap();
    }
    let to = SocketAddr::new(cluster.address(1, false), PORTS[1]);
    let _echo = UdpEcho::at(&cluster.pods[1].netns, to);
    let _client = talking(&cluster, to);
    let echo = Echo::start(&cluster.pods[1].netns);
    let before = cluster.count(0, Counter::StackFromPod);
    ask(&cluster.pods[0].netns, SocketAddr::new(to.ip(), echo.port)).unwrap();
    assert_eq!(cluster.count(0, Counter::StackFromPod), before);
}

/// As if two had written it at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_whole_is_nobodys() {
    const WORDS: usize = size_of::<bpf_abi::Flow<bpf_abi::V4>>() / 4;
    let cluster = Cluster::running(1, 2, Stack::V4).await;
    let to = SocketAddr::new(cluster.address(1, false), PORTS[1]);
    let _echo = UdpEcho::at(&cluster.pods[1].netns, to);
    let client = talking(&cluster, to);
    let mut flows = cluster.numbers::<[u32; WORDS]>("flows4");
    let is_there = |at: &u32| flows.get(at, 0).unwrap() != [0; WORDS];
    let at = (0..flows.len()).find(is_there).unwrap();
    for word in 0..WORDS {
        let mut flow = flows.get(&at, 0).unwrap();
        flow[word] ^= 0x0100;
        flows.set(at, flow, 0).unwrap();
        let before = cluster.count(0, Counter::StackFromPod);
        exchange(&client);
        assert!(cluster.count(0, Counter::StackFromPod) > before, "word {word}");
        exchange(&client);
    }
}
