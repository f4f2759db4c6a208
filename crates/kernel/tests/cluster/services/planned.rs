//! Services as they're planned, with real packets that no socket's program sees: what the links'
//! programs pick and netfilter translates.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use kernel::nftables::Nft;
use kernel::route::Route;
use model::{
    Endpoint, Hints, Packet, Protocol, Service, ServiceName, ServicePort, Slice, SlicePort, Strategy,
    TrafficPolicy,
};
use nft::{Change, Place};
use plan::{NodePlan, Part, PartId, ServiceContext, Verdict};
use rstest::rstest;
use testkit::{Echo, Pong, TestNs, ask, eventually, ping};

use super::fixture::{Group, PATIENCE};
use crate::fixture::{Cluster, Stack, alike, ip, name, net};

pub(super) const NODE_PORT: u16 = 30_080;

pub(super) fn vips() -> [IpAddr; 2] {
    [ip("10.96.0.50"), ip("fd00:10:96::50")]
}

/// A Service of both families, whose endpoints are the given pods.
pub(super) fn service(cluster: &Cluster, pods: &[usize], protocol: Protocol, port: u16) -> Service {
    let slice = |v4: bool| {
        let endpoint = |pod: &usize| Endpoint {
            address: alike(
                &cluster.pods[*pod].addresses,
                if v4 { vips()[0] } else { vips()[1] },
            ),
            node: Some(name(cluster.node_of(*pod)).into()),
            ready: true,
            serving: true,
            terminating: false,
            hints: Hints::default(),
        };
        Arc::new(Slice {
            ports: vec![SlicePort {
                name: String::new(),
                protocol,
                port,
            }],
            endpoints: pods.iter().map(endpoint).collect(),
        })
    };
    Service {
        cluster_ips: vips().into(),
        ports: vec![ServicePort {
            name: String::new(),
            protocol,
            port: 80,
            node_port: Some(NODE_PORT),
        }],
        slices: BTreeMap::from([("four".to_owned(), slice(true)), ("six".to_owned(), slice(false))]),
        ..Service::default()
    }
}

impl Cluster {
    /// The node that a pod is on.
    fn node_of(&self, pod: usize) -> usize {
        let id = &self.pods[pod].id;
        let mut nodes = 0..self.snapshots.len();
        nodes
            .find(|node| self.snapshots[*node].attachments.contains_key(id))
            .unwrap()
    }

    /// Gives every node these Services and no others; says how many writes each took.
    pub(super) async fn serve(&mut self, services: &[(&str, Service)]) -> Vec<usize> {
        let mut writes = Vec::new();
        for node in 0..self.kernels.len() {
            self.snapshots[node].services = services
                .iter()
                .map(|(name, service)| (ServiceName::new("default", *name), service.clone()))
                .collect();
            let parts = self.service_parts(node);
            let applied = self.kernels[node]
                .apply_all_services(&parts.iter().collect())
                .await
                .unwrap();
            assert!(applied.failures.is_empty(), "{:?}", applied.failures);
            writes.push(applied.writes);
        }
        writes
    }

    fn service_parts(&self, node: usize) -> BTreeMap<ServiceName, Part> {
        let parts = self.plan(node).parts.into_iter();
        let services = parts.filter_map(|(id, part)| match id {
            PartId::Service(name) => Some((name, part)),
            _ => None,
        });
        services.collect()
    }

    pub(super) fn all_plans(&self) -> BTreeMap<String, NodePlan> {
        let nodes = 0..self.kernels.len();
        nodes.map(|node| (name(node), self.plan(node))).collect()
    }

    /// Pods and the outside, with their addresses.
    fn askers(&self) -> Vec<(&TestNs, Vec<IpAddr>)> {
        let outside = vec![ip("172.30.0.1"), ip("fd00:172:30::1")];
        let pods = self.pods.iter().map(|pod| (&pod.netns, pod.addresses.clone()));
        pods.chain([(&self.lan.switch, outside)]).collect()
    }
}

/// Whoever asks whatever: what is seen is what the tracer says.
fn compare(cluster: &Cluster, port: u16, destinations: &[IpAddr]) {
    let plans = cluster.all_plans();
    for (asker, sources) in cluster.askers() {
        for destination in destinations {
            let source = alike(&sources, *destination);
            let is_outside = asker.path() == cluster.lan.switch.path();
            if is_outside && vips().contains(destination) {
                // Nothing leads there from outside.
                continue;
            }
            let trace = plan::trace(&plans, &Packet::tcp(source, *destination, port));
            let seen = ask(asker, SocketAddr::new(*destination, port));
            match &trace.verdict {
                Verdict::Delivered { source: told, .. } => {
                    assert_eq!(seen.ok().as_ref(), Some(told), "{trace}");
                }
                Verdict::Refused { reason, .. } if reason.contains("refused") => {
                    let error = seen.expect_err("nobody is there");
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{trace}");
                }
                _ => assert!(seen.is_err(), "{trace}"),
            }
        }
    }
}

#[rstest]
#[case::one_endpoint(&[0], TrafficPolicy::Cluster)]
#[case::no_endpoint(&[], TrafficPolicy::Cluster)]
#[case::an_endpoint_on_one_node_alone(&[0], TrafficPolicy::Local)]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_where_the_tracer_says(#[case] pods: &[usize], #[case] policy: TrafficPolicy) {
    let mut cluster = Cluster::running(2, 2, Stack::Dual).await;
    let echo = Echo::start(&cluster.pods[0].netns);
    let mut web = service(&cluster, pods, Protocol::Tcp, echo.port);
    web.external_policy = policy;
    cluster.serve(&[("web", web)]).await;
    compare(&cluster, 80, &vips());
    let nodes = cluster.snapshots[0].nodes.values();
    let nodes: Vec<IpAddr> = nodes.flat_map(|node| node.addresses.clone()).collect();
    compare(&cluster, NODE_PORT, &nodes);
    // Of another node's port the policy is that of whoever comes from outside; one's own node has none.
    let (here, there) = (&cluster.pods[0].netns, &cluster.pods[2].netns);
    for (number, address) in nodes.iter().enumerate() {
        let is_served = !pods.is_empty() && (policy == TrafficPolicy::Cluster || number / 2 == 0);
        let at = SocketAddr::new(*address, NODE_PORT);
        assert_eq!(ask(here, at).is_ok(), is_served, "{at}");
        assert_eq!(ask(there, at).is_ok(), !pods.is_empty(), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_is_written_and_a_restart_writes_nothing() {
    let mut cluster = Cluster::running(2, 2, Stack::Dual).await;
    let echo = Echo::start(&cluster.pods[0].netns);
    let web = |cluster: &Cluster, pods: &[usize]| service(cluster, pods, Protocol::Tcp, echo.port);
    let one = web(&cluster, &[0]);
    cluster.serve(&[("web", one.clone())]).await;
    assert_eq!(cluster.serve(&[("web", one.clone())]).await, [0, 0]);
    cluster.restart_agent(0);
    assert_eq!(cluster.serve(&[("web", one.clone())]).await, [0, 0]);
    // In each family: a backend, its translation, a slot, and the count of two frontends.
    let two = web(&cluster, &[0, 1]);
    assert_eq!(cluster.serve(&[("web", two)]).await, [10, 10]);
    // Somebody takes our table away: with it go the translations, and come back.
    cluster.kernels[0].forget();
    let nft = cluster.lan.nodes[0].netns.run(Nft::current).unwrap().unwrap();
    let table = plan::table();
    nft.change(&Place::new(table.family, &table.name), &[Change::DeleteTable])
        .unwrap();
    cluster.apply(0).await;
    cluster.serve(&[("web", one)]).await;
    compare(&cluster, 80, &vips());
}

/// A way out of the cluster, and where Services' addresses are from.
async fn lead_out(cluster: &mut Cluster) {
    let node = cluster.lan.nodes[0].netns.netlink();
    let links = node.links().await.unwrap();
    let uplink = links.iter().find(|link| link.name == "eth0").unwrap().index;
    for gateway in ["172.30.0.1", "fd00:172:30::1"] {
        let route = Route::default_via(ip(gateway), uplink);
        assert!(node.add_route(&route).await.unwrap());
    }
    cluster.snapshots[0].service_ranges = ["10.96.0.0/16", "fd00:10:96::/112"].map(net).into();
    cluster.apply(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_no_port_of_a_service_is_refused_and_stays_on_the_node() {
    let mut cluster = Cluster::running(1, 1, Stack::Dual).await;
    lead_out(&mut cluster).await;
    let echo = Echo::start(&cluster.pods[0].netns);
    let web = service(&cluster, &[0], Protocol::Tcp, echo.port);
    cluster.serve(&[("web", web)]).await;
    let plans = cluster.all_plans();
    let unassigned = [ip("10.96.0.51"), ip("fd00:10:96::51")];
    let strays = vips().map(|vip| (vip, 81)).into_iter();
    for (address, port) in strays.chain(unassigned.map(|address| (address, 80))) {
        let at = SocketAddr::new(address, port);
        let source = alike(&cluster.pods[0].addresses, address);
        let trace = plan::trace(&plans, &Packet::tcp(source, address, port));
        assert!(matches!(trace.verdict, Verdict::Refused { .. }), "{trace}");
        for asker in [&cluster.pods[0].netns, &cluster.lan.nodes[0].netns] {
            let error = ask(asker, at).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{at}");
            let error = asker.run(|| {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.connect(at).unwrap();
                let sent = socket.send(b"x");
                sent.and_then(|_| socket.recv(&mut [0; 8])).unwrap_err()
            });
            let error = error.unwrap();
            // The node's own datagram isn't even sent.
            let told = [io::ErrorKind::ConnectionRefused, io::ErrorKind::PermissionDenied];
            assert!(told.contains(&error.kind()), "UDP {at}: {error}");
        }
    }
}

/// Whatever leaves for a Service's address leaves by the uplink, and comes back by it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_own_pings_are_answered_while_somebody_serves(#[values(false, true)] v6: bool) {
    let mut cluster = Cluster::running(1, 1, Stack::Dual).await;
    let at = vips()[usize::from(v6)];
    lead_out(&mut cluster).await;
    let web = |cluster: &Cluster, pods: &[usize]| service(cluster, pods, Protocol::Tcp, 8080);
    let served = web(&cluster, &[0]);
    cluster.serve(&[("web", served)]).await;
    let pong = |size| ping(&cluster.lan.nodes[0].netns, at, size).unwrap();
    assert_eq!([pong(56), pong(1000)], [Pong::Reply; 2]);
    let nobody = web(&cluster, &[]);
    cluster.serve(&[("web", nobody)]).await;
    assert_ne!(ping(&cluster.lan.nodes[0].netns, at, 56).unwrap(), Pong::Reply);
}

/// How many connections each endpoint has, by the counts of a node's links, in order.
fn translated(cluster: &Cluster) -> Vec<u64> {
    let maps = cluster.kernels[0].services().unwrap();
    let counts = maps.translated().unwrap().into_iter();
    let mut counts: Vec<u64> = counts.map(|(_, count)| count).collect();
    counts.sort_unstable();
    counts
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_by_a_link_gets_the_endpoint_with_fewer_connections_that_are_open(
    #[values(false, true)] v6: bool,
) {
    let mut cluster = Cluster::running(1, 3, Stack::Dual).await;
    let echoes = [0, 1].map(|pod: usize| {
        let any: SocketAddr = if v6 { "[::]:8080" } else { "0.0.0.0:8080" }.parse().unwrap();
        let listener = cluster.pods[pod].netns.run(|| TcpListener::bind(any));
        listener.unwrap().unwrap()
    });
    let mut web = service(&cluster, &[0, 1], Protocol::Tcp, 8080);
    web.strategy = Strategy::LeastConnections;
    assert_eq!(
        cluster.kernels[0].count_translated().unwrap(),
        0,
        "nothing is known"
    );
    cluster.serve(&[("web", web)]).await;
    assert_eq!(
        cluster.kernels[0].count_translated().unwrap(),
        0,
        "nothing was picked"
    );
    let at = SocketAddr::new(vips()[usize::from(v6)], 80);
    let connect = |count: usize| -> Vec<TcpStream> {
        let client = &cluster.pods[2].netns;
        let connect = || TcpStream::connect_timeout(&at, PATIENCE).unwrap();
        client.run(|| (0..count).map(|_| connect()).collect()).unwrap()
    };
    let accept = |echo: &TcpListener| -> Vec<TcpStream> {
        echo.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| echo.accept().ok())
            .map(|(stream, _)| stream)
            .collect()
    };
    let mut clients = connect(20);
    let mut served = echoes.each_ref().map(accept);
    assert_eq!(served.each_ref().map(Vec::len), [10, 10]);
    assert_eq!(translated(&cluster), [10, 10]);
    assert_eq!(cluster.kernels[0].count_translated().unwrap(), 2);
    assert_eq!(translated(&cluster), [10, 10], "conntrack says the same");
    // One endpoint's end: the next go there.
    served[0].clear();
    let has_ended = |client: &TcpStream| {
        client.set_nonblocking(true).unwrap();
        matches!(client.peek(&mut [0]), Ok(0))
    };
    let ended = |clients: &[TcpStream]| clients.iter().filter(|client| has_ended(client)).count();
    eventually(PATIENCE, || ended(&clients) == 10);
    clients.retain(|client| !has_ended(client));
    eventually(PATIENCE, || {
        cluster.kernels[0].count_translated().unwrap();
        translated(&cluster) == [0, 10]
    });
    clients.extend(connect(10));
    let more = echoes.each_ref().map(accept);
    assert_eq!(more.each_ref().map(Vec::len), [10, 0]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_udp_moves_when_its_endpoint_goes(#[values(false, true)] v6: bool) {
    let mut cluster = Cluster::running(1, 3, Stack::Dual).await;
    let at = SocketAddr::new(vips()[usize::from(v6)], 80);
    let any: SocketAddr = if v6 { "[::]:0" } else { "0.0.0.0:0" }.parse().unwrap();
    let serve = |pod: usize| {
        let local: SocketAddr = SocketAddr::new(any.ip(), 5353);
        let socket = cluster.pods[pod]
            .netns
            .run(|| UdpSocket::bind(local))
            .unwrap()
            .unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let servers = [serve(0), serve(1)];
    let client = cluster.pods[2]
        .netns
        .run(|| UdpSocket::bind(any))
        .unwrap()
        .unwrap();
    client.connect(at).unwrap();
    let heard = |server: &UdpSocket| {
        client.send(b"hello").unwrap();
        server.recv_from(&mut [0; 16]).map(|(_, from)| from)
    };
    for (pod, server) in servers.iter().enumerate() {
        let dns = service(&cluster, &[pod], Protocol::Udp, 5353);
        cluster.serve(&[("dns", dns)]).await;
        let from = heard(server).unwrap();
        server.send_to(b"yes", from).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(client.recv(&mut [0; 16]).unwrap(), 3, "by endpoint {pod}");
    }
    // And when there's none it's told.
    let nobody = service(&cluster, &[], Protocol::Udp, 5353);
    cluster.serve(&[("dns", nobody)]).await;
    client.send(b"hello").unwrap();
    let error = client.recv(&mut [0; 16]).expect_err("nobody is there");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// At the socket a connected client has the endpoint's own address: it's ended, and connects again.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_connected_socket_is_ended_when_its_endpoint_goes(#[values(false, true)] v6: bool) {
    let group = Group::new();
    let mut cluster = Cluster::new(1, Stack::Dual).await;
    cluster.facts[0].cgroup = Some(group.path().to_owned());
    let mut cluster = cluster.with_pods(3).await;
    group.enter();
    let at = SocketAddr::new(vips()[usize::from(v6)], 80);
    let any: SocketAddr = if v6 { "[::]:0" } else { "0.0.0.0:0" }.parse().unwrap();
    let bound = |pod: usize| {
        cluster.pods[pod]
            .netns
            .run(|| UdpSocket::bind(any))
            .unwrap()
            .unwrap()
    };
    let (client, other, own) = (bound(2), bound(1), {
        let node = &cluster.lan.nodes[0].netns;
        node.within(|| UdpSocket::bind(any)).unwrap()
    });
    let dns = |pods: &[usize]| service(&cluster, pods, Protocol::Udp, 5353);
    let (first, then) = (dns(&[0]), dns(&[1]));
    let direct = SocketAddr::new(alike(&cluster.pods[0].addresses, at.ip()), 5353);
    cluster.serve(&[("dns", first)]).await;
    client.connect(at).unwrap();
    own.connect(at).unwrap();
    other.connect(direct).unwrap();
    assert_eq!(client.peer_addr().unwrap(), at);
    cluster.serve(&[("dns", then)]).await;
    for ended in [&client, &own] {
        ended.set_read_timeout(Some(PATIENCE)).unwrap();
        let error = ended.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
    // One that asked for the pod itself has what it asked for.
    assert_eq!(other.peer_addr().unwrap(), direct);
    client.connect(at).unwrap();
}

/// Whom a pod's socket is connected to as far as its packets are concerned, by its own port.
fn remote(cluster: &Cluster, pod: usize, port: u16) -> IpAddr {
    let read = || std::fs::read_to_string("/proc/thread-self/net/tcp");
    let text = cluster.pods[pod].netns.run(read).unwrap().unwrap();
    let own = format!(":{port:04X}");
    let mut lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words[1].ends_with(&own)).unwrap();
    let address = u32::from_str_radix(&line[2][..8], 16).unwrap();
    Ipv4Addr::from(address.to_ne_bytes()).into()
}

/// A proxy in the pod sees what its clients ask for, and the link's programs lead it there.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_left_out_sees_services_addresses_and_reaches_them() {
    let group = Group::new();
    let mut cluster = Cluster::new(1, Stack::Dual).await;
    cluster.facts[0].cgroup = Some(group.path().to_owned());
    let mut cluster = cluster.with_pods(2).await;
    group.enter();
    let echo = Echo::start(&cluster.pods[0].netns);
    let web = service(&cluster, &[0], Protocol::Tcp, echo.port);
    cluster.serve(&[("web", web)]).await;
    let at = SocketAddr::new(vips()[0], 80);
    let endpoint = alike(&cluster.pods[0].addresses, at.ip());
    let connect = |cluster: &Cluster| {
        let connect = || TcpStream::connect_timeout(&at, PATIENCE);
        let stream = cluster.pods[1].netns.run(connect).unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at);
        remote(cluster, 1, stream.local_addr().unwrap().port())
    };
    assert_eq!(connect(&cluster), endpoint);
    let links = BTreeSet::from([cluster.pods[1].id.host_link()]);
    let left_out = |cluster: &Cluster, links| cluster.kernels[0].set_untranslated(links).unwrap();
    assert_eq!(left_out(&cluster, &links), 1);
    assert_eq!(left_out(&cluster, &links), 0);
    assert_eq!(connect(&cluster), at.ip());
    // Neither the same plan again nor a new agent, who doesn't know it yet, changes that.
    cluster.apply(0).await;
    assert_eq!(connect(&cluster), at.ip());
    cluster.restart_agent(0);
    cluster.apply(0).await;
    assert_eq!(connect(&cluster), at.ip());
    assert_eq!(left_out(&cluster, &links), 0);
    assert_eq!(left_out(&cluster, &BTreeSet::new()), 1);
    assert_eq!(connect(&cluster), endpoint);
}

/// The context is the same as long as nothing of it changes.
#[tokio::test(flavor = "multi_thread")]
async fn what_services_rest_on_is_the_nodes_own() {
    let cluster = Cluster::running(2, 1, Stack::Dual).await;
    let context = |node: usize| ServiceContext::new(&cluster.snapshots[node], &cluster.facts[node]);
    assert_ne!(context(0), context(1));
    let mut more = cluster.snapshots[0].clone();
    more.nodes.insert("other".to_owned(), model::Node::default());
    assert_eq!(context(0), ServiceContext::new(&more, &cluster.facts[0]));
}
