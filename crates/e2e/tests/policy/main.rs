//! NetworkPolicies as people write them: what they allow is answered and what they don't isn't, from pods,
//! nodes and the machine, for what is new and for what was there before; and `ripstop trace` says the same.

mod ask;
mod first;
mod live;
mod outside;
mod said;
mod server;

use std::net::IpAddr;
use std::thread;

use ask::{Ask, WAIT, World};
use e2e::{Cluster, Options};
use live::Live;
use said::By;
use serde_json::Value;
use server::Server;

const ONE: &str = "node-1";
const TWO: &str = "node-2";

/// Each has a namespace of its own, or several, and nothing to do with the others.
const CASES: &[fn(&World)] = &[
    a_database_for_its_frontends,
    an_app_for_those_that_are_allowed,
    nothing_but_dns,
    namespaces_by_their_labels,
    blocks_and_ports,
    outside::nodes_and_outside,
];

/// Those that are to show what is another's in another family.
const SHORT: &[fn(&World)] = &[a_database_for_its_frontends, nothing_but_dns];

#[test]
fn what_policies_allow_is_answered_and_nothing_else_is() {
    let world = walk("e2e-policy", "dual", CASES);
    first::nothing_reaches_a_pod_before_its_policies_do(&world);
}

#[test]
fn policies_are_in_force_where_there_is_ipv6_alone() {
    walk("e2e-policy6", "ipv6", SHORT);
}

fn walk(name: &str, family: &'static str, cases: &[fn(&World)]) -> World {
    let options = Options {
        nodes: 2,
        ..Options::of(family)
    };
    let cluster = Cluster::up(name, &options);
    cluster.wait_nodes("condition=Ready", WAIT);
    let world = World { cluster };
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| case(&world));
        }
    });
    world
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
    world.expect([
        world.tcp("redis/other", "redis/db", 6379, By::Nobody),
        world.tcp("redis/near", "redis/db", 8080, By::Nobody),
    ]);
    let live = Live::begin(world, "redis/other", "redis/db", 6379);
    world.apply(DATABASE);
    let (allowed, denied) = (By::Allowed(&["redis/database"]), By::Denied(&["redis/database"]));
    world.expect([
        world.tcp("redis/near", "redis/db", 6379, allowed),
        world.tcp("redis/far", "redis/db", 6379, allowed),
        world.tcp("redis/other", "redis/db", 6379, denied),
        world.tcp("redis/near", "redis/db", 8080, denied),
        world.udp("redis/near", "redis/db", 6379, denied),
        world.tcp("redis/db", "redis/other", 8080, By::Nobody),
        world.tcp("redis/other", "redis/far", 8080, By::Nobody),
    ]);
    live.is_cut();
    database_in_words(world);
    // A pod becomes a frontend, and what it had goes on.
    let kubectl = |words: &[&str]| world.cluster.kubectl(&[&["-n", "redis"], words].concat()).ok();
    kubectl(&["label", "--overwrite", "pod", "other", "role=frontend"]);
    world.expect([world.tcp("redis/other", "redis/db", 6379, allowed)]);
    live.goes_on();
    kubectl(&["label", "--overwrite", "pod", "other", "role=other"]);
    live.is_cut();
    world.expect([world.tcp("redis/other", "redis/db", 6379, denied)]);
    kubectl(&["delete", "networkpolicy", "database"]);
    live.goes_on();
}

/// What `ripstop policy show` and `ripstop trace` print for people, and how they end.
fn database_in_words(world: &World) {
    let db = world.pod("redis/db").ips[0];
    let shown = world
        .cluster
        .explain(&["policy", "show", "-n", "redis", "db"])
        .ok();
    let wanted = [
        "ingress: isolated, but for",
        "  policy redis/database",
        "    rule 0: pods with role=frontend of this namespace: 6379/tcp",
        "egress: free, as no policy selects it",
        "  pod redis/far: 6379/tcp (redis/database rule 0)",
    ];
    for line in wanted {
        assert!(shown.lines().any(|one| one == line), "{line:?} isn't in\n{shown}");
    }
    assert!(!shown.contains("pod redis/other"), "{shown}");
    let shown = ["policy", "show", "redis/pod/db", "-o", "json"];
    let shown = world.cluster.explain(&shown).ok();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["ingress"]["policies"][0]["policy"], "redis/database");
    assert_eq!(shown["egress"]["isolated"], false);

    let trace = |from: &str, to: &str| {
        let words = ["trace", "-n", "redis", from, to, "--port", "6379"];
        world.cluster.explain(&words)
    };
    let denied = trace("pod/other", &db.to_string());
    let why = "policy redis/database isolates it, and no rule of it allows this";
    assert!(
        denied.code == Some(1) && denied.stdout.contains(why),
        "{denied:?}"
    );
    let allowed = trace("near", "pod/db");
    let why = "allowed by ingress rule 0 of policy redis/database";
    assert!(
        allowed.code == Some(0) && allowed.stdout.contains(why),
        "{allowed:?}"
    );
    let unknown = trace("pod/nobody", "pod/db");
    let why = "there is no pod redis/nobody";
    assert!(
        unknown.code == Some(2) && unknown.stderr.contains(why),
        "{unknown:?}"
    );
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
    let service: IpAddr = outside::text(&service, "/spec/clusterIP")
        .parse()
        .expect("an address");
    let (allowed, denied) = (By::Allowed(&["app/my-app"]), By::Denied(&["app/my-app"]));
    world.expect([
        world.tcp("app/allowed", "app/my-app", 8080, allowed),
        world.tcp("app/refused", "app/my-app", 8080, denied),
        world.tcp("app/allowed", "app/my-app", 9000, denied),
        world.tcp("app/my-app", "app/my-app", 9000, By::Nobody),
    ]);
    let names = ["app/svc/my-app", "my-app.app", "my-app.app.svc.cluster.local"];
    let service_text = service.to_string();
    let names = names.into_iter().chain([&*service_text]);
    world.expect(names.flat_map(|name| {
        [
            Ask::named("app/allowed", name, service, 80, allowed),
            Ask::named("app/refused", name, service, 80, denied),
        ]
    }));
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
    let closed = |denied: By| {
        vec![
            world.tcp("closed/a", "closed/b", 8080, denied),
            world.tcp("closed/a", "closed/c", 8080, denied),
            world.udp("closed/b", "closed/a", 9000, denied),
            world.tcp("closed/a", "open/d", 8080, denied),
            // What comes to it is another direction's.
            world.tcp("open/d", "closed/a", 8080, By::Denied(&["closed/nothing"])),
            world.tcp("closed/a", "closed/a", 8080, By::Nobody),
        ]
    };
    let denied = By::Denied(&["closed/nothing"]);
    let mut asks = closed(denied);
    asks.extend([Ask::dns("closed/a", denied), Ask::dns("open/d", By::Nobody)]);
    world.expect(asks);
    world.apply(DNS);
    let allowed = By::Allowed(&["closed/dns"]);
    let mut asks = closed(By::Denied(&["closed/dns", "closed/nothing"]));
    asks.extend([Ask::dns("closed/a", allowed), Ask::dns("closed/c", allowed)]);
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
    let denied = By::Denied(&["shop/from-team"]);
    let asks = |client: By| {
        [
            world.tcp("blue/client", "shop/web", 8080, client),
            world.tcp("blue/other", "shop/web", 8080, denied),
        ]
    };
    world.expect(asks(denied));
    let label = |label: &str| world.cluster.kubectl(&["label", "namespace", "blue", label]).ok();
    label("team=blue");
    world.expect(asks(By::Allowed(&["shop/from-team"])));
    let live = Live::begin(world, "blue/client", "shop/web", 9000);
    label("team-");
    live.is_cut();
    world.expect(asks(denied));
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
    let (web, range) = (By::Allowed(&["ports/web"]), By::Allowed(&["ports/range"]));
    let (no_web, no_range) = (By::Denied(&["ports/web"]), By::Denied(&["ports/range"]));
    let mut asks = vec![
        world.tcp("ports/client", "ports/small", 8080, web),
        world.tcp("ports/client", "ports/large", 8081, web),
        world.tcp("ports/client", "ports/large", 9000, no_web),
        world.udp("ports/client", "ports/small", 9000, web),
        world.tcp("ports/client", "ports/range", 8080, range),
        world.tcp("ports/client", "ports/range", 9000, no_range),
        world.udp("ports/client", "ports/range", 9000, no_range),
    ];
    let ips = world.pod("ports/range").ips.into_iter();
    asks.extend(ips.map(|ip| {
        let by = if ip.is_ipv6() { range } else { no_range };
        Ask::address("ports/hole", ip, 8080, by)
    }));
    world.expect(asks);
}
