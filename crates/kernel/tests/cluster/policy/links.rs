//! Packets that no network stack here sends, or not on demand, run by the kernel one at a time
//! (`BPF_PROG_TEST_RUN`) as if they were on a link of a node whose pods are isolated.

use std::net::IpAddr;

use aya::TestRun;
use aya::programs::tc::SchedClassifier;
use bpf_abi::{NODE_MAC, program};
use model::{Policy, Protocol};
use rstest::rstest;

use super::{block, egress, from_pod, ingress, port, rule};
use crate::craft::{ACK, Ends, Mac, SYN, octets};
use crate::fixture::{Cluster, Stack, ip};
use crate::upgrade::versions;

const SCTP: u8 = 132;
const UDP: u8 = 17;
const THEIR_MAC: Mac = [2, 0, 0, 0, 0, 9];
const STRANGER: [&str; 2] = ["192.0.2.9", "2001:db8::9"];

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// On to the network stack, or from it to the pod.
    Next,
    Dropped,
    /// By the shortcut.
    Direct,
    /// The kernel made no packet of it.
    NoPacket,
}

/// Where a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// It comes from the first pod.
    FromPod,
    /// The network stack sends it to the first pod.
    ToPod,
    /// The same, but nobody else has sent it to the node.
    ToPodFromNode,
    /// It comes by the uplink.
    FromWire,
}

/// Two pods on one node, a third on another.
pub(super) struct Links {
    pub(super) cluster: Cluster,
    programs: [SchedClassifier; 3],
    /// Index and Ethernet address of the first pod's link, and of the uplink.
    pod: (u32, Mac),
    uplink: (u32, Mac),
}

impl Links {
    pub(super) async fn new(policies: &[Policy]) -> Links {
        let cluster = Cluster::running(2, 2, Stack::Dual).await;
        cluster.enforce(policies);
        let node = &cluster.lan.nodes[0].netns;
        let pins = &versions(&node.pins())[0];
        let open = |name| SchedClassifier::from_pin(pins.join(name)).unwrap();
        let netlink = node.netlink();
        let link = netlink.link_index(&cluster.pods[0].id.host_link()).await.unwrap();
        let pods = cluster.pods[0].netns.netlink();
        let inside = pods.link("eth0").await.unwrap().unwrap();
        let uplink = netlink.link("eth0").await.unwrap().unwrap();
        Links {
            programs: [program::FROM_POD, program::TO_POD, program::FROM_WIRE].map(open),
            pod: (link, inside.address.unwrap().0),
            uplink: (uplink.index, uplink.address.unwrap().0),
            cluster,
        }
    }

    /// Runs the program that sees a packet there.
    pub(super) fn run(&self, at: At, frame: &[u8]) -> Fate {
        let (program, link, from) = match at {
            At::FromPod => (0, self.pod.0, 0),
            At::ToPod => (1, self.pod.0, self.uplink.0),
            At::ToPodFromNode => (1, self.pod.0, 0),
            At::FromWire => (2, self.uplink.0, 0),
        };
        // `struct __sk_buff`, of which all but a few words must be zero.
        let mut context = [0_u8; 192];
        context[36..40].copy_from_slice(&from.to_ne_bytes());
        context[40..44].copy_from_slice(&link.to_ne_bytes());
        let mut out = vec![0; frame.len() + 64];
        let run = || {
            self.programs[program].test_run(aya::TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: Some(&context),
                ..aya::TestRunOptions::new()
            })
        };
        match self.cluster.lan.nodes[0].netns.within(run) {
            Ok(result) => match result.return_value.cast_signed() {
                -1 => Fate::Next,
                2 => Fate::Dropped,
                7 => Fate::Direct,
                other => panic!("{at:?} returned {other} for {frame:02x?}"),
            },
            Err(_) => Fate::NoPacket,
        }
    }

    /// Ethernet addresses, to and from, of packets there.
    pub(super) fn macs(&self, at: At) -> [Mac; 2] {
        match at {
            At::FromPod => [NODE_MAC, self.pod.1],
            At::FromWire => [self.uplink.1, THEIR_MAC],
            At::ToPod | At::ToPodFromNode => [self.pod.1, NODE_MAC],
        }
    }

    pub(super) fn own(&self, v6: bool) -> IpAddr {
        self.cluster.at(0, v6)
    }

    /// What somebody outside sends to the first pod, or it to them.
    fn with_stranger(&self, at: At, v6: bool, make: impl Fn(&Ends, Mac, Mac) -> Vec<u8>) -> Fate {
        let (own, stranger) = (self.own(v6), ip(STRANGER[usize::from(v6)]));
        let ends = match at {
            At::FromPod => Ends::new(own, stranger),
            _ => Ends::new(stranger, own),
        };
        let [to, from] = self.macs(at);
        self.run(at, &make(&ends, to, from))
    }
}

/// The other way's ports of [`Ends`]'s packets: the answer.
fn answer(mut frame: Vec<u8>, v6: bool) -> Vec<u8> {
    let at = if v6 { 14 + 40 } else { 14 + 20 };
    frame[at..at + 4].rotate_left(2);
    frame
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_node_itself_may_what_it_may_not_forward(#[values(false, true)] v6: bool) {
    let links = Links::new(&[ingress(0, &[]), egress(0, &[])]).await;
    let syn = |ends: &Ends, to, from| ends.tcp(to, from, SYN, &[]);
    assert_eq!(links.with_stranger(At::ToPod, v6, syn), Fate::Dropped);
    assert_eq!(links.with_stranger(At::ToPodFromNode, v6, syn), Fate::Next);
    // That is answered, and by nobody else's leave is anything let in.
    let reply = |ends: &Ends, to, from| answer(ends.tcp(to, from, SYN | ACK, &[]), v6);
    assert_eq!(links.with_stranger(At::FromPod, v6, reply), Fate::Next);
    assert_eq!(links.with_stranger(At::ToPod, v6, syn), Fate::Dropped);
    let segment = |ends: &Ends, to, from| ends.tcp(to, from, ACK, b"data");
    assert_eq!(links.with_stranger(At::ToPod, v6, segment), Fate::Dropped);
    assert_eq!(links.with_stranger(At::ToPodFromNode, v6, segment), Fate::Next);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn tcp_under_way_passes_if_either_side_may_have_begun_it(#[values(false, true)] v6: bool) {
    let anybody = block(if v6 { "::/0" } else { "0.0.0.0/0" }, &[]);
    let links = Links::new(&[ingress(0, &[]), egress(0, &[rule(&[anybody], &[])])]).await;
    let segment = |ends: &Ends, to, from| ends.tcp(to, from, ACK, b"data");
    assert_eq!(
        links.with_stranger(At::ToPod, v6, segment),
        Fate::Next,
        "as an answer"
    );
    // What begins is strict, whatever is known.
    let syn = |ends: &Ends, to, from| ends.tcp(to, from, SYN, &[]);
    assert_eq!(links.with_stranger(At::ToPod, v6, syn), Fate::Dropped);
    assert_eq!(links.with_stranger(At::FromPod, v6, syn), Fate::Next);
    let datagram = |ends: &Ends, to, from| ends.udp(to, from, b"data");
    assert_eq!(links.with_stranger(At::ToPod, v6, datagram), Fate::Dropped);
    let asked = |ends: &Ends, to, from| answer(ends.udp(to, from, b"data"), v6);
    assert_eq!(links.with_stranger(At::FromPod, v6, asked), Fate::Next);
    assert_eq!(
        links.with_stranger(At::ToPod, v6, datagram),
        Fate::Next,
        "an answer"
    );
    // When the pod may not ask any more, a late answer is no beginning.
    links.cluster.enforce(&[ingress(0, &[]), egress(0, &[])]);
    assert_eq!(links.with_stranger(At::ToPod, v6, datagram), Fate::Dropped);
    assert_eq!(links.with_stranger(At::ToPod, v6, segment), Fate::Dropped);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn datagrams_that_may_not_go_on_are_cut_in_both_directions(#[values(false, true)] v6: bool) {
    let anybody = block(if v6 { "::/0" } else { "0.0.0.0/0" }, &[]);
    // Only what comes is asked about; the pod may send whatever it likes.
    let links = Links::new(&[ingress(0, &[rule(&[anybody], &[])])]).await;
    let question = |ends: &Ends, to, from| ends.udp(to, from, b"data");
    let reply = |ends: &Ends, to, from| answer(ends.udp(to, from, b"data"), v6);
    assert_eq!(links.with_stranger(At::ToPod, v6, question), Fate::Next);
    assert_eq!(links.with_stranger(At::FromPod, v6, reply), Fate::Next);
    links.cluster.enforce(&[ingress(0, &[])]);
    // The answer that was on its way would otherwise begin the conversation anew.
    assert_eq!(links.with_stranger(At::FromPod, v6, reply), Fate::Dropped);
    assert_eq!(links.with_stranger(At::ToPod, v6, question), Fate::Dropped);
    assert_eq!(links.with_stranger(At::FromPod, v6, reply), Fate::Dropped);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sctp_is_as_tcp_is(#[values(false, true)] v6: bool) {
    let init = |chunk: u8| {
        move |ends: &Ends, to: Mac, from: Mac| {
            let start = [
                &[0x5b, 0xa1, 0x1f, 0x90][..],
                &[0; 8],
                &[chunk, 0, 0, 20],
                &[0; 16],
            ]
            .concat();
            ends.frame(to, from, SCTP, 64, &start)
        }
    };
    let anybody = block(if v6 { "::/0" } else { "0.0.0.0/0" }, &[]);
    let allowed = rule(&[anybody], &[port(Protocol::Sctp, 0x1f90)]);
    let links = Links::new(&[ingress(0, std::slice::from_ref(&allowed)), egress(0, &[])]).await;
    assert_eq!(links.with_stranger(At::ToPod, v6, init(1)), Fate::Next);
    let reply = |ends: &Ends, to, from| answer(init(2)(ends, to, from), v6);
    assert_eq!(links.with_stranger(At::FromPod, v6, reply), Fate::Next);
    assert_eq!(links.with_stranger(At::FromPod, v6, init(1)), Fate::Dropped);
    links.cluster.enforce(&[ingress(0, &[]), egress(0, &[])]);
    assert_eq!(links.with_stranger(At::ToPod, v6, init(0)), Fate::Dropped);
}

/// The IP packet of a frame, as an error quotes it.
fn quoted(frame: &[u8]) -> &[u8] {
    let length = if frame[12] == 0x86 { 40 + 8 } else { 20 + 8 };
    &frame[14..14 + length]
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_error_passes_if_it_is_about_what_is_allowed(#[values(false, true)] v6: bool) {
    let anybody = block(if v6 { "::/0" } else { "0.0.0.0/0" }, &[]);
    let rules = [rule(&[anybody], &[port(Protocol::Tcp, 0x1f90)])];
    let links = Links::new(&[ingress(0, &[]), egress(0, &rules)]).await;
    let (own, stranger) = (links.own(v6), ip(STRANGER[usize::from(v6)]));
    let unreachable = |about: &[u8]| {
        let kind = if v6 { 1 } else { 3 };
        let message = [&[kind, 1, 0, 0, 0, 0, 0, 0][..], about].concat();
        move |_: &Ends, to: Mac, from: Mac| {
            // A router's, on the way.
            let router = ip(if v6 { "2001:db8::1" } else { "192.0.2.1" });
            Ends::new(router, own).icmp(to, from, 64, &message)
        }
    };
    let sent = Ends::new(own, stranger).tcp(NODE_MAC, links.pod.1, SYN, &[]);
    let error = unreachable(quoted(&sent));
    assert_eq!(links.with_stranger(At::ToPod, v6, error), Fate::Next);
    let sent = Ends::new(own, stranger).udp(NODE_MAC, links.pod.1, b"data");
    let error = unreachable(quoted(&sent));
    assert_eq!(links.with_stranger(At::ToPod, v6, error), Fate::Dropped);
    let others = Ends::new(stranger, own).tcp(NODE_MAC, links.pod.1, SYN, &[]);
    let error = unreachable(quoted(&others));
    assert_eq!(
        links.with_stranger(At::ToPod, v6, error),
        Fate::Dropped,
        "not its own"
    );
    let request = |ends: &Ends, to, from| ends.echo(to, from, b"data");
    assert_eq!(links.with_stranger(At::ToPod, v6, request), Fate::Dropped);
}

/// A piece of a datagram: the first has its header.
fn piece(ends: &Ends, to: Mac, from: Mac, first: bool, id: u8) -> Vec<u8> {
    let udp = [0x5b, 0xa1, 0x1f, 0x90, 0, 40, 0, 0];
    let data = if first {
        [&udp[..], &[1; 16]].concat()
    } else {
        vec![2; 16]
    };
    if ends.source.is_ipv6() {
        let place: u16 = if first { 1 } else { 24 };
        let header = [&[UDP, 0][..], &place.to_be_bytes(), &[0, 0, 0, id], &data].concat();
        return ends.frame(to, from, 44, 64, &header);
    }
    let place: u16 = if first { 0x2000 } else { 3 };
    let total = u16::try_from(20 + data.len()).unwrap().to_be_bytes();
    let start = [&[0x45, 0][..], &total, &[0, id], &place.to_be_bytes(), &[64, UDP]].concat();
    let (source, destination) = (octets(ends.source), octets(ends.destination));
    let checksum = crate::craft::sum(&[&start, &source, &destination]).to_be_bytes();
    let packet = [&start, &checksum[..], &source, &destination, &data].concat();
    crate::craft::ethernet(to, from, 0x0800, &packet)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_later_piece_is_as_the_first_was(#[values(false, true)] v6: bool) {
    let anybody = block(if v6 { "::/0" } else { "0.0.0.0/0" }, &[]);
    let allowed = [rule(&[anybody], &[port(Protocol::Udp, 0x1f90)])];
    let links = Links::new(&[ingress(0, &[]), egress(0, &allowed)]).await;
    let made = |first, id| move |ends: &Ends, to: Mac, from: Mac| piece(ends, to, from, first, id);
    assert_eq!(
        links.with_stranger(At::FromPod, v6, made(false, 1)),
        Fate::Dropped,
        "there was no first"
    );
    assert_eq!(links.with_stranger(At::FromPod, v6, made(true, 1)), Fate::Next);
    assert_eq!(links.with_stranger(At::FromPod, v6, made(false, 1)), Fate::Next);
    assert_eq!(
        links.with_stranger(At::FromPod, v6, made(false, 2)),
        Fate::Dropped,
        "another's"
    );
    for (at, fate) in [(At::ToPod, Fate::Dropped), (At::ToPodFromNode, Fate::Next)] {
        assert_eq!(links.with_stranger(at, v6, made(true, 3)), fate, "{at:?}");
        assert_eq!(links.with_stranger(at, v6, made(false, 3)), fate, "{at:?}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_elsewhere_is_asked_about_where_it_comes_in(#[values(false, true)] v6: bool) {
    let links = Links::new(&[ingress(0, &[rule(&[from_pod(2)], &[])])]).await;
    let [to, from] = links.macs(At::FromWire);
    for (pod, expected) in [(2, Fate::Direct), (3, Fate::Dropped)] {
        let ends = Ends::new(links.cluster.at(pod, v6), links.own(v6));
        assert_eq!(
            links.run(At::FromWire, &ends.tcp(to, from, SYN, &[])),
            expected,
            "{pod}"
        );
    }
}
