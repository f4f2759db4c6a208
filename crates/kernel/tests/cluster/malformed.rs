//! Our programs on packets that are cut, bent or nonsense, run by the kernel one packet at a time
//! (`BPF_PROG_TEST_RUN`) as if they had come by a link of a real node.

use std::net::IpAddr;

use aya::TestRun;
use aya::programs::tc::SchedClassifier;
use bpf_abi::{MARK_UNTRANSLATED, NODE_MAC, program};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::craft::{ACK, ARP, Ends, IPV4, IPV6, Mac, SYN, arp, ethernet, sum};
use crate::fixture::{Cluster, Stack, ip};
use crate::upgrade::versions;

const ETHERNET: usize = 14;
const DATA: &[u8] = b"some data, not of a length that anything is a multiple of";

/// What a program decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Next,
    Drop,
    Redirect,
    /// The kernel made no packet of it.
    NoPacket,
}

/// The programs of a node, and where a pod's packets come in.
struct Programs {
    programs: [SchedClassifier; 4],
    /// The node's ends of the links of the pods.
    pods: [u32; 2],
    uplink: u32,
    uplink_mac: Mac,
    macs: [Mac; 2],
    /// Of the node's own pods, and of one elsewhere.
    addresses: [[IpAddr; 2]; 3],
}

const FROM_POD: usize = 0;
const TO_POD: usize = 1;
const FROM_WIRE: usize = 2;
const TO_WIRE: usize = 3;

/// Runs `work` in the namespace of a node with two pods, whose conversations are all known.
async fn with_programs(work: impl FnOnce(&Programs) + Send) {
    let cluster = Cluster::running(2, 2, Stack::Dual).await;
    let node = &cluster.lan.nodes[0].netns;
    let netlink = node.netlink();
    let mut macs = [[0; 6]; 2];
    let mut pods = [0; 2];
    for pod in [0, 1] {
        let end = cluster.pods[pod]
            .netns
            .netlink()
            .link("eth0")
            .await
            .unwrap()
            .unwrap();
        macs[pod] = end.address.unwrap().0;
        pods[pod] = netlink
            .link_index(&cluster.pods[pod].id.host_link())
            .await
            .unwrap();
    }
    let uplink = netlink.link("eth0").await.unwrap().unwrap();
    let version = &versions(&node.pins())[0];
    let names = [
        program::FROM_POD,
        program::TO_POD,
        program::FROM_WIRE,
        program::TO_WIRE,
    ];
    let addresses = [0, 1, 2].map(|pod: usize| [0, 1].map(|v6: usize| cluster.pods[pod].addresses[v6]));
    let programs = Programs {
        programs: names.map(|name| SchedClassifier::from_pin(version.join(name)).unwrap()),
        pods,
        uplink: uplink.index,
        uplink_mac: uplink.address.unwrap().0,
        macs,
        addresses,
    };
    node.within(|| {
        programs.learn();
        work(&programs);
    });
}

impl Programs {
    /// Runs a program on a packet that is on a link; says what became of the packet, too.
    fn run(&self, program: usize, link: u32, mark: u32, frame: &[u8]) -> (Verdict, Vec<u8>) {
        // `struct __sk_buff`, of which all but a few words must be zero.
        let mut context = [0_u8; 192];
        context[8..12].copy_from_slice(&mark.to_ne_bytes());
        context[40..44].copy_from_slice(&link.to_ne_bytes());
        let mut out = vec![0; frame.len() + 64];
        let result = self.programs[program].test_run(aya::TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..aya::TestRunOptions::new()
        });
        match result {
            Ok(result) => {
                out.truncate(result.data_size_out as usize);
                let verdict = match result.return_value.cast_signed() {
                    -1 => Verdict::Next,
                    2 => Verdict::Drop,
                    7 => Verdict::Redirect,
                    other => panic!("program {program} returned {other} for {frame:02x?}"),
                };
                (verdict, out)
            }
            Err(error) => {
                // Newer kernels refuse, before any program sees it, what has no header behind Ethernet's.
                let least = match kind(frame) {
                    Some(IPV4) => ETHERNET + 20,
                    Some(IPV6) => ETHERNET + 40,
                    _ => ETHERNET + 1,
                };
                assert!(frame.len() < least, "{error} for {frame:02x?}");
                (Verdict::NoPacket, Vec::new())
            }
        }
    }

    /// Makes the conversations of the packets below known, as if the network stack had passed them.
    fn learn(&self) {
        for (_, frame) in self.sent_to(1) {
            self.run(TO_POD, self.pods[1], MARK_UNTRANSLATED, &frame);
        }
        for (_, frame) in self.sent_to(2) {
            self.run(TO_WIRE, self.uplink, MARK_UNTRANSLATED, &frame);
        }
        for (_, frame) in self.received() {
            self.run(TO_POD, self.pods[0], MARK_UNTRANSLATED, &frame);
        }
    }

    fn packets(&self, from: usize, to: usize, macs: [Mac; 2]) -> Vec<(&'static str, Vec<u8>)> {
        let mut packets = Vec::new();
        let [to_mac, from_mac] = macs;
        for v6 in [0, 1] {
            let ends = Ends::new(self.addresses[from][v6], self.addresses[to][v6]);
            packets.push(("a SYN", ends.tcp(to_mac, from_mac, SYN, &[])));
            packets.push(("a segment", ends.tcp(to_mac, from_mac, ACK, DATA)));
            packets.push(("a datagram", ends.udp(to_mac, from_mac, DATA)));
            packets.push(("an echo", ends.echo(to_mac, from_mac, DATA)));
        }
        packets
    }

    /// Whole packets of the first pod's that take the shortcut.
    fn sent_to(&self, to: usize) -> Vec<(&'static str, Vec<u8>)> {
        self.packets(0, to, [NODE_MAC, self.macs[0]])
    }

    /// Whole packets of another node's pod.
    fn received(&self) -> Vec<(&'static str, Vec<u8>)> {
        self.packets(2, 0, [self.uplink_mac, [2, 0, 0, 0, 0, 9]])
    }

    /// What the first pod may say to its neighbours.
    fn to_neighbours(&self) -> Vec<(&'static str, Vec<u8>)> {
        let [own4, own6] = self.addresses[0];
        let (own, gateway) = (self.macs[0], IpAddr::from(plan::GATEWAY_V4));
        let neighbour = |source, kind| Ends::new(source, ip("ff02::1")).neighbour(NODE_MAC, own, kind, own6);
        vec![
            ("ARP", ethernet(NODE_MAC, own, ARP, &arp(1, own4, own, gateway))),
            ("a solicitation", neighbour(own6, 135)),
            (
                "a solicitation before it has an address",
                neighbour(ip("::"), 135),
            ),
            ("an advertisement", neighbour(own6, 136)),
            ("an advertisement of the link's", neighbour(ip("fe80::1"), 136)),
        ]
    }

    fn all(&self) -> Vec<(&'static str, Vec<u8>)> {
        let all = [
            self.sent_to(1),
            self.sent_to(2),
            self.received(),
            self.to_neighbours(),
        ];
        all.concat()
    }

    /// Neither side redirects it.
    fn stays(&self, frame: &[u8], what: &str) {
        for (program, link) in [(FROM_POD, self.pods[0]), (FROM_WIRE, self.uplink)] {
            let (verdict, _) = self.run(program, link, 0, frame);
            assert_ne!(verdict, Verdict::Redirect, "{what}: {frame:02x?}");
        }
    }

    /// All programs see the packet; what they decide must fit what it is.
    fn check(&self, frame: &[u8]) {
        let (verdict, out) = self.run(FROM_POD, self.pods[0], 0, frame);
        let (own, what) = (self.is_own(frame), whole(frame));
        match verdict {
            Verdict::Redirect => {
                assert!(own && what, "redirected from a pod: {frame:02x?}");
                still_sums_up(frame, &out);
            }
            Verdict::Next => {
                assert!(
                    own || self.is_neighbours(frame),
                    "passed from a pod: {frame:02x?}"
                );
            }
            Verdict::Drop | Verdict::NoPacket => {}
        }
        let (verdict, out) = self.run(FROM_WIRE, self.uplink, 0, frame);
        let source = source(frame);
        let from_here = source.is_some_and(|source| self.addresses[..2].as_flattened().contains(&source));
        match verdict {
            Verdict::Redirect => {
                let other = source.is_some_and(|source| !from_here && in_other_block(source));
                assert!(other && what, "redirected from the wire: {frame:02x?}");
                still_sums_up(frame, &out);
            }
            Verdict::Next => assert!(!from_here, "passed from the wire: {frame:02x?}"),
            Verdict::Drop => assert!(from_here, "dropped from the wire: {frame:02x?}"),
            Verdict::NoPacket => {}
        }
        for (program, link) in [(TO_POD, self.pods[0]), (TO_WIRE, self.uplink)] {
            for mark in [0, MARK_UNTRANSLATED] {
                let (verdict, out) = self.run(program, link, mark, frame);
                if verdict != Verdict::NoPacket {
                    assert_eq!((verdict, out.as_slice()), (Verdict::Next, frame));
                }
            }
        }
    }

    /// Whether a packet's addresses are the first pod's.
    fn is_own(&self, frame: &[u8]) -> bool {
        let by_ethernet = frame.get(6..12) == Some(&self.macs[0]);
        let arp = || {
            let wanted = [&self.macs[0][..], &crate::craft::octets(self.addresses[0][0])].concat();
            kind(frame) == Some(ARP) && frame.get(22..32) == Some(&wanted)
        };
        by_ethernet && (source(frame).is_some_and(|source| self.addresses[0].contains(&source)) || arp())
    }

    /// Whether it's something that a host says by an address of the link's, or before it has one.
    fn is_neighbours(&self, frame: &[u8]) -> bool {
        let Some(IpAddr::V6(source)) = source(frame) else {
            return false;
        };
        let of_link = source.is_unicast_link_local() || source.is_unspecified();
        let message = |at: usize| frame.get(at).copied();
        let says = match message(20) {
            Some(58) => message(54),
            Some(0) if message(54) == Some(58) && message(55) == Some(0) => message(62),
            _ => None,
        };
        of_link && matches!(says, Some(131 | 132 | 133 | 135 | 136 | 143))
    }
}

fn kind(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?))
}

/// The source of what at least begins as an IP packet.
fn source(frame: &[u8]) -> Option<IpAddr> {
    let packet = &frame[ETHERNET.min(frame.len())..];
    match (kind(frame)?, packet.first()? >> 4) {
        (IPV4, 4) if packet.len() >= 20 => Some(<[u8; 4]>::try_from(&packet[12..16]).ok()?.into()),
        (IPV6, 6) if packet.len() >= 40 => Some(<[u8; 16]>::try_from(&packet[8..24]).ok()?.into()),
        _ => None,
    }
}

/// Whether an address is a pod's of the other node.
fn in_other_block(address: IpAddr) -> bool {
    ["10.244.1.0/24", "fd00:10:244:1::/64"]
        .iter()
        .any(|block| crate::fixture::net(block).contains(&address))
}

/// Whether a frame is a whole TCP, UDP or echo packet without anything that the network stack is
/// needed for. Written from the RFCs, not from the programs.
fn whole(frame: &[u8]) -> bool {
    let packet = &frame[ETHERNET.min(frame.len())..];
    let number = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let (header, length, protocol, hops) = match kind(frame) {
        Some(IPV4) if packet.len() >= 20 && packet[0] == 0x45 => {
            if number(6) & 0x3fff != 0 {
                return false;
            }
            (20, number(2), packet[9], packet[8])
        }
        Some(IPV6) if packet.len() >= 40 && packet[0] >> 4 == 6 => (40, 40 + number(4), packet[6], packet[7]),
        _ => return false,
    };
    if hops < 2 || length > packet.len() || length < header {
        return false;
    }
    let (rest, v6) = (&packet[header..length], header == 40);
    match protocol {
        6 => rest.len() >= 20 && (20..=rest.len()).contains(&(usize::from(rest[12] >> 4) * 4)),
        17 => rest.len() >= 8 && (8..=rest.len()).contains(&number(header + 4)),
        1 if !v6 => rest.len() >= 8 && matches!(rest[0], 0 | 8),
        58 if v6 => rest.len() >= 8 && matches!(rest[0], 128 | 129),
        _ => false,
    }
}

/// One hop is gone, and a header that was sound still is, one that wasn't still isn't.
fn still_sums_up(before: &[u8], after: &[u8]) {
    let hops = if kind(before) == Some(IPV4) { 22 } else { 21 };
    if kind(before) == Some(IPV4) {
        let sums = |frame: &[u8]| sum(&[&frame[14..34]]) == 0;
        assert_eq!(sums(before), sums(after), "{before:02x?} {after:02x?}");
    }
    assert_eq!(after[hops], before[hops] - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_packets_take_the_shortcut_and_neighbours_are_heard() {
    with_programs(|programs| {
        for (what, frame) in [programs.sent_to(1), programs.sent_to(2)].concat() {
            assert!(whole(&frame));
            programs.check(&frame);
            let (verdict, _) = programs.run(FROM_POD, programs.pods[0], 0, &frame);
            assert_eq!(verdict, Verdict::Redirect, "{what} {frame:02x?}");
            // The same on another pod's link, and on the wire, is a lie.
            let (verdict, _) = programs.run(FROM_POD, programs.pods[1], 0, &frame);
            assert_eq!(verdict, Verdict::Drop, "{what}");
        }
        for (what, frame) in programs.received() {
            programs.check(&frame);
            let (verdict, _) = programs.run(FROM_WIRE, programs.uplink, 0, &frame);
            assert_eq!(verdict, Verdict::Redirect, "{what} {frame:02x?}");
        }
        for (what, frame) in programs.to_neighbours() {
            programs.check(&frame);
            let (verdict, _) = programs.run(FROM_POD, programs.pods[0], 0, &frame);
            assert_eq!(verdict, Verdict::Next, "{what} {frame:02x?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_anywhere_is_never_redirected() {
    with_programs(|programs| {
        for (what, frame) in programs.all() {
            for length in 0..frame.len() {
                let cut = &frame[..length];
                programs.check(cut);
                programs.stays(cut, &format!("{what} cut to {length}"));
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bent_in_any_field_is_never_redirected() {
    with_programs(|programs| {
        for (what, frame) in programs.all() {
            // Each byte of the headers: lengths, options, fragments, versions, protocols, hops, kinds, sums.
            for at in 0..frame.len().min(74) {
                let flipped = (0..8).map(|bit| frame[at] ^ 1 << bit);
                for value in flipped.chain([0, 1, u8::MAX, frame[at].wrapping_sub(1)]) {
                    let mut bent = frame.clone();
                    bent[at] = value;
                    programs.check(&bent);
                }
            }
            if kind(&frame) == Some(IPV4) {
                for (at, value) in [
                    (14, 0x46),
                    (14, 0x44),
                    (20, 0x20),
                    (20, 0x1f),
                    (21, 1),
                    (22, 1),
                    (22, 0),
                    (17, 0),
                ] {
                    let mut bent = frame.clone();
                    bent[at] = value;
                    programs.stays(&bent, what);
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_the_network_stack_is_never_redirected() {
    with_programs(|programs| {
        for (what, frame) in programs
            .all()
            .into_iter()
            .filter(|(_, frame)| kind(frame) == Some(IPV6))
        {
            for chain in [
                &[0][..],
                &[43],
                &[44],
                &[60],
                &[135],
                &[139],
                &[0, 60, 43],
                &[60, 44],
                &[0, 0, 0, 0],
            ] {
                let mut payload = frame[54..].to_vec();
                let mut next = frame[20];
                for extension in chain.iter().rev() {
                    payload = [&[next, 0, 1, 4, 0, 0, 0, 0][..], &payload].concat();
                    next = *extension;
                }
                let mut packet = [&frame[..54], &payload].concat();
                packet[20] = next;
                packet[18..20].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
                programs.check(&packet);
                programs.stays(&packet, what);
            }
        }
        for (what, frame) in programs.all() {
            for tag in [[0x81, 0, 0, 5], [0x88, 0xa8, 0, 5], [0x81, 0, 0xe0, 0]] {
                let tagged = [&frame[..12], &tag, &frame[12..]].concat();
                let (verdict, _) = programs.run(FROM_POD, programs.pods[0], 0, &tagged);
                assert_eq!(verdict, Verdict::Drop, "{what}");
                programs.stays(&tagged, what);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_never_redirected_and_never_passes_for_somebody_else() {
    with_programs(|programs| {
        let config = Config {
            cases: 3000,
            failure_persistence: None,
            ..Config::default()
        };
        let all = programs.all();
        // Nonsense behind an Ethernet header that is right, and real packets with some bytes changed.
        let random = (0..3_usize, prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(kind, bytes)| ethernet(NODE_MAC, programs.macs[0], [IPV4, IPV6, ARP][kind], &bytes));
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
        let changed = (
            prop::sample::select(all),
            changes,
            prop::collection::vec(any::<u8>(), 0..40),
        )
            .prop_map(|((_, mut frame), changes, more)| {
                frame.extend(more);
                for (at, value) in changes {
                    let at = at.index(frame.len());
                    frame[at] = value;
                }
                frame
            });
        let anything = prop::collection::vec(any::<u8>(), 0..300);
        let frames = prop_oneof![2 => random, 4 => changed, 1 => anything];
        let outcome = TestRunner::new(config).run(&frames, |frame| {
            programs.check(&frame);
            Ok(())
        });
        outcome.unwrap();
    })
    .await;
}
