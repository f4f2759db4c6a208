//! NetworkPolicies as people write them: what they allow is answered and what they don't isn't, from pods,
//! nodes and the machine, for what is new and for what was there before.

mod ask;
mod live;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use ask::{Ask, Server, WAIT, World, text};
use e2e::{Cluster, Options, eventually};
use live::Live;

const ONE: &str = "node-1";
const TWO: &str = "node-2";

/// Each has a namespace of its own, or several, and nothing to do with the others.
const CASES: &[fn(&World)] = &[
    a_database_for_its_frontends,
    an_app_for_those_that_are_allowed,
    nothing_but_dns,
    namespaces_by_their_labels,
    blocks_and_ports,
    nodes_and_outside,
];

#[test]
fn what_policies_allow_is_answered_and_nothing_else_is() {
    let options = Options {
        nodes: 2,
        ..Options::of("dual")
    };
    let cluster = Cluster::up("e2e-policy", &options);
    cluster.wait_nodes("condition=Ready", WAIT);
    let world = World { cluster };
    thread::scope(|scope| {
        for case in CASES {
            scope.spawn(|| case(&world));
        }
    });
}

const DATABASE: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: database, namespace: redis}
spec:
  podSelector: {matchLabels: {role: db}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {role: frontend}}}]
    ports: [{protocol: TCP, port: 6379}]
";

fn a_database_for_its_frontends(world: &World) {
    world.pods(
        "redis",
        &[
            Server::new("db", ONE, "role: db").echo(6379),
            Server::new("near", ONE, "role: frontend"),
            Server::new("far", TWO, "role: frontend"),
            Server::new("other", TWO, "role: other"),
        ],
    );
    let open = [
        world.tcp("redis/other", "redis/db", 6379, true),
        world.tcp("redis/near", "redis/db", 8080, true),
    ];
    world.expect(open.concat());
    let live = Live::begin(world, "redis/other", "redis/db", 6379);
    world.apply(DATABASE);
    let asks = [
        world.tcp("redis/near", "redis/db", 6379, true),
        world.tcp("redis/far", "redis/db", 6379, true),
        world.tcp("redis/other", "redis/db", 6379, false),
        world.tcp("redis/near", "redis/db", 8080, false),
        world.udp("redis/near", "redis/db", 6379, false),
        world.tcp("redis/db", "redis/other", 8080, true),
        world.tcp("redis/other", "redis/far", 8080, true),
    ];
    world.expect(asks.concat());
    live.is_cut();
    // A pod becomes a frontend, and what it had goes on.
    let kubectl = |words: &[&str]| world.cluster.kubectl(&[&["-n", "redis"], words].concat()).ok();
    kubectl(&["label", "--overwrite", "pod", "other", "role=frontend"]);
    world.expect(world.tcp("redis/other", "redis/db", 6379, true));
    live.goes_on();
    kubectl(&["label", "--overwrite", "pod", "other", "role=other"]);
    live.is_cut();
    world.expect(world.tcp("redis/other", "redis/db", 6379, false));
    kubectl(&["delete", "networkpolicy", "database"]);
    live.goes_on();
}

const APP: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: my-app, namespace: app}
spec:
  podSelector: {matchLabels: {app: my-app}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: allowed-app}}}]
    ports: [{protocol: TCP, port: 8080}]
";

fn an_app_for_those_that_are_allowed(world: &World) {
    let servers = [
        Server::new("my-app", TWO, "app: my-app"),
        Server::new("allowed", ONE, "app: allowed-app"),
        Server::new("refused", TWO, "app: other"),
    ];
    world.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: app}\n");
    world.apply(APP);
    world.pods("app", &servers);
    world
        .cluster
        .kubectl(&[
            "-n",
            "app",
            "expose",
            "pod",
            "my-app",
            "--port=80",
            "--target-port=8080",
        ])
        .ok();
    let service = world.cluster.get(&["-n", "app", "service", "my-app"]);
    let service: IpAddr = text(&service, "/spec/clusterIP").parse().expect("an address");
    let mut asks = [
        world.tcp("app/allowed", "app/my-app", 8080, true),
        world.tcp("app/refused", "app/my-app", 8080, false),
        world.tcp("app/allowed", "app/my-app", 9000, false),
        world.tcp("app/my-app", "app/my-app", 9000, true),
    ]
    .concat();
    asks.push(Ask::address("app/allowed", service, 80, true));
    asks.push(Ask::address("app/refused", service, 80, false));
    world.expect(asks);
}

const NOTHING: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nothing, namespace: closed}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
";

const DNS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: dns, namespace: closed}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
      podSelector: {matchLabels: {k8s-app: kube-dns}}
    ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
";

fn nothing_but_dns(world: &World) {
    world.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: closed}\n");
    world.apply(NOTHING);
    // They become Ready: their node's probes pass.
    let (a, b) = (Server::new("a", ONE, "app: a"), Server::new("b", ONE, "app: b"));
    world.pods("closed", &[a, b, Server::new("c", TWO, "app: c")]);
    world.pods("open", &[Server::new("d", TWO, "app: d")]);
    let closed = || {
        [
            world.tcp("closed/a", "closed/b", 8080, false),
            world.tcp("closed/a", "closed/c", 8080, false),
            world.udp("closed/b", "closed/a", 9000, false),
            world.tcp("closed/a", "open/d", 8080, false),
            world.tcp("open/d", "closed/a", 8080, false),
            world.tcp("closed/a", "closed/a", 8080, true),
        ]
        .concat()
    };
    let mut asks = closed();
    asks.extend([Ask::dns("closed/a", false), Ask::dns("open/d", true)]);
    world.expect(asks);
    world.apply(DNS);
    let mut asks = closed();
    asks.extend([Ask::dns("closed/a", true), Ask::dns("closed/c", true)]);
    world.expect(asks);
}

const TENANTS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: from-team, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {team: blue}}
      podSelector: {matchLabels: {app: client}}
";

fn namespaces_by_their_labels(world: &World) {
    world.pods("shop", &[Server::new("web", ONE, "app: web")]);
    let (client, other) = (
        Server::new("client", TWO, "app: client"),
        Server::new("other", ONE, "app: other"),
    );
    world.pods("blue", &[client, other]);
    world.apply(TENANTS);
    let asks = |client: bool| {
        [
            world.tcp("blue/client", "shop/web", 8080, client),
            world.tcp("blue/other", "shop/web", 8080, false),
        ]
        .concat()
    };
    world.expect(asks(false));
    world
        .cluster
        .kubectl(&["label", "namespace", "blue", "team=blue"])
        .ok();
    world.expect(asks(true));
    let live = Live::begin(world, "blue/client", "shop/web", 9000);
    world
        .cluster
        .kubectl(&["label", "namespace", "blue", "team-"])
        .ok();
    live.is_cut();
    world.expect(asks(false));
}

/// Ports of each pod by its own number; a range; a block with a hole.
fn blocks(hole: &str) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web, namespace: ports}}
spec:
  podSelector: {{matchLabels: {{kind: named}}}}
  ingress:
  - ports: [{{port: web}}, {{protocol: UDP, port: echo-udp}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: range, namespace: ports}}
spec:
  podSelector: {{matchLabels: {{kind: range}}}}
  ingress:
  - from:
    - ipBlock: {{cidr: 0.0.0.0/0, except: [{hole}/32]}}
    - ipBlock: {{cidr: '::/0'}}
    ports: [{{protocol: TCP, port: 8000, endPort: 8999}}]
"
    )
}

fn blocks_and_ports(world: &World) {
    world.pods(
        "ports",
        &[
            Server::new("small", ONE, "kind: named"),
            Server::new("large", TWO, "kind: named").http(8081),
            Server::new("range", ONE, "kind: range"),
            Server::new("client", TWO, "kind: client"),
            Server::new("hole", TWO, "kind: client"),
        ],
    );
    let hole = world.pod("ports/hole").ips;
    let hole = hole.iter().find(|ip| ip.is_ipv4()).expect("it has both families");
    world.apply(&blocks(&hole.to_string()));
    let mut asks = [
        world.tcp("ports/client", "ports/small", 8080, true),
        world.tcp("ports/client", "ports/large", 8081, true),
        world.tcp("ports/client", "ports/large", 9000, false),
        world.udp("ports/client", "ports/small", 9000, true),
        world.tcp("ports/client", "ports/range", 8080, true),
        world.tcp("ports/client", "ports/range", 9000, false),
        world.udp("ports/client", "ports/range", 9000, false),
    ]
    .concat();
    let range = world.pod("ports/range").ips.into_iter();
    asks.extend(range.map(|ip| Ask::address("ports/hole", ip, 8080, ip.is_ipv6())));
    world.expect(asks);
}

const FROM_MACHINE: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: outside, namespace: outer}
spec:
  podSelector: {}
  ingress: [{from: [{ipBlock: {cidr: MACHINE}}], ports: [{port: 8080}]}]
";

fn nodes_and_outside(world: &World) {
    let servers = [
        Server::new("web", ONE, "app: web"),
        Server::new("own", ONE, "app: own")
            .http(18080)
            .echo(19000)
            .host_network(),
        Server::new("strange", TWO, "app: strange")
            .http(18080)
            .echo(19000)
            .host_network(),
    ];
    world.pods("outer", &servers);
    let local = r#"{"spec":{"externalTrafficPolicy":"Local"}}"#;
    let expose = [
        "-n",
        "outer",
        "expose",
        "pod",
        "web",
        "--port=80",
        "--target-port=8080",
    ];
    let expose = [&expose[..], &["--type=LoadBalancer", "--overrides", local]].concat();
    world.cluster.kubectl(&expose).ok();
    let ports = world.cluster.get(&["-n", "outer", "service", "web"]);
    let port = ports
        .pointer("/spec/ports/0/nodePort")
        .and_then(serde_json::Value::as_u64);
    let port = u16::try_from(port.expect("it has a node port")).expect("a port");
    let node = world.pod("outer/own").ips[0];
    let balancer = eventually(WAIT, || {
        let service = world.cluster.get(&["-n", "outer", "service", "web"]);
        let address = text(&service, "/status/loadBalancer/ingress/0/ip");
        address.parse::<IpAddr>().map_err(|_| service.to_string())
    });
    let places = [SocketAddr::new(node, port), SocketAddr::new(balancer, 80)];
    from_machine(places, true);
    // The machine has the first address of the nodes' network.
    world.apply(&FROM_MACHINE.replace("MACHINE", "192.0.2.0/24"));
    from_machine(places, false);
    let asks = [
        // What a pod's own node begins passes, as probes do; another node's doesn't.
        world.tcp("outer/own", "outer/web", 8080, true),
        world.tcp("outer/strange", "outer/web", 8080, false),
        // Pods of the node's network are nobody's to select.
        world.tcp("outer/web", "outer/strange", 18080, true),
    ];
    world.expect(asks.concat());
    let machine = node_network(node);
    world.apply(&FROM_MACHINE.replace("MACHINE", &machine));
    from_machine(places, true);
}

/// The network that nodes and the machine share.
fn node_network(node: IpAddr) -> String {
    ipnet::IpNet::new(node, 24).expect("24 bits").trunc().to_string()
}

/// Whether the machine is answered, by way of the node and of the load balancer.
fn from_machine(places: [SocketAddr; 2], allowed: bool) {
    for place in places {
        eventually(WAIT, || {
            let answered = TcpStream::connect_timeout(&place, Duration::from_secs(1)).is_ok();
            (answered == allowed)
                .then_some(())
                .ok_or_else(|| format!("{place}: answered: {answered}"))
        });
    }
}
