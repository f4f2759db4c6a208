//! What Services become, as text and judged by an evaluator that follows the API's words alone.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{
    Endpoint, Hints, Node, NodeFacts, Protocol, Service, ServiceName, ServicePort, Slice, SlicePort,
    Snapshot, Strategy, TrafficPolicy,
};
use plan::{Object, Part, PartId, Scope, ServiceContext, plan, plan_service};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `ready`, `ending` (serving yet) or `gone` (neither), on a node.
fn endpoint(address: &str, node: &str, state: &str) -> Endpoint {
    Endpoint {
        address: ip(address),
        node: Some(node.into()),
        ready: state == "ready",
        serving: state != "gone",
        terminating: state != "ready",
        hints: Hints::default(),
    }
}

fn port(name: &str, protocol: Protocol, port: u16, node_port: Option<u16>) -> ServicePort {
    ServicePort {
        name: name.to_owned(),
        protocol,
        port,
        node_port,
    }
}

fn slice(ports: &[(&str, Protocol, u16)], endpoints: Vec<Endpoint>) -> Arc<Slice> {
    let ports = ports.iter().map(|(name, protocol, port)| SlicePort {
        name: (*name).to_owned(),
        protocol: *protocol,
        port: *port,
    });
    Arc::new(Slice {
        ports: ports.collect(),
        endpoints,
    })
}

fn web(endpoints: Vec<Endpoint>) -> Service {
    Service {
        cluster_ips: vec![ip("10.96.0.20")],
        ports: vec![port("", Protocol::Tcp, 80, None)],
        slices: BTreeMap::from([("web-1".to_owned(), slice(&[("", Protocol::Tcp, 8080)], endpoints))]),
        ..Service::default()
    }
}

fn three() -> Vec<Endpoint> {
    vec![
        endpoint("10.244.2.7", "b", "ready"),
        endpoint("10.244.1.5", "a", "ready"),
        endpoint("10.244.1.6", "a", "ending"),
    ]
}

fn cluster() -> (Snapshot, NodeFacts) {
    let node = |number: u8, zone: &str| Node {
        addresses: vec![
            ip(&format!("172.30.0.1{number}")),
            ip(&format!("fd00:172:30::1{number}")),
        ],
        pod_cidrs: vec![
            format!("10.244.{number}.0/24").parse().unwrap(),
            format!("fd00:10:244:{number}::/64").parse().unwrap(),
        ],
        zone: Some(zone.to_owned()),
    };
    let nodes = [
        ("a", node(1, "west")),
        ("b", node(2, "east")),
        ("c", node(3, "west")),
    ];
    let snapshot = Snapshot {
        nodes: nodes.map(|(name, node)| (name.to_owned(), node)).into(),
        ..Snapshot::default()
    };
    let facts = NodeFacts {
        name: "a".to_owned(),
        ..NodeFacts::default()
    };
    (snapshot, facts)
}

fn planned(service: &Service) -> Part {
    planned_without(service, &[])
}

/// With nodes that don't answer.
fn planned_without(service: &Service, unreachable: &[&str]) -> Part {
    let (snapshot, facts) = cluster();
    let unreachable = unreachable.iter().map(|node| (*node).to_owned()).collect();
    let context = ServiceContext::new(&snapshot, &facts).with_unreachable(unreachable);
    plan_service(&ServiceName::new("default", "web"), service, &context)
}

#[test]
fn a_cluster_ip() {
    insta::assert_snapshot!(planned(&web(three())), @r"
    port 80/tcp IPv4 random
      frontend 10.96.0.20:80 inside cluster outside cluster
      cluster
        10.244.1.5:8080 local
        10.244.2.7:8080
    ping 10.96.0.20 answers
    ");
}

#[test]
fn every_kind_of_frontend() {
    let service = Service {
        load_balancer_ips: vec![ip("172.30.0.200")],
        external_ips: vec![ip("192.0.2.1")],
        source_ranges: Some(vec![
            "198.51.100.0/24".parse().unwrap(),
            "198.51.100.7/32".parse().unwrap(),
        ]),
        ports: vec![port("", Protocol::Tcp, 80, Some(30000))],
        external_policy: TrafficPolicy::Local,
        affinity: Some(10_800),
        strategy: Strategy::LeastConnections,
        ..web(three())
    };
    insta::assert_snapshot!(planned(&service), @r#"
    note: spec.externalIPs is left out, as whoever may write Services could have anybody's traffic by it: the agents' setting network.externalIps allows it
    port 80/tcp IPv4 least-connections affinity 10800s
      frontend 10.96.0.20:80 inside cluster outside cluster
      frontend 172.30.0.200:80 inside cluster outside node keeps-source silent restricted
      frontend node:30000 inside cluster outside node keeps-source silent
      source 198.51.100.0/24
      cluster
        10.244.1.5:8080 local
        10.244.2.7:8080
      node
        10.244.1.5:8080 local
    ping 10.96.0.20 answers
    ping 172.30.0.200 answers
    "#);
    let (mut snapshot, facts) = cluster();
    snapshot.external_ips = true;
    snapshot
        .services
        .insert(ServiceName::new("default", "web"), service);
    let plan = plan(&snapshot, &facts);
    let part = &plan.parts[&PartId::Service(ServiceName::new("default", "web"))];
    assert!(part.to_string().contains("frontend 192.0.2.1:80"), "{part}");
}

#[test]
fn udp_keeps_what_endpoints_that_end_still_serve() {
    let mut service = web(Vec::new());
    service.ports = vec![port("dns", Protocol::Udp, 53, None)];
    service.slices = BTreeMap::from([(
        "one".to_owned(),
        slice(
            &[("dns", Protocol::Udp, 5353), ("other", Protocol::Udp, 1)],
            three(),
        ),
    )]);
    insta::assert_snapshot!(planned(&service), @r#"
    port 53/udp IPv4 random
      frontend 10.96.0.20:53 inside cluster outside cluster
      cluster
        10.244.1.5:5353 local
        10.244.2.7:5353
      lingering 10.244.1.6:5353
    ping 10.96.0.20 answers
    "#);
}

#[test]
fn endpoints_of_nodes_that_do_not_answer_come_last() {
    let sockets = |service: &Service, unreachable: &[&str]| {
        let part = planned_without(service, unreachable);
        let Some(Object::Service(port)) = part.objects.first() else {
            panic!("no port: {part}");
        };
        let backends = port.cluster.backends.iter();
        backends
            .map(|backend| backend.socket.ip().to_string())
            .collect::<Vec<_>>()
    };
    let mut service = web(vec![
        endpoint("10.244.1.6", "a", "ending"),
        endpoint("10.244.2.7", "b", "ready"),
        endpoint("10.244.3.8", "c", "ready"),
    ]);
    let both = ["10.244.2.7", "10.244.3.8"];
    assert_eq!(sockets(&service, &[]), both);
    assert_eq!(sockets(&service, &["b"]), ["10.244.3.8"]);
    assert_eq!(
        sockets(&service, &["b", "c"]),
        ["10.244.1.6"],
        "one that ends still serves"
    );
    service.slices = web(vec![
        endpoint("10.244.1.6", "a", "gone"),
        endpoint("10.244.2.7", "b", "ready"),
        endpoint("10.244.3.8", "c", "ready"),
    ])
    .slices;
    assert_eq!(sockets(&service, &["b", "c"]), both, "there are no others");
    // A node hears itself.
    service.slices = web(three()).slices;
    assert_eq!(sockets(&service, &["a", "b"]), ["10.244.1.5"]);
    // UDP stays with whom it has, as TCP does.
    service.ports[0].protocol = Protocol::Udp;
    let slices = [slice(&[("", Protocol::Udp, 8080)], three())];
    service.slices = slices.map(|slice| ("one".to_owned(), slice)).into();
    let part = planned_without(&service, &["b"]).to_string();
    assert!(part.contains("lingering 10.244.2.7:8080"), "{part}");
}

#[test]
fn a_node_that_turns_concerns_its_own_endpoints_alone() {
    let (mut snapshot, facts) = cluster();
    let context = |snapshot: &Snapshot, nodes: &[&str]| {
        let unreachable = nodes.iter().map(|node| (*node).to_owned()).collect();
        ServiceContext::new(snapshot, &facts).with_unreachable(unreachable)
    };
    let before = context(&snapshot, &["b"]);
    let turned = context(&snapshot, &["c"]).turned_since(&before);
    assert_eq!(turned, Some(["b", "c"].map(str::to_owned).into()));
    assert_eq!(before.turned_since(&before), Some(BTreeSet::new()));
    snapshot.external_ips = true;
    assert_eq!(context(&snapshot, &["c"]).turned_since(&before), None);
}

#[test]
fn what_a_node_serves_itself_is_not_translated() {
    let (mut snapshot, facts) = cluster();
    snapshot.node_local.insert(ip("10.96.0.20"));
    let context = ServiceContext::new(&snapshot, &facts);
    let mut service = web(three());
    let name = ServiceName::new("kube-system", "kube-dns");
    let part = plan_service(&name, &service, &context);
    assert!(part.objects.is_empty(), "{part}");
    service.ports[0].node_port = Some(30053);
    insta::assert_snapshot!(plan_service(&name, &service, &context), @r#"
    port 80/tcp IPv4 random
      frontend node:30053 inside cluster outside cluster
      cluster
        10.244.1.5:8080 local
        10.244.2.7:8080
    "#);
}

#[test]
fn what_makes_no_sense_is_a_note() {
    let mut service = web(three());
    service.load_balancer_ips = vec![ip("fd00:172:30::200")];
    service.external_ips = vec![ip("192.0.2.1")];
    service.ports.push(port("again", Protocol::Tcp, 80, None));
    insta::assert_snapshot!(planned(&service), @r#"
    note: the load balancer's address fd00:172:30::200 leads nowhere: the Service has no address of that family (spec.ipFamilies)
    note: spec.externalIPs is left out, as whoever may write Services could have anybody's traffic by it: the agents' setting network.externalIps allows it
    note: default/web 80/tcp IPv4 is there twice, and the second one is left out
    port 80/tcp IPv4 random
      frontend 10.96.0.20:80 inside cluster outside cluster
      cluster
        10.244.1.5:8080 local
        10.244.2.7:8080
    ping 10.96.0.20 answers
    "#);
}

#[test]
fn two_services_of_one_address_are_told_apart() {
    let (mut snapshot, facts) = cluster();
    snapshot.external_ips = true;
    for name in ["first", "second"] {
        let mut service = web(three());
        service.cluster_ips = vec![ip(if name == "first" {
            "10.96.0.21"
        } else {
            "10.96.0.22"
        })];
        service.external_ips = vec![ip("192.0.2.1")];
        snapshot
            .services
            .insert(ServiceName::new("default", name), service);
    }
    let plan = plan(&snapshot, &facts);
    let part = |name: &str| plan.parts[&PartId::Service(ServiceName::new("default", name))].to_string();
    assert!(
        part("first").contains("frontend 192.0.2.1:80"),
        "{}",
        part("first")
    );
    assert!(
        !part("second").contains("frontend 192.0.2.1:80"),
        "{}",
        part("second")
    );
    assert!(
        part("second").contains("Service default/first has it"),
        "{}",
        part("second")
    );
}

mod judged {
    //! Random Services and endpoints.

    use proptest::prelude::{
        Just, ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest,
    };

    use super::{
        Arc, BTreeSet, Endpoint, Hints, Object, Scope, Service, SocketAddr, TrafficPolicy, endpoint, planned,
        planned_without, web,
    };

    /// Who serves, in the words of the documentation of `EndpointConditions`, `EndpointHints`, the
    /// traffic policies and KEP-1669.
    /// Where one that serves is on a node that answers, those of other nodes don't count.
    fn by_the_book(service: &Service, scope: Scope, unreachable: &[&str]) -> BTreeSet<SocketAddr> {
        let answers = |one: &Endpoint| {
            let node = one.node.as_deref();
            node == Some("a") || !node.is_some_and(|node| unreachable.contains(&node))
        };
        let every = || service.slices.values().flat_map(|slice| &slice.endpoints);
        let choosy = every().any(|one| answers(one) && (one.ready || one.serving && one.terminating));
        let all = || {
            service.slices.values().flat_map(|slice| {
                let ports = slice.ports.iter().filter(|port| port.name.is_empty());
                ports.flat_map(|port| {
                    let those = slice.endpoints.iter().filter(|one| !choosy || answers(one));
                    those.map(|one| (SocketAddr::new(one.address, port.port), one))
                })
            })
        };
        let mine = |one: &Endpoint| match scope {
            Scope::Local => one.node.as_deref() == Some("a"),
            Scope::Cluster => true,
        };
        let ready: Vec<(SocketAddr, &Endpoint)> = all().filter(|(_, one)| one.ready && mine(one)).collect();
        if ready.is_empty() {
            // "If all endpoints are terminating, use those that are serving."
            let ending = all().filter(|(_, one)| one.serving && one.terminating && mine(one));
            return ending.map(|(socket, _)| socket).collect();
        }
        let sockets = |those: &mut dyn Iterator<Item = &(SocketAddr, &Endpoint)>| {
            those.map(|(socket, _)| *socket).collect::<BTreeSet<_>>()
        };
        if scope == Scope::Cluster {
            // "forNodes / forZones indicates the node(s) / zone(s) this endpoint should be consumed
            // by"; what lacks them anywhere isn't used.
            let for_node = |one: &Endpoint| one.hints.nodes.iter().any(|node| &**node == "a");
            if ready.iter().all(|(_, one)| !one.hints.nodes.is_empty())
                && ready.iter().any(|(_, one)| for_node(one))
            {
                return sockets(&mut ready.iter().filter(|(_, one)| for_node(one)));
            }
            let for_zone = |one: &Endpoint| one.hints.zones.iter().any(|zone| &**zone == "west");
            if ready.iter().all(|(_, one)| !one.hints.zones.is_empty())
                && ready.iter().any(|(_, one)| for_zone(one))
            {
                return sockets(&mut ready.iter().filter(|(_, one)| for_zone(one)));
            }
        }
        sockets(&mut ready.iter())
    }

    fn names(of: &'static [&'static str]) -> impl Strategy<Value = Box<[Arc<str>]>> {
        prop_oneof![
            Just(Vec::new()),
            proptest::sample::subsequence(of.to_vec(), 1..=of.len())
        ]
        .prop_map(|names| names.into_iter().map(Arc::from).collect())
    }

    fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
        let one = (
            0_u8..3,
            "ready|ending|gone",
            names(&["a", "b"]),
            names(&["west", "east"]),
        );
        proptest::collection::vec(one, 0..6).prop_map(|all| {
            let endpoint = |(number, (node, state, nodes, zones)): (usize, (u8, String, _, _))| {
                let name = ["a", "b", "c"][usize::from(node)];
                let mut one = endpoint(&format!("10.244.{}.{}", node + 1, number + 5), name, &state);
                one.hints = Hints { zones, nodes };
                one
            };
            all.into_iter().enumerate().map(endpoint).collect()
        })
    }

    fn policy() -> impl Strategy<Value = TrafficPolicy> {
        prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn those_serve_who_should(
            endpoints in endpoints(),
            internal in policy(),
            external in policy(),
            unreachable in proptest::sample::subsequence(vec!["a", "b", "c"], 0..=3),
        ) {
            let mut service = web(endpoints);
            service.internal_policy = internal;
            service.external_policy = external;
            service.ports[0].node_port = Some(30000);
            let part = planned_without(&service, &unreachable);
            let Some(Object::Service(port)) = part.objects.first() else {
                panic!("no port: {part}");
            };
            let by_the_book = |scope| by_the_book(&service, scope, &unreachable);
            let scope = |policy| match policy {
                TrafficPolicy::Cluster => Scope::Cluster,
                TrafficPolicy::Local => Scope::Local,
            };
            let serves = |scope| -> BTreeSet<SocketAddr> {
                let set = port.set(scope).expect("a frontend leads to it");
                set.backends.iter().map(|backend| backend.socket).collect()
            };
            let anybody = !by_the_book(Scope::Cluster).is_empty()
                || service.slices.values().flat_map(|slice| &slice.endpoints).any(|one| one.serving);
            for frontend in &port.frontends {
                let (inside, outside) = if frontend.address.is_unspecified() {
                    (Scope::Cluster, scope(external))
                } else {
                    (scope(internal), scope(internal))
                };
                prop_assert_eq!(serves(frontend.inside), by_the_book(inside));
                prop_assert_eq!(serves(frontend.outside), by_the_book(outside));
                // Only where another node has an endpoint may a client be left waiting.
                if frontend.silent {
                    prop_assert!(anybody && external == TrafficPolicy::Local);
                }
            }
        }

        /// Whatever comes: no panic, and sets that can be looked up in.
        #[test]
        fn sets_are_in_order_and_tables_lead_into_them(
            endpoints in endpoints(),
            strategy in proptest::sample::select(model::Strategy::ALL.to_vec()),
        ) {
            let service = Service { strategy, ..web(endpoints) };
            for object in &planned(&service).objects {
                let Object::Service(port) = object else { continue };
                for (_, set) in port.sets() {
                    prop_assert!(set.backends.is_sorted_by(|one, two| one.socket < two.socket));
                    prop_assert_eq!(set.slots().count() == 0, set.backends.is_empty());
                }
            }
        }
    }
}
