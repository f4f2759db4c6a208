//! What sockets' programs don't see is given a backend on the links: packets run by the kernel one at a
//! time (`BPF_PROG_TEST_RUN`), as if they had come by a link of a real node.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aya::TestRun;
use aya::programs::tc::SchedClassifier;
use bpf_abi::service::frontend::{INSIDE_SILENT, KEEP_SOURCE, OUTSIDE_SILENT, RANGES};
use bpf_abi::service::mark::{ID, MASQUERADE, SERVICE};
use bpf_abi::service::{SlotKey, strategy};
use bpf_abi::{NODE_MAC, program};
use kernel::services::Services;
use model::Backend;

use super::fixture::{TCP, UDP, put, put_as, vip};
use crate::craft::{ACK, Ends, Mac, SYN, sum};
use crate::fixture::{Cluster, Stack, ip};
use crate::upgrade::versions;

const SCTP: u8 = 132;
/// The port that crafted packets are for.
const PORT: u16 = 8080;
const STRANGER: [&str; 2] = ["192.0.2.9", "2001:db8::9"];
const THEIR_MAC: Mac = [2, 0, 0, 0, 0, 9];

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// On to the network stack, with this mark.
    Stack(u32),
    Dropped,
    /// Back by the link, as this.
    Back(Vec<u8>),
    /// The kernel made no packet of it.
    NoPacket,
}

struct Links {
    cluster: Cluster,
    maps: Arc<Services>,
    from_pod: SchedClassifier,
    from_wire: SchedClassifier,
    /// Index and Ethernet address of the pod's link, and of the uplink.
    pod: (u32, Mac),
    uplink: (u32, Mac),
}

impl Links {
    async fn new() -> Links {
        let cluster = Cluster::running(2, 1, Stack::Dual).await;
        let node = &cluster.lan.nodes[0].netns;
        let pins = &versions(&node.pins())[0];
        let open = |name| SchedClassifier::from_pin(pins.join(name)).unwrap();
        let netlink = node.netlink();
        let link = netlink.link_index(&cluster.pods[0].id.host_link()).await.unwrap();
        let inside = cluster.pods[0]
            .netns
            .netlink()
            .link("eth0")
            .await
            .unwrap()
            .unwrap();
        let uplink = netlink.link("eth0").await.unwrap().unwrap();
        let (from_pod, from_wire) = (open(program::FROM_POD), open(program::FROM_WIRE));
        let maps = cluster.kernels[0].services().unwrap();
        Links {
            maps,
            from_pod,
            from_wire,
            pod: (link, inside.address.unwrap().0),
            uplink: (uplink.index, uplink.address.unwrap().0),
            cluster,
        }
    }

    fn run(&self, program: &SchedClassifier, link: u32, frame: &[u8]) -> Fate {
        let mut context = [0_u8; 192];
        context[40..44].copy_from_slice(&link.to_ne_bytes());
        let (mut data, mut after) = (vec![0; frame.len() + 64], [0_u8; 192]);
        let run = || {
            program.test_run(aya::TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut data),
                ctx_in: Some(&context),
                ctx_out: Some(&mut after),
                ..aya::TestRunOptions::new()
            })
        };
        let Ok(result) = self.cluster.lan.nodes[0].netns.within(run) else {
            return Fate::NoPacket;
        };
        data.truncate(result.data_size_out as usize);
        match result.return_value.cast_signed() {
            -1 => {
                assert_eq!(data, frame, "what goes on is as it was");
                Fate::Stack(u32::from_ne_bytes(after[8..12].try_into().unwrap()))
            }
            2 => Fate::Dropped,
            7 => Fate::Back(data),
            other => panic!("{other} for {frame:02x?}"),
        }
    }

    /// A packet of the pod's.
    fn sent(&self, frame: &[u8]) -> Fate {
        self.run(&self.from_pod, self.pod.0, frame)
    }

    /// A packet that comes by the uplink.
    fn came(&self, frame: &[u8]) -> Fate {
        self.run(&self.from_wire, self.uplink.0, frame)
    }

    fn pod_to(&self, to: IpAddr) -> Ends {
        let own = self.cluster.pods[0].addresses[usize::from(to.is_ipv6())];
        Ends::new(own, to)
    }
}

/// What begins a conversation, and each datagram.
fn beginnings(ends: Ends, to: Mac, from: Mac) -> [(u8, Vec<u8>); 3] {
    let [a, b] = PORT.to_be_bytes();
    let init = [&[0x5b, 0xa1, a, b][..], &[0; 8], &[1, 0, 0, 20], &[0; 16]].concat();
    [
        (TCP, ends.tcp(to, from, SYN, &[])),
        (UDP, ends.udp(to, from, b"x")),
        (SCTP, ends.frame(to, from, SCTP, 64, &init)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_gets_a_backend_and_what_goes_on_gets_none() {
    let links = Links::new().await;
    for v6 in [false, true] {
        let at = vip(v6, PORT);
        let elsewhere = SocketAddr::new(links.cluster.pods[1].addresses[usize::from(v6)], 80);
        let ends = links.pod_to(at.ip());
        for (protocol, frame) in beginnings(ends, NODE_MAC, links.pod.1) {
            assert_eq!(links.sent(&frame), Fate::Stack(0), "no Service's");
            let service = put(&links.maps, at, protocol, &[elsewhere]);
            assert_eq!(
                links.sent(&frame),
                Fate::Stack(SERVICE | service.ids[0]),
                "{protocol}"
            );
        }
        let later = ends.tcp(NODE_MAC, links.pod.1, ACK, b"x");
        assert_eq!(links.sent(&later), Fate::Stack(0), "conntrack knows it");
        // A lie stays one.
        let lie = Ends::new(ip(STRANGER[usize::from(v6)]), at.ip()).tcp(NODE_MAC, links.pod.1, SYN, &[]);
        assert_eq!(links.sent(&lie), Fate::Dropped);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_on_a_link_is_counted_where_fewer_are_better() {
    let links = Links::new().await;
    for v6 in [false, true] {
        let at = vip(v6, PORT);
        let other = links.cluster.pods[1].addresses[usize::from(v6)];
        let backends = [80, 81].map(|port| SocketAddr::new(other, port));
        let syn = links.pod_to(at.ip()).tcp(NODE_MAC, links.pod.1, SYN, &[]);
        let service = put_as(&links.maps, at, TCP, &backends, |frontend| {
            frontend.strategy = strategy::LEAST_CONNECTIONS;
        });
        let picks = |count: usize| {
            let mut picks = [0; 2];
            for _ in 0..count {
                let Fate::Stack(mark) = links.sent(&syn) else {
                    panic!("it is given a backend")
                };
                picks[usize::from(mark & ID == service.ids[1])] += 1;
            }
            picks
        };
        assert_eq!(picks(20), [10, 10], "two choices among two are all of them");
        let counts: BTreeMap<u32, u64> = links.maps.translated().unwrap().into_iter().collect();
        assert_eq!(
            service.ids.iter().map(|id| counts[id]).collect::<Vec<_>>(),
            [10, 10]
        );
        // The other Services' aren't.
        put(&links.maps, at, TCP, &backends);
        picks(5);
        links.maps.forget_loads(|_| true).unwrap();
        assert!(links.maps.translated().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_kept_unless_the_answer_would_get_lost() {
    let links = Links::new().await;
    for v6 in [false, true] {
        let at = vip(v6, PORT);
        let own = links.cluster.pods[0].addresses[usize::from(v6)];
        let other = links.cluster.pods[1].addresses[usize::from(v6)];
        let put = |backend: IpAddr, local, flags| {
            let socket = SocketAddr::new(backend, 80);
            let service = put_as(&links.maps, at, TCP, &[socket], |frontend| frontend.flags = flags);
            links
                .maps
                .put_backends(&[(service.ids[0], Backend { socket, local })])
                .unwrap();
            SERVICE | service.ids[0]
        };
        let mine = links.pod_to(at.ip()).tcp(NODE_MAC, links.pod.1, SYN, &[]);
        let from = |source| Ends::new(source, at.ip()).tcp(links.uplink.1, THEIR_MAC, SYN, &[]);
        let (stranger, pod) = (from(ip(STRANGER[usize::from(v6)])), from(other));
        let wish = put(own, true, 0);
        assert_eq!(links.sent(&mine), Fate::Stack(wish | MASQUERADE), "to itself");
        assert_eq!(links.came(&stranger), Fate::Stack(wish));
        assert_eq!(links.came(&pod), Fate::Stack(wish));
        let wish = put(other, false, 0);
        assert_eq!(links.sent(&mine), Fate::Stack(wish));
        assert_eq!(links.came(&stranger), Fate::Stack(wish | MASQUERADE));
        assert_eq!(links.came(&pod), Fate::Stack(wish | MASQUERADE));
        let wish = put(other, false, KEEP_SOURCE);
        assert_eq!(links.came(&stranger), Fate::Stack(wish));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_decides_what_there_is_to_choose_from() {
    let links = Links::new().await;
    for v6 in [false, true] {
        let at = vip(v6, PORT);
        let stranger = ip(STRANGER[usize::from(v6)]);
        let other = links.cluster.pods[1].addresses[usize::from(v6)];
        let neighbour = links.cluster.lan.nodes[1].addresses()[usize::from(v6)];
        let mine = links.pod_to(at.ip()).tcp(NODE_MAC, links.pod.1, SYN, &[]);
        let from = |source| Ends::new(source, at.ip()).tcp(links.uplink.1, THEIR_MAC, SYN, &[]);
        let inside = [from(other), from(neighbour)];
        let backend = [SocketAddr::new(other, 80)];
        let put =
            |change: &dyn Fn(&mut bpf_abi::service::Frontend)| put_as(&links.maps, at, TCP, &backend, change);
        put(&|frontend| frontend.inside.slots = 0);
        assert_eq!(links.sent(&mine), Fate::Stack(SERVICE));
        assert!(
            inside
                .iter()
                .all(|frame| links.came(frame) == Fate::Stack(SERVICE))
        );
        assert!(matches!(links.came(&from(stranger)), Fate::Stack(mark) if mark & ID != 0));
        put(&|frontend| (frontend.inside.slots, frontend.flags) = (0, INSIDE_SILENT));
        assert_eq!(links.sent(&mine), Fate::Dropped);
        assert!(inside.iter().all(|frame| links.came(frame) == Fate::Dropped));
        put(&|frontend| frontend.outside.slots = 0);
        assert_eq!(links.came(&from(stranger)), Fate::Stack(SERVICE));
        assert!(
            inside
                .iter()
                .all(|frame| links.came(frame) != Fate::Stack(SERVICE))
        );
        put(&|frontend| (frontend.outside.slots, frontend.flags) = (0, OUTSIDE_SILENT));
        assert_eq!(links.came(&from(stranger)), Fate::Dropped);
        let service = put(&|frontend| frontend.flags = RANGES);
        assert_eq!(links.came(&from(stranger)), Fate::Dropped);
        links.maps.put_range(service.set, stranger.into()).unwrap();
        assert!(matches!(links.came(&from(stranger)), Fate::Stack(mark) if mark & ID != 0));
        assert_eq!(links.sent(&mine), Fate::Dropped);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_ports_are_its_own() {
    let links = Links::new().await;
    for v6 in [false, true] {
        let any: IpAddr = if v6 { [0_u16; 8].into() } else { [0; 4].into() };
        let backend = SocketAddr::new(links.cluster.pods[0].addresses[usize::from(v6)], 80);
        let service = put(&links.maps, SocketAddr::new(any, PORT), TCP, &[backend]);
        let stranger = ip(STRANGER[usize::from(v6)]);
        for (node, wanted) in [(0, SERVICE | service.ids[0]), (1, 0)] {
            let to = links.cluster.lan.nodes[node].addresses()[usize::from(v6)];
            let frame = Ends::new(stranger, to).tcp(links.uplink.1, THEIR_MAC, SYN, &[]);
            assert_eq!(links.came(&frame), Fate::Stack(wanted), "node {node}");
        }
        let nowhere = Ends::new(stranger, any).tcp(links.uplink.1, THEIR_MAC, SYN, &[]);
        assert_ne!(links.came(&nowhere), Fate::Stack(SERVICE | service.ids[0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_of_datagrams_keeps_its_backend() {
    let links = Links::new().await;
    for v6 in [false, true] {
        let at = vip(v6, PORT);
        let address = links.cluster.pods[1].addresses[usize::from(v6)];
        let backends: Vec<SocketAddr> = (1..=8).map(|port| SocketAddr::new(address, port)).collect();
        let service = put_as(&links.maps, at, UDP, &backends, |frontend| {
            frontend.strategy = strategy::ROUND_ROBIN;
        });
        let frame = links.pod_to(at.ip()).udp(NODE_MAC, links.pod.1, b"x");
        let first = links.sent(&frame);
        assert_eq!(first, Fate::Stack(SERVICE | service.ids[0]));
        assert_eq!(links.sent(&frame), first);
        links.maps.remove_backends(!v6, &service.ids[..1]).unwrap();
        assert_eq!(links.sent(&frame), Fate::Stack(SERVICE | service.ids[1]));
        // One that only left the set is forgotten by whoever takes it out.
        let slot = SlotKey {
            set: service.set,
            slot: 1,
        };
        links.maps.put_slots(&[(slot, service.ids[2])]).unwrap();
        let gone = |called, id| called == service.at && id == service.ids[1];
        links.maps.forget_datagrams(gone).unwrap();
        assert_eq!(links.sent(&frame), Fate::Stack(SERVICE | service.ids[2]));
    }
}

/// Whether an echo's answer is what its request asks for, sums and all.
fn answers(request: &[u8], answer: &[u8], v6: bool) {
    let (header, addresses, address) = if v6 { (40, 22, 16) } else { (20, 26, 4) };
    assert_eq!(answer.len(), request.len());
    assert_eq!((&answer[..6], &answer[6..12]), (&request[6..12], &request[..6]));
    let (source, destination) = (addresses, addresses + address);
    assert_eq!(
        answer[source..destination],
        request[destination..destination + address]
    );
    assert_eq!(
        answer[destination..destination + address],
        request[source..destination]
    );
    let message = 14 + header;
    assert_eq!(answer[message], if v6 { 129 } else { 0 });
    assert_eq!(answer[message + 4..], request[message + 4..]);
    if v6 {
        let length = u32::try_from(answer.len() - message).unwrap().to_be_bytes();
        let pseudo = [&answer[addresses..addresses + 32], &length, &[0, 0, 0, 58]].concat();
        assert_eq!(sum(&[&pseudo, &answer[message..]]), 0);
    } else {
        assert_eq!(sum(&[&answer[14..message]]), 0);
        assert_eq!(sum(&[&answer[message..]]), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered_from_inside_and_outside_and_only_whole_ones() {
    let links = Links::new().await;
    for v6 in [false, true] {
        let at = vip(v6, 0);
        let backend = SocketAddr::new(links.cluster.pods[1].addresses[usize::from(v6)], 80);
        let icmp = if v6 { 58 } else { 1 };
        put(&links.maps, at, icmp, &[backend]);
        let mine = links.pod_to(at.ip()).echo(NODE_MAC, links.pod.1, b"ping");
        let stranger = Ends::new(ip(STRANGER[usize::from(v6)]), at.ip());
        let theirs = stranger.echo(links.uplink.1, THEIR_MAC, b"ping!");
        for (frame, fate) in [(&mine, links.sent(&mine)), (&theirs, links.came(&theirs))] {
            let Fate::Back(answer) = fate else {
                panic!("{fate:?}")
            };
            answers(frame, &answer, v6);
        }
        for length in 0..mine.len() {
            assert!(
                !matches!(links.sent(&mine[..length]), Fate::Back(_)),
                "cut to {length}"
            );
        }
        for at in 0..mine.len() {
            for bit in 0..8 {
                let mut bent = mine.clone();
                bent[at] ^= 1 << bit;
                if let Fate::Back(answer) = links.sent(&bent) {
                    assert_eq!(answer.len(), bent.len());
                    let kind = if v6 { 54 } else { 34 };
                    assert_eq!(bent[kind], if v6 { 128 } else { 8 }, "only requests are answered");
                }
            }
        }
        put(&links.maps, at, icmp, &[]);
        assert_eq!(links.sent(&mine), Fate::Stack(SERVICE));
    }
}
