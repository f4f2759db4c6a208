//! What the programs decide is what the plan's own evaluator says, for tables and packets at random; and
//! packets that are nonsense open nothing.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use bpf_abi::policy::event;
use model::Transport;
use plan::{ClassId, Isolation, PolicyTables, RangeKey, RuleId, RuleKey, SetId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::links::{At, Fate, Links};
use super::{egress, ingress};
use crate::craft::{ACK, Ends, Mac, SYN};
use crate::fixture::{ip, net};

const SCTP: u8 = 132;
/// Ports that rules are about, and that packets are for.
const PORTS: [u16; 6] = [0x1f90, 53, 80, 8080, 8081, 65535];
const HINTS: u64 =
    SetId::ANY_PEER | SetId::PEERS | SetId::EVERYTHING | SetId::PROTOCOLS | SetId::PORTS | SetId::RANGES;

/// Sets that are told apart by their upper halves alone, too.
fn sets() -> impl Strategy<Value = SetId> {
    prop_oneof![
        Just(SetId::FREE),
        (1..4_u64).prop_map(|set| SetId(set << 32 | HINTS)),
        // Whose rules, if it has any, aren't all to be found.
        (1..4_u64, 0..64_u64).prop_map(|(set, hints)| SetId(set << 40 | hints)),
    ]
}

fn known_sets() -> Vec<SetId> {
    (1..4).map(|set| SetId(set << 32 | HINTS)).collect()
}

fn classes() -> impl Strategy<Value = ClassId> {
    (0..4_u64).prop_map(|class| ClassId(class << 33))
}

fn protocols() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![0, 6, 17, SCTP])
}

fn tables(addresses: Vec<IpAddr>) -> impl Strategy<Value = PolicyTables> {
    let own: Vec<IpAddr> = addresses[..4].to_vec();
    let blocks = vec![
        "0.0.0.0/0",
        "10.244.0.0/16",
        "10.244.1.0/24",
        "::/0",
        "fd00:10:244::/48",
    ];
    let isolation = prop::collection::vec((sets(), sets()), own.len());
    let by_address = prop::collection::btree_map(prop::sample::select(addresses), classes(), 0..6);
    let by_block = prop::collection::btree_map(prop::sample::select(blocks), classes(), 0..4);
    let key = || (prop::sample::select(known_sets()), classes(), protocols());
    let ports = || prop::sample::select([&PORTS[..], &[0]].concat());
    let rules = prop::collection::vec((key(), ports(), 1..u64::MAX), 0..12);
    let ranges = prop::collection::vec((key(), ports(), 0..=16_u8, 1..u64::MAX), 0..4);
    (isolation, by_address, by_block, rules, ranges).prop_map(
        move |(isolation, classes, blocks, rules, ranges)| {
            let mut tables = PolicyTables {
                classes,
                ..PolicyTables::default()
            };
            for (address, (ingress, egress)) in own.iter().zip(isolation) {
                tables.isolation.insert(*address, Isolation { ingress, egress });
            }
            tables.blocks = blocks
                .into_iter()
                .map(|(text, class)| (net(text), class))
                .collect();
            for ((set, class, protocol), port, rule) in rules {
                // Ports are those of protocols that have some.
                let port = if protocol == 0 { 0 } else { port };
                let key = RuleKey {
                    set,
                    class,
                    protocol,
                    port,
                };
                tables.rules.insert(key, RuleId(rule));
            }
            for ((set, class, protocol), port, bits, rule) in ranges {
                let mask = u16::MAX.checked_shl(16 - u32::from(bits)).unwrap_or(0);
                let key = RangeKey {
                    set,
                    class,
                    protocol: if protocol == 0 { 6 } else { protocol },
                    port: port & mask,
                    bits,
                };
                tables.ranges.insert(key, RuleId(rule));
            }
            tables
        },
    )
}

/// A packet that begins a conversation, from a port that none has had.
fn beginning(ends: &Ends, [to, from]: [Mac; 2], transport: Transport, fresh: u16) -> Vec<u8> {
    let mut frame = match transport {
        Transport::Tcp(_) => ends.tcp(to, from, SYN, &[]),
        Transport::Udp(_) => ends.udp(to, from, b"data"),
        Transport::Icmp => ends.echo(to, from, b"data"),
        Transport::Sctp(_) => {
            let init = [&[0; 12][..], &[1, 0, 0, 20], &[0; 16]].concat();
            ends.frame(to, from, SCTP, 64, &init)
        }
    };
    let at = if ends.source.is_ipv6() { 14 + 40 } else { 14 + 20 };
    match transport.port() {
        Some((_, port)) => {
            frame[at..at + 2].copy_from_slice(&fresh.to_be_bytes());
            frame[at + 2..at + 4].copy_from_slice(&port.to_be_bytes());
        }
        None => frame[at + 4..at + 6].copy_from_slice(&fresh.to_be_bytes()),
    }
    frame
}

/// What is to become of it: who is asked, and what they say.
fn expected(tables: &PolicyTables, at: At, ends: &Ends, transport: Transport) -> bool {
    let isolation = |address: IpAddr| tables.isolation[&address];
    let allows = |set: SetId, peer: IpAddr| {
        set.is_free() || tables.allows(set, tables.class(peer), transport).is_some()
    };
    // A datagram gets to another pod of the node by the network stack, where it's asked again.
    let is_direct = !matches!(transport, Transport::Udp(_) | Transport::Sctp(_));
    match at {
        At::FromPod => {
            let here = tables.isolation.contains_key(&ends.destination) && is_direct;
            allows(isolation(ends.source).egress, ends.destination)
                && (!here || allows(isolation(ends.destination).ingress, ends.source))
        }
        At::ToPod => allows(isolation(ends.destination).ingress, ends.source),
        At::FromWire => !is_direct || allows(isolation(ends.destination).ingress, ends.source),
        At::ToPodFromNode => true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_decide_what_the_plan_says() {
    let links = Links::new(&[]).await;
    let pods = [0, 1, 2].map(|pod| links.cluster.pods[pod].addresses.clone());
    let others = [ip("192.0.2.9"), ip("2001:db8::9")];
    let addresses: Vec<IpAddr> = pods.iter().flatten().chain(&others).copied().collect();
    let packets = (
        prop::sample::select(vec![At::FromPod, At::ToPod, At::ToPodFromNode, At::FromWire]),
        0..4_usize,
        any::<bool>(),
        prop::sample::select(vec![
            Transport::Tcp(0),
            Transport::Udp(0),
            Transport::Sctp(0),
            Transport::Icmp,
        ]),
        prop::sample::select(PORTS.to_vec()),
    );
    let cases = (tables(addresses), prop::collection::vec(packets, 24));
    let (fresh, denied) = (Cell::new(1_000_u16), Cell::new(0));
    let events = RefCell::new(links.cluster.kernels[0].policy_events().unwrap().unwrap());
    let config = Config {
        cases: 60,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&cases, |(tables, packets)| {
            links.cluster.kernels[0].apply_policies(&tables).unwrap();
            let again = links.cluster.kernels[0].apply_policies(&tables).unwrap();
            prop_assert_eq!(again, 0, "what it holds is what was written");
            for (at, other, v6, transport, port) in packets {
                // Only pods of other nodes come by the uplink without being translated.
                let other = match at {
                    At::FromWire => 2,
                    _ => 1 + other % 3,
                };
                let other = if other == 3 {
                    others[usize::from(v6)]
                } else {
                    links.cluster.at(other, v6)
                };
                let own = links.own(v6);
                let ends = match at {
                    At::FromPod => Ends::new(own, other),
                    _ => Ends::new(other, own),
                };
                let transport = transport.to_port(port);
                fresh.set(fresh.get().checked_add(1).unwrap_or(1_000));
                let frame = beginning(&ends, links.macs(at), transport, fresh.get());
                while events.borrow_mut().next_event().is_some() {}
                let fate = links.run(at, &frame);
                let wanted = expected(&tables, at, &ends, transport);
                prop_assert_eq!(
                    fate != Fate::Dropped,
                    wanted,
                    "{:?} {:?} {:?}",
                    at,
                    ends,
                    transport
                );
                prop_assert_ne!(fate, Fate::NoPacket);
                if fate == Fate::Dropped {
                    denied.set(denied.get() + 1);
                    // There are too many at once to be told all.
                    if let Some(told) = events.borrow_mut().next_event() {
                        prop_assert_eq!(told.kind, event::DROPPED);
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(denied.get() > 0);
}

/// Whatever a packet is, it doesn't get past policies that allow nothing, and no program falters.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_gets_nowhere_near_an_isolated_pod() {
    let links = Links::new(&[ingress(0, &[]), egress(0, &[])]).await;
    let mut packets = Vec::new();
    for at in [At::FromPod, At::ToPod, At::FromWire] {
        for v6 in [false, true] {
            let (own, other) = (links.own(v6), links.cluster.at(2, v6));
            let ends = match at {
                At::FromPod => Ends::new(own, other),
                _ => Ends::new(other, own),
            };
            let [to, from] = links.macs(at);
            packets.push((at, ends.tcp(to, from, SYN, b"data")));
            packets.push((at, ends.tcp(to, from, ACK, b"data")));
            packets.push((at, ends.udp(to, from, b"data")));
            packets.push((at, ends.echo(to, from, b"data")));
            let kind = if v6 { 1 } else { 3 };
            let inner = &ends.udp(to, from, b"data")[14..];
            let error = [&[kind, 1, 0, 0, 0, 0, 0, 0][..], inner].concat();
            packets.push((at, ends.icmp(to, from, 64, &error)));
        }
    }
    let bends = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let cases = (
        prop::sample::select(packets),
        bends,
        any::<prop::sample::Index>(),
        any::<bool>(),
    );
    let config = Config {
        cases: 4_000,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&cases, |((at, mut frame), bends, cut, is_cut)| {
            // The addresses stay: without them it's no packet of the pod's.
            let header = if frame[12] == 0x86 { 14 + 40 } else { 14 + 20 };
            for (place, byte) in bends {
                let place = place.index(frame.len());
                let in_addresses = match header {
                    34 => 26..34,
                    _ => 22..54,
                };
                if place >= 14 && !in_addresses.contains(&place) {
                    frame[place] = byte;
                }
            }
            if is_cut {
                let length = header + cut.index(frame.len() - header + 1);
                frame.truncate(length);
            }
            let fate = links.run(at, &frame);
            match at {
                // By the network stack it's asked where it gets to the pod.
                At::FromWire => prop_assert_ne!(fate, Fate::Direct),
                // What isn't IP by its version the network stack doesn't take.
                _ if frame[14] >> 4 != if header == 34 { 4 } else { 6 } => {}
                _ => prop_assert!(
                    matches!(fate, Fate::Dropped | Fate::NoPacket),
                    "{:?} {:?} {:02x?}",
                    at,
                    fate,
                    frame
                ),
            }
            Ok(())
        })
        .unwrap();
}
