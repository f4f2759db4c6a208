//! SCTP to a Service, packet by packet: the link's program picks, netfilter translates.

use model::{Packet, Protocol, Transport};
use plan::{Spot, Verdict};
use rstest::rstest;
use testkit::{Capture, eventually, send_frames};

use super::planned::{NODE_PORT, service, vips};
use crate::craft::Ends;
use crate::fixture::{Cluster, Stack, ip};
use crate::sctp::{CLIENT_PORT, End, INIT, INIT_ACK, PATIENCE, POD_PORT, SCTP, TAG, mac, packet, read};

const PORT: u16 = 80;

#[rstest]
#[case::ipv4(0, "172.30.0.1")]
#[case::ipv6(1, "fd00:172:30::1")]
#[tokio::test(flavor = "multi_thread")]
async fn an_association_with_a_service_is_its_pods(#[case] family: usize, #[case] outside: &str) {
    let mut cluster = Cluster::running(1, 2, Stack::Dual).await;
    let web = service(&cluster, &[0], Protocol::Sctp, POD_PORT);
    cluster.serve(&[("web", web)]).await;
    let [pod, asker] = [0, 1].map(|number: usize| cluster.pods[number].addresses[family]);
    let (switch, served, asking) = (
        &cluster.lan.switch,
        &cluster.pods[0].netns,
        &cluster.pods[1].netns,
    );
    let own_mac = mac(served, "eth0").await;
    let asker_mac = mac(asking, "eth0").await;
    let (node_mac, switch_mac) = (
        mac(&cluster.lan.nodes[0].netns, "eth0").await,
        mac(switch, "br0").await,
    );
    let node = cluster.lan.nodes[0].addresses()[family];
    // A pod by the Service's own address, and the outside by a port of the node.
    let inside = (
        asking,
        "eth0",
        plan::NODE_MAC.0,
        asker_mac,
        (vips()[family], PORT),
        asker,
    );
    let by_port = (
        switch,
        "br0",
        node_mac,
        switch_mac,
        (node, NODE_PORT),
        ip(outside),
    );
    for (from, link, to_mac, from_mac, asked, client) in [inside, by_port] {
        let (at_pod, at_client) = (Capture::start(served), Capture::start(from));
        let init = packet(CLIENT_PORT, asked.1, 0, INIT);
        let frame = Ends::new(client, asked.0).frame(to_mac, from_mac, SCTP, 64, &init);
        send_frames(from, link, &[frame]).unwrap();
        let client: End = (client, CLIENT_PORT);
        let seen =
            |capture: &Capture, wanted| capture.frames().iter().any(|frame| read(frame) == Some(wanted));
        eventually(PATIENCE, || seen(&at_pod, (client, (pod, POD_PORT), INIT)));

        let sent = Packet {
            source: client.0,
            destination: asked.0,
            transport: Transport::Sctp(asked.1),
        };
        let trace = plan::trace(&cluster.all_plans(), &sent);
        let to_pod = |to: &Spot| matches!(to, Spot::Pod { .. });
        assert!(
            matches!(&trace.verdict, Verdict::Delivered { to, source } if to_pod(to) && *source == client.0),
            "{trace}"
        );

        // Its answer is the Service's again.
        let answer = packet(POD_PORT, CLIENT_PORT, TAG, INIT_ACK);
        let frame = Ends::new(pod, client.0).frame(plan::NODE_MAC.0, own_mac, SCTP, 64, &answer);
        send_frames(served, "eth0", &[frame]).unwrap();
        eventually(PATIENCE, || seen(&at_client, (asked, client, INIT_ACK)));
    }
}
