//! Policies and real packets, in both families.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bpf_abi::Counter;
use bpf_abi::policy::event;
use kernel::{Hooks, NetNs};
use model::{HostPort, PodNetworkMode, Protocol, Rate};
use plan::PolicyChange;
use rstest::rstest;
use testkit::{Echo, Lan, Pong, ask, eventually, ping};

use super::{block, egress, from_pod, ingress, port, rule};
use crate::fixture::{Cluster, Stack, alike, ip};
use crate::shortcut::UdpEcho;
use crate::upgrade::age;

pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// What isn't allowed is waited for no longer.
pub(super) const SHORT: Duration = Duration::from_millis(300);

/// Tries to connect while nothing is to come of it, until the programs of a node have dropped more.
pub(super) fn is_kept_from(cluster: &Cluster, node: usize, why: Counter, client: &NetNs, to: SocketAddr) {
    let before = cluster.count(node, why);
    let connected = client.run(|| TcpStream::connect_timeout(&to, SHORT)).unwrap();
    assert!(connected.is_err(), "{to}");
    eventually(PATIENCE, || cluster.count(node, why) > before);
}

fn is_answered(client: &NetNs, by: IpAddr) {
    eventually(PATIENCE, || ping(client, by, 8).unwrap() == Pong::Reply);
}

pub(super) fn reaches(client: &NetNs, to: SocketAddr) -> IpAddr {
    ask(client, to).unwrap_or_else(|error| panic!("{to}: {error}"))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_nothing_may_come_to_still_hears_answers_and_its_node(
    #[values(false, true)] v6: bool,
    #[values(Hooks::probe(), Hooks::Clsact)] hooks: Hooks,
) {
    let cluster = Cluster::hooked(hooks, 2, 2, Stack::Dual).await;
    let (closed, open) = (
        Echo::start(&cluster.pods[1].netns),
        Echo::start(&cluster.pods[0].netns),
    );
    let to = SocketAddr::new(cluster.at(1, v6), closed.port);
    assert!(cluster.enforce(&[ingress(1, &[])]) > 0);
    for client in [0, 2] {
        let client = &cluster.pods[client].netns;
        is_kept_from(&cluster, 0, Counter::PolicyIngress, client, to);
        assert_eq!(ping(client, to.ip(), 8).unwrap(), Pong::Silence);
    }
    // Probes come from the node itself.
    reaches(&cluster.lan.nodes[0].netns, to);
    is_answered(&cluster.lan.nodes[0].netns, to.ip());
    // Not those of another node.
    let other = &cluster.lan.nodes[1].netns;
    is_kept_from(&cluster, 0, Counter::PolicyIngress, other, to);
    // What the pod begins is answered.
    let from = &cluster.pods[1].netns;
    reaches(from, SocketAddr::new(cluster.at(0, v6), open.port));
    is_answered(from, cluster.at(2, v6));
    // It's never kept from itself.
    reaches(from, to);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_may_send_nothing_still_answers(#[values(false, true)] v6: bool) {
    let cluster = Cluster::running(2, 2, Stack::Dual).await;
    let isolated = &cluster.pods[1].netns;
    let (own, other) = (Echo::start(isolated), Echo::start(&cluster.pods[0].netns));
    cluster.enforce(&[egress(1, &[])]);
    for server in [0, 2] {
        let to = SocketAddr::new(cluster.at(server, v6), other.port);
        is_kept_from(&cluster, 0, Counter::PolicyEgress, isolated, to);
        assert_eq!(ping(isolated, to.ip(), 8).unwrap(), Pong::Silence);
    }
    let node = alike(&cluster.lan.nodes[0].addresses(), cluster.at(0, v6));
    let to = SocketAddr::new(node, other.port);
    is_kept_from(&cluster, 0, Counter::PolicyEgress, isolated, to);
    for client in [0, 2] {
        reaches(
            &cluster.pods[client].netns,
            SocketAddr::new(cluster.at(1, v6), own.port),
        );
    }
    reaches(
        &cluster.lan.nodes[0].netns,
        SocketAddr::new(cluster.at(1, v6), own.port),
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_for_its_peers_and_ports_alone(
    #[values(false, true)] v6: bool,
    #[values(PodNetworkMode::Auto, PodNetworkMode::Vxlan)] mode: PodNetworkMode,
) {
    let cluster = Cluster::on(Lan::new(2).await, Stack::Dual, Stack::Dual, mode).await;
    let cluster = cluster.with_pods(2).await;
    let server = &cluster.pods[1].netns;
    let (one, two) = (Echo::start(server), Echo::start(server));
    cluster.enforce(&[
        ingress(
            1,
            &[rule(
                &[from_pod(0), from_pod(2)],
                &[port(Protocol::Tcp, one.port)],
            )],
        ),
        egress(2, &[rule(&[from_pod(1)], &[])]),
    ]);
    let at = |port| SocketAddr::new(cluster.at(1, v6), port);
    for client in [0, 2] {
        let client = &cluster.pods[client].netns;
        reaches(client, at(one.port));
        is_kept_from(&cluster, 0, Counter::PolicyIngress, client, at(two.port));
    }
    is_kept_from(
        &cluster,
        0,
        Counter::PolicyIngress,
        &cluster.pods[3].netns,
        at(one.port),
    );
    // Both must allow.
    let elsewhere = SocketAddr::new(cluster.at(0, v6), one.port);
    is_kept_from(
        &cluster,
        1,
        Counter::PolicyEgress,
        &cluster.pods[2].netns,
        elsewhere,
    );
    let allowed = cluster.kernels[0].policy_counts().unwrap().allowed;
    assert_eq!(allowed.len(), 1, "{allowed:?}");
    assert!(allowed[0].1 >= 2, "{allowed:?}");
}

/// A line of text there and back.
fn exchange(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_change_cuts_what_is_under_way(#[values(false, true)] v6: bool, #[values(0, 2)] client: usize) {
    let cluster = Cluster::running(2, 2, Stack::Dual).await;
    let echo = Echo::start(&cluster.pods[1].netns);
    let to = SocketAddr::new(cluster.at(1, v6), echo.port);
    let mut stream = cluster.pods[client]
        .netns
        .within(|| TcpStream::connect_timeout(&to, PATIENCE))
        .unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
    }
    assert!(exchange(&mut stream), "nobody is isolated");
    cluster.enforce(&[ingress(1, &[rule(&[from_pod(client)], &[])])]);
    assert!(exchange(&mut stream), "it's allowed");
    cluster.enforce(&[ingress(1, &[])]);
    let before = cluster.count(0, Counter::PolicyIngress);
    stream.set_read_timeout(Some(SHORT)).unwrap();
    assert!(!exchange(&mut stream), "it isn't allowed any more");
    eventually(PATIENCE, || cluster.count(0, Counter::PolicyIngress) > before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn datagrams_are_answered_and_nothing_else_comes_back(
    #[values(false, true)] v6: bool,
    #[values(1, 2)] server: usize,
) {
    let cluster = Cluster::running(2, 2, Stack::Dual).await;
    let (own, theirs) = (cluster.at(0, v6), cluster.at(server, v6));
    let echo = UdpEcho::start(&cluster.pods[server].netns, theirs);
    let rules = [rule(&[from_pod(server)], &[port(Protocol::Udp, echo.port)])];
    cluster.enforce(&[ingress(0, &[]), egress(0, &rules)]);
    let client = cluster.pods[0]
        .netns
        .within(|| UdpSocket::bind((own, 0)))
        .unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 8];
    for _ in 0..5 {
        client.send_to(b"hello", (theirs, echo.port)).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 5, "the answer");
    }
    // From another port it's no answer.
    let before = cluster.count(0, Counter::PolicyIngress);
    let stranger = cluster.pods[server]
        .netns
        .within(|| UdpSocket::bind((theirs, 0)))
        .unwrap();
    stranger
        .send_to(b"stranger", client.local_addr().unwrap())
        .unwrap();
    eventually(PATIENCE, || cluster.count(0, Counter::PolicyIngress) > before);
    // Nor to another port of theirs.
    let before = cluster.count(0, Counter::PolicyEgress);
    client.send_to(b"hello", (theirs, echo.port ^ 1)).unwrap();
    eventually(PATIENCE, || cluster.count(0, Counter::PolicyEgress) > before);
    client.set_read_timeout(Some(SHORT)).unwrap();
    assert!(client.recv(&mut buffer).is_err());
}

#[rstest]
#[case::ipv4(false, "172.30.0.1", "172.30.0.0/24")]
#[case::ipv6(true, "fd00:172:30::1", "fd00:172:30::/64")]
#[tokio::test(flavor = "multi_thread")]
async fn the_outside_is_its_addresses(#[case] v6: bool, #[case] outside: &str, #[case] net: &str) {
    let mut cluster = Cluster::running(1, 1, Stack::Dual).await;
    let (pod, switch) = (&cluster.pods[0].netns, &cluster.lan.switch);
    let (inside, server) = (Echo::start(pod), Echo::start(switch));
    let outside = ip(outside);
    let to = SocketAddr::new(outside, server.port);
    let length = if v6 { 128 } else { 32 };
    let only = format!("{outside}/{length}");
    // What leaves, with the answers by the network stack.
    cluster.enforce(&[ingress(0, &[]), egress(0, &[rule(&[block(net, &[])], &[])])]);
    reaches(pod, to);
    cluster.enforce(&[ingress(0, &[]), egress(0, &[rule(&[block(net, &[&only])], &[])])]);
    is_kept_from(&cluster, 0, Counter::PolicyEgress, pod, to);
    // What comes, under its own address, by a port of the node.
    let published = HostPort {
        protocol: Protocol::Tcp,
        host_ip: None,
        host_port: 8080,
        container_port: inside.port,
    };
    let client_address = cluster.at(0, v6);
    let node = SocketAddr::new(alike(&cluster.lan.nodes[0].addresses(), client_address), 8080);
    cluster.publish(0, &[published]);
    cluster.apply(0).await;
    let client = &cluster.lan.switch;
    is_kept_from(&cluster, 0, Counter::PolicyIngress, client, node);
    cluster.enforce(&[ingress(0, &[rule(&[block(&only, &[])], &[])]), egress(0, &[])]);
    assert_eq!(reaches(client, node), outside);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_reached_by_a_queue_is_asked_there() {
    let mut cluster = Cluster::running(2, 2, Stack::V4).await;
    let id = cluster.pods[1].id.clone();
    let shaped = cluster.snapshots[0].attachments.get_mut(&id).unwrap();
    shaped.limits.ingress = Some(Rate {
        bits: 1_000_000_000,
        burst: None,
    });
    cluster.apply(0).await;
    let echo = Echo::start(&cluster.pods[1].netns);
    let to = SocketAddr::new(cluster.at(1, false), echo.port);
    for (allowed, other) in [(0, 2), (2, 0)] {
        // Whether its sender is isolated, too, and may send it, is no matter.
        let sends = [egress(0, &[rule(&[], &[])]), ingress(2, &[])];
        cluster.enforce(
            &[
                &[ingress(1, &[rule(&[from_pod(allowed)], &[])]), egress(1, &[])],
                &sends[..],
            ]
            .concat(),
        );
        reaches(&cluster.pods[allowed].netns, to);
        is_kept_from(
            &cluster,
            0,
            Counter::PolicyIngress,
            &cluster.pods[other].netns,
            to,
        );
    }
}

/// What a sender's own policies allow goes by the network stack at first, and both ends' are asked apart.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_its_sender_may_send_is_for_its_receiver_to_allow(
    #[values(false, true)] v6: bool,
    #[values(true, false)] may_be_sent: bool,
) {
    let cluster = Cluster::running(1, 2, Stack::Dual).await;
    let at = |pod| (cluster.at(pod, v6), 0);
    let server = cluster.pods[1].netns.within(|| UdpSocket::bind(at(1))).unwrap();
    server.set_nonblocking(true).unwrap();
    let to = server.local_addr().unwrap();
    let everything = rule(&[], &[]);
    let sender = match may_be_sent {
        true => egress(0, std::slice::from_ref(&everything)),
        // Isolated in what comes to it alone.
        false => ingress(0, &[]),
    };
    cluster.enforce(&[
        ingress(1, &[rule(&[], &[port(Protocol::Tcp, to.port())])]),
        sender.clone(),
    ]);
    let mut buffer = [0; 8];
    for _ in 0..5 {
        let client = cluster.pods[0].netns.within(|| UdpSocket::bind(at(0))).unwrap();
        let before = cluster.count(0, Counter::PolicyIngress);
        client.send_to(b"hello", to).unwrap();
        client.send_to(b"again", to).unwrap();
        eventually(PATIENCE, || {
            cluster.count(0, Counter::PolicyIngress) == before + 2
        });
        assert!(server.recv(&mut buffer).is_err(), "it came through");
    }
    // As soon as it's allowed it comes, and is answered.
    cluster.enforce(&[ingress(1, &[everything]), sender]);
    let client = cluster.pods[0].netns.within(|| UdpSocket::bind(at(0))).unwrap();
    client.send_to(b"hello", to).unwrap();
    let mut from = None;
    eventually(PATIENCE, || {
        from = server.recv_from(&mut buffer).ok();
        from.is_some()
    });
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    server.send_to(b"hi", from.unwrap().1).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 2, "the answer");
}

/// Ends what goes on until it's set, also if the test fails.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whoever isn't allowed tries all the time, while another version's programs take over.
#[tokio::test(flavor = "multi_thread")]
async fn another_version_takes_over_and_nothing_gets_through() {
    let mut cluster = Cluster::running(1, 3, Stack::V4).await;
    let at = |pod| (cluster.at(pod, false), 0);
    let server = cluster.pods[1].netns.within(|| UdpSocket::bind(at(1))).unwrap();
    server.set_read_timeout(Some(SHORT)).unwrap();
    let to = server.local_addr().unwrap();
    let sockets = [0, 2].map(|pod: usize| {
        cluster.pods[pod]
            .netns
            .within(|| UdpSocket::bind(at(pod)))
            .unwrap()
    });
    let [friend, enemy] = sockets;
    let policies = [ingress(1, &[rule(&[from_pod(0)], &[])])];
    cluster.enforce(&policies);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = enemy.send_to(b"enemy", to);
            }
        });
        let _stops = Stops(&stop);
        let hears_friends_alone = || {
            let mut buffer = [0; 8];
            for _ in 0..20 {
                // What a queue that the other one fills has no room for is sent again.
                eventually(PATIENCE, || {
                    friend.send_to(b"friend", to).unwrap();
                    let Ok(length) = server.recv(&mut buffer) else {
                        return false;
                    };
                    assert_eq!(&buffer[..length], b"friend");
                    true
                });
            }
        };
        hears_friends_alone();
        age(&cluster.lan.nodes[0].netns.pins());
        cluster.restart_agent(0);
        assert_eq!(cluster.enforce(&policies), 0, "the tables are kept");
        hears_friends_alone();
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(cluster.apply(0));
        });
        hears_friends_alone();
    });
}

/// Nodes put the pieces together and make new ones, which look like their own.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_datagram_in_pieces_comes_in_whole_or_not_at_all(
    #[values(false, true)] v6: bool,
    #[values(0, 2)] client: usize,
) {
    let cluster = Cluster::running(2, 2, Stack::Dual).await;
    let at = |pod| (cluster.at(pod, v6), 0);
    let server = cluster.pods[1].netns.within(|| UdpSocket::bind(at(1))).unwrap();
    let client_socket = cluster.pods[client]
        .netns
        .within(|| UdpSocket::bind(at(client)))
        .unwrap();
    let to = server.local_addr().unwrap();
    let (sent, mut buffer) = ([7; 4000], [0; 5000]);
    let allowed = rule(&[from_pod(client)], &[port(Protocol::Udp, to.port())]);
    cluster.enforce(&[ingress(1, &[allowed])]);
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    client_socket.send_to(&sent, to).unwrap();
    assert_eq!(server.recv(&mut buffer).unwrap(), sent.len());
    cluster.enforce(&[ingress(1, &[])]);
    let before = cluster.count(0, Counter::PolicyIngress);
    client_socket.send_to(&sent, to).unwrap();
    eventually(PATIENCE, || cluster.count(0, Counter::PolicyIngress) > before);
    server.set_read_timeout(Some(SHORT)).unwrap();
    assert!(server.recv(&mut buffer).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_come_and_go_and_nothing_opens_or_closes() {
    let mut cluster = Cluster::running(1, 3, Stack::V4).await;
    let echo = Echo::start(&cluster.pods[1].netns);
    let to = SocketAddr::new(cluster.at(1, false), echo.port);
    let policies = [ingress(1, &[rule(&[from_pod(0)], &[])])];
    cluster.enforce(&policies);
    cluster.restart_agent(0);
    reaches(&cluster.pods[0].netns, to);
    is_kept_from(&cluster, 0, Counter::PolicyIngress, &cluster.pods[2].netns, to);
    assert_eq!(cluster.enforce(&policies), 0, "nothing has changed");
    assert_eq!(cluster.apply(0).await.writes, 0);
    reaches(&cluster.pods[0].netns, to);
    is_kept_from(&cluster, 0, Counter::PolicyIngress, &cluster.pods[2].netns, to);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_which_nothing_is_known_is_kept_from_everything() {
    let cluster = Cluster::running(1, 2, Stack::Dual).await;
    let echo = Echo::start(&cluster.pods[0].netns);
    cluster.enforce(&[]);
    let to = |pod| SocketAddr::new(cluster.at(pod, false), echo.port);
    reaches(&cluster.pods[1].netns, to(0));
    let mut change = PolicyChange::default();
    change.isolation.removed.clone_from(&cluster.pods[1].addresses);
    cluster.kernels[0].change_policies(&change).unwrap();
    is_kept_from(&cluster, 0, Counter::PolicyEgress, &cluster.pods[1].netns, to(0));
    is_kept_from(&cluster, 0, Counter::PolicyIngress, &cluster.pods[0].netns, to(1));
    assert_eq!(cluster.enforce(&[]), 2, "both of its addresses");
    reaches(&cluster.pods[1].netns, to(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_told_and_what_begins_and_ends_to_those_who_ask() {
    let cluster = Cluster::running(1, 2, Stack::V4).await;
    let echo = Echo::start(&cluster.pods[1].netns);
    let to = SocketAddr::new(cluster.at(1, false), echo.port);
    cluster.enforce(&[ingress(1, &[])]);
    let mut events = cluster.kernels[0].policy_events().unwrap().unwrap();
    assert!(
        cluster.kernels[0].policy_events().unwrap().is_none(),
        "one reader"
    );
    is_kept_from(&cluster, 0, Counter::PolicyIngress, &cluster.pods[0].netns, to);
    let dropped = events.next_event().unwrap();
    assert_eq!(
        (dropped.kind, dropped.direction),
        (event::DROPPED, event::INGRESS)
    );
    assert_eq!(dropped.destination_port, to.port().to_be());
    assert_eq!(dropped.sets[0], [0; 2]);
    let denied = cluster.kernels[0].policy_counts().unwrap().denied;
    let set = u64::from(dropped.sets[1][0]) | u64::from(dropped.sets[1][1]) << 32;
    assert_eq!(denied[0].0.0, set);

    cluster.enforce(&[ingress(1, &[rule(&[], &[])])]);
    cluster.kernels[0].follow_flows(true).unwrap();
    while events.next_event().is_some() {}
    reaches(&cluster.pods[0].netns, to);
    let mut kinds = Vec::new();
    eventually(PATIENCE, || {
        while let Some(event) = events.next_event() {
            kinds.push((event.kind, event.destination_port));
        }
        kinds.contains(&(event::NEW, to.port().to_be()))
            && kinds.iter().any(|(kind, _)| *kind == event::CLOSED)
    });
}
