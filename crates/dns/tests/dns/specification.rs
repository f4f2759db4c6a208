//! Kubernetes' DNS specification 1.1.0, row by row, and what every cluster's DNS does beside it.

use dns::record::{Kind, Service, Slice};
use dns::table::{Found, Table};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{self, A, AAAA, ANY, CNAME, MX, NS, PTR, SOA, SRV, TXT};
use proptest::prelude::*;
use rstest::rstest;

use crate::lab::{Dns, cluster, endpoint, ip, lines, named, port, query, table};

/// What the table says: `missing`, `elsewhere`, `alias NAME`, or data in order of text.
fn found(name: &str, kind: RecordType) -> String {
    found_in(&cluster(), name, kind)
}

fn found_in(table: &Table, name: &str, kind: RecordType) -> String {
    match table.lookup(&named(name), kind) {
        Found::Elsewhere => "elsewhere".to_owned(),
        Found::Missing(_) => "missing".to_owned(),
        Found::Alias(target) => format!("alias {target}"),
        Found::Here(here) => {
            let mut texts: Vec<String> = here
                .data
                .iter()
                .map(|data| format!("{} {data}", data.record_type()))
                .collect();
            texts.sort();
            texts.join(", ")
        }
    }
}

/// The API takes a while to know that a node is dead; its agents' neighbours have told by then.
#[rstest]
#[case(&["node-2"], A, "A 10.244.1.2")]
#[case(&["node-2"], AAAA, "AAAA fd00:10:244:1::2")]
#[case(&["node-2"], SRV, "SRV 0 100 5432 db-0.db.default.svc.cluster.local.")]
#[case(&["node-1"], A, "A 10.244.2.2, A 10.244.2.3")]
#[case(&["node-1"], AAAA, "AAAA fd00:10:244:1::2")]
#[case(&["node-1", "node-2"], A, "A 10.244.1.2, A 10.244.2.2, A 10.244.2.3")]
fn silent_nodes_pods_are_left_out_while_there_are_others(
    #[case] silent: &[&str],
    #[case] kind: RecordType,
    #[case] expected: &str,
) {
    let mut table = cluster();
    let before = table.serial();
    assert!(table.set_silent(silent.iter().map(ToString::to_string).collect()));
    assert_ne!(table.serial(), before);
    let name = "db.default.svc.cluster.local";
    assert_eq!(found_in(&table, name, kind), expected);
    // Whoever names one means it, and who wants all to be known gets all.
    for name in [
        "db-0.db.default.svc.cluster.local",
        "db-1.db.default.svc.cluster.local",
        "peers.default.svc.cluster.local",
        "2.2.244.10.in-addr.arpa",
    ] {
        for kind in [A, PTR] {
            assert_eq!(found_in(&table, name, kind), found(name, kind));
        }
    }
    table.set_silent([].into());
    assert_eq!(found_in(&table, name, kind), found(name, kind));
}

#[rstest]
// 2.2: the schema's version.
#[case("dns-version.cluster.local", TXT, "TXT 1.1.0")]
#[case("dns-version.cluster.local", A, "")]
// 2.3.1: a Service's addresses.
#[case("kubernetes.default.svc.cluster.local", A, "A 10.96.0.1")]
#[case("kubernetes.default.svc.cluster.local", AAAA, "AAAA fd00:10:96::1")]
#[case("KUBERNETES.Default.SVC.cluster.LOCAL", A, "A 10.96.0.1")]
#[case("only-v4.default.svc.cluster.local", AAAA, "")]
#[case("kubernetes.default.svc.cluster.local", MX, "")]
#[case("nobody.default.svc.cluster.local", A, "missing")]
#[case("kubernetes.nowhere.svc.cluster.local", A, "missing")]
// 2.3.2: its named ports.
#[case(
    "_https._tcp.kubernetes.default.svc.cluster.local",
    SRV,
    "SRV 0 100 443 kubernetes.default.svc.cluster.local."
)]
#[case(
    "_HTTPS._TCP.kubernetes.default.svc.cluster.local",
    SRV,
    "SRV 0 100 443 kubernetes.default.svc.cluster.local."
)]
#[case("_https._tcp.kubernetes.default.svc.cluster.local", A, "")]
#[case("_https._udp.kubernetes.default.svc.cluster.local", SRV, "missing")]
#[case("_._tcp.kubernetes.default.svc.cluster.local", SRV, "missing")]
#[case("https._tcp.kubernetes.default.svc.cluster.local", SRV, "missing")]
#[case("_tcp.kubernetes.default.svc.cluster.local", SRV, "")]
#[case("_udp.kubernetes.default.svc.cluster.local", SRV, "missing")]
#[case(
    "_dns._udp.only-v4.default.svc.cluster.local",
    SRV,
    "SRV 0 100 53 only-v4.default.svc.cluster.local."
)]
#[case(
    "kubernetes.default.svc.cluster.local",
    SRV,
    "SRV 0 100 443 kubernetes.default.svc.cluster.local., SRV 0 100 80 kubernetes.default.svc.cluster.local."
)]
// 2.3.3: and back.
#[case("1.0.96.10.in-addr.arpa", PTR, "PTR kubernetes.default.svc.cluster.local.")]
#[case(
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa",
    PTR,
    "PTR kubernetes.default.svc.cluster.local."
)]
#[case("1.0.96.10.in-addr.arpa", A, "")]
#[case("99.0.96.10.in-addr.arpa", PTR, "missing")]
#[case("1.2.0.192.in-addr.arpa", PTR, "elsewhere")]
#[case("96.10.in-addr.arpa", PTR, "elsewhere")]
// 2.4.1: a headless Service's ready endpoints, and each by its hostname.
#[case("db.default.svc.cluster.local", A, "A 10.244.1.2, A 10.244.2.2, A 10.244.2.3")]
#[case("db.default.svc.cluster.local", AAAA, "AAAA fd00:10:244:1::2")]
#[case("db-0.db.default.svc.cluster.local", A, "A 10.244.1.2")]
#[case("db-0.db.default.svc.cluster.local", AAAA, "AAAA fd00:10:244:1::2")]
#[case("DB-1.db.default.svc.cluster.local", A, "A 10.244.2.2")]
#[case("db-1.db.default.svc.cluster.local", AAAA, "")]
#[case("10-244-2-3.db.default.svc.cluster.local", A, "A 10.244.2.3")]
#[case("10-244-1-2.db.default.svc.cluster.local", A, "missing")]
#[case("db-2.db.default.svc.cluster.local", A, "missing")]
#[case("peers.default.svc.cluster.local", A, "A 10.244.1.7")]
#[case("peer-0.peers.default.svc.cluster.local", A, "A 10.244.1.7")]
#[case("idle.default.svc.cluster.local", A, "missing")]
#[case("x.kubernetes.default.svc.cluster.local", A, "missing")]
#[case("172-30-0-2.kubernetes.default.svc.cluster.local", A, "missing")]
#[case("a.db-0.db.default.svc.cluster.local", A, "missing")]
// 2.4.2: their named ports.
#[case(
    "_sql._tcp.db.default.svc.cluster.local",
    SRV,
    "SRV 0 100 5432 10-244-2-3.db.default.svc.cluster.local., SRV 0 100 5432 db-0.db.default.svc.cluster.local., \
     SRV 0 100 5432 db-1.db.default.svc.cluster.local."
)]
#[case("_tcp.db.default.svc.cluster.local", A, "")]
#[case("_web._tcp.db.default.svc.cluster.local", SRV, "missing")]
// 2.4.3: and back.
#[case("2.1.244.10.in-addr.arpa", PTR, "PTR db-0.db.default.svc.cluster.local.")]
#[case(
    "3.2.244.10.in-addr.arpa",
    PTR,
    "PTR 10-244-2-3.db.default.svc.cluster.local."
)]
#[case("9.2.244.10.in-addr.arpa", PTR, "missing")]
#[case("2.0.30.172.in-addr.arpa", PTR, "elsewhere")]
// 2.5: external names, whatever is asked for.
#[case("outside.default.svc.cluster.local", A, "alias www.example.com.")]
#[case("outside.default.svc.cluster.local", CNAME, "alias www.example.com.")]
#[case("x.outside.default.svc.cluster.local", A, "missing")]
#[case("address.default.svc.cluster.local", A, "")]
// 2.6: pods by address.
#[case("10-244-1-2.default.pod.cluster.local", A, "A 10.244.1.2")]
#[case("fd00-10-244-1--9.default.pod.cluster.local", AAAA, "AAAA fd00:10:244:1::9")]
#[case("10-244-1-2.default.pod.cluster.local", AAAA, "")]
#[case("172-30-0-11.default.pod.cluster.local", A, "A 172.30.0.11")]
#[case("192-0-2-1.default.pod.cluster.local", A, "missing")]
#[case("10-244-1-2.nowhere.pod.cluster.local", A, "missing")]
#[case("web.default.pod.cluster.local", A, "missing")]
#[case("x.10-244-1-2.default.pod.cluster.local", A, "missing")]
// Nodes.
#[case("node-1.nodes.cluster.local", A, "A 172.30.0.11")]
#[case("node-1.nodes.cluster.local", AAAA, "AAAA fd00:172:30::11")]
#[case("ip-10-0-0-2.ec2.internal.nodes.cluster.local", A, "A 172.30.0.12")]
#[case("ec2.internal.nodes.cluster.local", A, "")]
#[case("node-9.nodes.cluster.local", A, "missing")]
#[case("11.0.30.172.in-addr.arpa", PTR, "PTR node-1.nodes.cluster.local.")]
// Names that only have names below them.
#[case("svc.cluster.local", A, "")]
#[case("pod.cluster.local", A, "")]
#[case("nodes.cluster.local", A, "")]
#[case("default.svc.cluster.local", A, "")]
#[case("empty.svc.cluster.local", A, "")]
#[case("empty.pod.cluster.local", A, "")]
#[case("nowhere.svc.cluster.local", A, "missing")]
#[case("other.cluster.local", A, "missing")]
// The domain itself.
#[case("cluster.local", NS, "NS ns.dns.cluster.local.")]
#[case("ns.dns.cluster.local", A, "A 10.96.0.10")]
#[case("ns.dns.cluster.local", AAAA, "AAAA fd00:10:96::a")]
#[case("dns.cluster.local", A, "")]
#[case("cluster.local", A, "")]
#[case(
    "cluster.local",
    SOA,
    "SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 5"
)]
// Everything of a name.
#[case(
    "only-v4.default.svc.cluster.local",
    ANY,
    "A 10.96.0.7, SRV 0 100 53 only-v4.default.svc.cluster.local."
)]
// Others' names.
#[case("example.com", A, "elsewhere")]
#[case("acluster.local", A, "elsewhere")]
#[case("local", A, "elsewhere")]
#[case(".", NS, "elsewhere")]
fn row_by_row(#[case] name: &str, #[case] kind: RecordType, #[case] expected: &str) {
    let mut text = found(name, kind);
    if kind == SOA {
        let words: Vec<&str> = text
            .split(' ')
            .enumerate()
            .map(|(at, word)| if at == 3 { "SERIAL" } else { word })
            .collect();
        text = words.join(" ");
    }
    assert_eq!(text, expected, "{name} {kind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_are_told() {
    let dns = Dns::start(&[]);
    let reply = dns.ask("Kubernetes.DEFAULT.svc.cluster.local", A).await;
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
    let record = &reply.answers[0];
    assert_eq!(
        record.name.to_ascii(),
        "Kubernetes.DEFAULT.svc.cluster.local.",
        "spelt as it was asked"
    );
    assert_eq!(record.ttl, 5);
    assert!(reply.authorities.is_empty());

    let reply = dns.ask("_sql._tcp.db.default.svc.cluster.local", SRV).await;
    assert_eq!(
        lines(&reply.additionals),
        [
            "10-244-2-3.db.default.svc.cluster.local. A 10.244.2.3",
            "db-0.db.default.svc.cluster.local. A 10.244.1.2",
            "db-0.db.default.svc.cluster.local. AAAA fd00:10:244:1::2",
            "db-1.db.default.svc.cluster.local. A 10.244.2.2",
        ]
    );

    // There is the name, but no such record; and there is no such name: who says so is told with it.
    for (name, code) in [
        ("only-v4", ResponseCode::NoError),
        ("nobody", ResponseCode::NXDomain),
    ] {
        let reply = dns.ask(&format!("{name}.default.svc.cluster.local"), AAAA).await;
        assert_eq!(reply.metadata.response_code, code, "{name}");
        assert!(reply.answers.is_empty() && reply.metadata.authoritative);
        let [soa] = reply.authorities.as_slice() else {
            panic!("{reply}")
        };
        assert_eq!(
            (soa.name.to_ascii(), soa.record_type(), soa.ttl),
            ("cluster.local.".to_owned(), SOA, 5)
        );
    }
    let reply = dns.ask("99.0.96.10.in-addr.arpa", PTR).await;
    assert_eq!(reply.authorities[0].name.to_ascii(), "96.10.in-addr.arpa.");

    let reply = dns.ask("inside.default.svc.cluster.local", A).await;
    assert_eq!(
        lines(&reply.answers),
        [
            "inside.default.svc.cluster.local. CNAME kubernetes.default.svc.cluster.local.",
            "kubernetes.default.svc.cluster.local. A 10.96.0.1",
        ]
    );
    let reply = dns.ask("circle.default.svc.cluster.local", A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    let reply = dns.ask("localhost", A).await;
    assert_eq!(lines(&reply.answers), ["localhost. A 127.0.0.1"]);
    let mut chaos = query("version.bind", TXT);
    chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    assert_eq!(
        dns.send(chaos).await.metadata.response_code,
        ResponseCode::Refused
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_told_in_turn() {
    let dns = Dns::start(&[]);
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let reply = dns.ask("db.default.svc.cluster.local", A).await;
        first.insert(reply.answers[0].data.to_string());
    }
    assert_eq!(first.len(), 3, "most clients take the first");
}

/// As simple as can be, written from the specification: every record there is.
fn naive(services: &[(String, Service)], slices: &[(String, Slice)]) -> Vec<(String, String)> {
    let mut records = Vec::new();
    for (name, service) in services {
        let base = format!("{name}.ns.svc.cluster.local.");
        match &service.kind {
            Kind::Cluster(addresses) => {
                for address in addresses {
                    records.push((base.clone(), address.to_string()));
                }
                for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
                    records.push((
                        format!("_{}._{}.{base}", port.name, port.protocol),
                        format!("0 100 {} {base}", port.number),
                    ));
                }
            }
            Kind::Headless { unready } => {
                let own = slices.iter().filter(|(_, slice)| slice.service == *name);
                for (_, slice) in own {
                    for endpoint in slice
                        .endpoints
                        .iter()
                        .filter(|endpoint| endpoint.ready || *unready)
                    {
                        let host = format!("{}.{base}", endpoint.label());
                        records.push((base.clone(), endpoint.address.to_string()));
                        records.push((host.clone(), endpoint.address.to_string()));
                        for port in slice.ports.iter().filter(|port| !port.name.is_empty()) {
                            records.push((
                                format!("_{}._{}.{base}", port.name, port.protocol),
                                format!("0 100 {} {host}", port.number),
                            ));
                        }
                    }
                }
            }
            Kind::External(_) => {}
        }
    }
    records.sort();
    records.dedup();
    records
}

fn services() -> impl Strategy<Value = Vec<(String, Service)>> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let ports = prop::collection::vec(ports(), 0..3);
    let kind = prop_oneof![
        (1..20u8, 1..20u8).prop_map(|(v4, v6)| Kind::Cluster(vec![
            ip(&format!("10.96.0.{v4}")),
            ip(&format!("fd00::{v6:x}"))
        ])),
        any::<bool>().prop_map(|unready| Kind::Headless { unready }),
        Just(Kind::External("example.com".to_owned())),
    ];
    let one = (name, kind, ports).prop_map(|(name, kind, ports)| (name.to_owned(), Service { kind, ports }));
    prop::collection::vec(one, 0..8)
}

fn ports() -> impl Strategy<Value = dns::record::Port> {
    (
        prop::sample::select(vec!["", "p", "q"]),
        prop::sample::select(vec!["tcp", "udp"]),
        1..5u16,
    )
        .prop_map(|(name, protocol, number)| port(name, protocol, number))
}

fn slices() -> impl Strategy<Value = Vec<(String, Slice)>> {
    let endpoint = (
        1..9u8,
        prop::option::of(prop::sample::select(vec!["h", "i"])),
        any::<bool>(),
    )
        .prop_map(|(number, hostname, ready)| endpoint(&format!("10.244.0.{number}"), hostname, ready));
    let one = (
        prop::sample::select(vec!["s", "t", "u"]),
        prop::sample::select(vec!["a", "b", "c"]),
        prop::collection::vec(endpoint, 0..4),
        prop::collection::vec(ports(), 0..3),
    );
    let one = one.prop_map(|(name, service, endpoints, ports)| {
        let service = service.to_owned();
        (
            name.to_owned(),
            Slice {
                service,
                endpoints,
                ports,
            },
        )
    });
    prop::collection::vec(one, 0..8)
}

/// The last of each name is what there is.
fn last<T: Clone>(list: &[(String, T)]) -> Vec<(String, T)> {
    let map: std::collections::BTreeMap<_, _> = list.iter().cloned().collect();
    map.into_iter().collect()
}

proptest! {
    #[test]
    fn the_table_says_what_a_naive_reading_says(
        services in services(),
        slices in slices(),
        gone in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "s", "t", "u"]), 0..3),
    ) {
        let mut table = table();
        let key = |name: &str| ("ns".to_owned(), name.to_owned());
        // In turn, so that each meets the other's changes.
        for index in 0..services.len().max(slices.len()) {
            if let Some((name, service)) = services.get(index) {
                table.put_service(key(name), service.clone());
            }
            if let Some((name, slice)) = slices.get(index) {
                table.put_slice(key(name), slice.clone());
            }
        }
        for name in &gone {
            table.remove_service(&key(name));
            table.remove_slice(&key(name));
        }
        let there = |name: &str| !gone.contains(&name);
        let services: Vec<_> = last(&services).into_iter().filter(|(name, _)| there(name)).collect();
        let slices: Vec<_> = last(&slices).into_iter().filter(|(name, _)| there(name)).collect();
        let expected = naive(&services, &slices);
        let mut restored = crate::lab::table();
        restored.restore(table.records());
        for table in [&table, &restored] {
            let mut names: Vec<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
            names.dedup();
            for name in names {
                let kinds = if name.starts_with('_') { vec![SRV] } else { vec![A, AAAA] };
                let mut data = Vec::new();
                for kind in kinds {
                    match table.lookup(&named(name), kind) {
                        Found::Here(here) => data.extend(here.data.iter().map(ToString::to_string)),
                        other => prop_assert!(false, "{name} {kind}: {other:?}"),
                    }
                }
                data.sort();
                let wanted: Vec<_> = expected.iter().filter(|(found, _)| found == name).map(|(_, data)| data.clone()).collect();
                prop_assert_eq!(data, wanted, "{}", name);
            }
            // And what leads back leads to a name that leads here.
            for (name, data) in expected.iter().filter(|(name, _)| !name.starts_with('_')) {
                let address = ip(data);
                let back = hickory_proto::rr::Name::from(address);
                if let Found::Here(here) = table.lookup(&back, PTR) {
                    for target in here.data {
                        let target = target.to_string();
                        prop_assert!(expected.contains(&(target.clone(), data.clone())), "{} -> {}", back, target);
                    }
                } else {
                    prop_assert!(false, "{name}: nothing leads back from {address}");
                }
            }
            for gone in ["a", "b", "c"].into_iter().filter(|name| !services.iter().any(|(found, _)| found == name)) {
                let missing = matches!(table.lookup(&named(&format!("{gone}.ns.svc.cluster.local")), A), Found::Missing(_));
                prop_assert!(missing, "{gone} isn't there");
            }
        }
    }
}
