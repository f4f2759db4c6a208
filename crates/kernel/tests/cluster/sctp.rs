//! SCTP to ports of a node that lead to pods, packet by packet: not every kernel has sockets for it.

use std::net::IpAddr;
use std::time::Duration;

use kernel::conntrack::{Conntrack, Which};
use model::{HostPort, Packet, Protocol, Transport};
use plan::{Spot, Verdict};
use rstest::rstest;
use testkit::{Capture, TestNs, eventually, send_frames};

use crate::craft::{Ends, Mac};
use crate::fixture::{Cluster, Stack, ip};
use crate::frames;

pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
pub(crate) const SCTP: u8 = 132;
/// Kinds of chunks that begin an association.
pub(crate) const INIT: u8 = 1;
pub(crate) const INIT_ACK: u8 = 2;
const HOST_PORT: u16 = 38412;
pub(crate) const POD_PORT: u16 = 36412;
pub(crate) const CLIENT_PORT: u16 = 50123;
/// What the client has its packets tagged with.
pub(crate) const TAG: u32 = 0x1234_5678;

/// A packet that begins an association, or answers one that does.
pub(crate) fn packet(source: u16, destination: u16, tag: u32, chunk: u8) -> Vec<u8> {
    let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    // Kind and length; own tag, window, streams out and in, first number.
    let start = [&[chunk, 0, 0, 20][..], &TAG.to_be_bytes(), &[0, 1, 0, 0]].concat();
    let body = [&start[..], &[0, 1, 0, 1, 0, 0, 0, 1]].concat();
    let mut packet = [&ports[..], &tag.to_be_bytes(), &[0; 4], &body].concat();
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// SCTP's checksum (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

/// An address and a port.
pub(crate) type End = (IpAddr, u16);

/// What a captured frame of SCTP says: from, to, and the kind of its chunk; only if its checksum is right.
pub(crate) fn read(frame: &[u8]) -> Option<(End, End, u8)> {
    let found = frames::packet(frame)?;
    let payload = found.transport(SCTP)?;
    let port = |at: usize| Some(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?));
    let mut blank = payload.to_vec();
    blank.get_mut(8..12)?.fill(0);
    let is_right = crc32c(&blank).to_le_bytes() == payload[8..12];
    let ends = ((found.source, port(0)?), (found.destination, port(2)?));
    is_right.then_some((ends.0, ends.1, *payload.get(12)?))
}

pub(crate) async fn mac(netns: &TestNs, link: &str) -> Mac {
    let found = netns.netlink().link(link).await.unwrap().unwrap();
    found.address.unwrap().0
}

#[rstest]
#[case::ipv4(0, "172.30.0.1")]
#[case::ipv6(1, "fd00:172:30::1")]
#[tokio::test(flavor = "multi_thread")]
async fn an_association_with_a_host_port_is_the_pods(#[case] family: usize, #[case] outside: &str) {
    let mut cluster = Cluster::running(1, 1, Stack::Dual).await;
    let (client, node) = (ip(outside), cluster.lan.nodes[0].addresses()[family]);
    let pod = cluster.pods[0].addresses[family];
    let port = HostPort {
        protocol: Protocol::Sctp,
        host_ip: None,
        host_port: HOST_PORT,
        container_port: POD_PORT,
    };
    cluster.publish(0, &[port]);
    cluster.apply(0).await;

    let (switch, netns) = (&cluster.lan.switch, &cluster.pods[0].netns);
    let (at_pod, at_client) = (Capture::start(netns), Capture::start(switch));
    let (node_mac, switch_mac) = (
        mac(&cluster.lan.nodes[0].netns, "eth0").await,
        mac(switch, "br0").await,
    );
    let init = packet(CLIENT_PORT, HOST_PORT, 0, INIT);
    let frame = Ends::new(client, node).frame(node_mac, switch_mac, SCTP, 64, &init);
    send_frames(switch, "br0", &[frame]).unwrap();
    let seen = |capture: &Capture, wanted| capture.frames().iter().any(|frame| read(frame) == Some(wanted));
    let arrived = ((client, CLIENT_PORT), (pod, POD_PORT), INIT);
    eventually(PATIENCE, || seen(&at_pod, arrived));

    let plans = [(crate::fixture::name(0), cluster.plan(0))].into();
    let sent = Packet {
        source: client,
        destination: node,
        transport: Transport::Sctp(HOST_PORT),
    };
    let trace = plan::trace(&plans, &sent);
    let to_pod = |to: &Spot| matches!(to, Spot::Pod { .. });
    assert!(
        matches!(&trace.verdict, Verdict::Delivered { to, source } if to_pod(to) && *source == client),
        "{trace}"
    );

    // Its answer is the node's again.
    let answer = packet(POD_PORT, CLIENT_PORT, TAG, INIT_ACK);
    let own = mac(netns, "eth0").await;
    let frame = Ends::new(pod, client).frame(plan::NODE_MAC.0, own, SCTP, 64, &answer);
    send_frames(netns, "eth0", &[frame]).unwrap();
    let answered = ((node, HOST_PORT), (client, CLIENT_PORT), INIT_ACK);
    eventually(PATIENCE, || seen(&at_client, answered));

    // What the port translated is forgotten with it.
    let conntrack = Conntrack::open(&cluster.lan.nodes[0].netns).unwrap();
    let translated = || conntrack.connections(Which::Translated).unwrap();
    assert!(translated().iter().any(|one| one.protocol == SCTP));
    cluster.publish(0, &[]);
    cluster.apply(0).await;
    assert_eq!(translated(), []);
}
