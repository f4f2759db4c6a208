//! What a pod, or another machine on the wire, says in another one's name. The network stack's own
//! checks are off: only our programs look.

use std::net::IpAddr;
use std::time::Duration;

use bpf_abi::{Counter, NODE_MAC};
use kernel::{NetNs, sysctl};
use model::PodNetworkMode;
use plan::Object;
use rstest::rstest;
use testkit::{Capture, Lan, eventually, send_frames};

use crate::craft::{self, ACK, ARP, Ends, IPV4, IPV6, Mac, SYN, arp, ethernet};
use crate::fixture::{Cluster, Stack, alike, ip};

const PATIENCE: Duration = Duration::from_secs(5);
const LIE: &[u8] = b"this is a lie";
const TRUTH: &[u8] = b"this is the truth";
const DROPPED: [Counter; 4] = [
    Counter::Spoofed,
    Counter::SpoofedNeighbour,
    Counter::Malformed,
    Counter::SpoofedFromWire,
];
const NOBODYS_MAC: Mac = [2, 0, 0, 0, 0, 0x99];
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// A frame that must not pass, and what must count it.
struct Lie {
    what: String,
    frame: Vec<u8>,
    counter: Counter,
}

fn lie(what: impl Into<String>, counter: Counter, frame: Vec<u8>) -> Lie {
    Lie {
        what: what.into(),
        frame,
        counter,
    }
}

/// Takes the network stack's own check away, everywhere.
fn trust(cluster: &Cluster) {
    let nodes = cluster.lan.nodes.iter().map(|node| &node.netns);
    for netns in nodes.chain(cluster.pods.iter().map(|pod| &pod.netns)) {
        netns.within(|| {
            for link in sysctl::list("net/ipv4/conf").unwrap() {
                sysctl::write(&format!("net/ipv4/conf/{link}/rp_filter"), "0").unwrap();
            }
        });
    }
}

async fn mac(netns: &testkit::TestNs, link: &str) -> Mac {
    let found = netns.netlink().link(link).await.unwrap().unwrap();
    found.address.unwrap().0
}

fn dropped(cluster: &Cluster) -> [u64; 4] {
    DROPPED.map(|counter| cluster.count(0, counter))
}

/// Sends each, and waits until exactly its counter has grown by one.
fn all_are_dropped(cluster: &Cluster, netns: &NetNs, link: &str, lies: &[Lie]) {
    for Lie { what, frame, counter } in lies {
        let mut wanted = dropped(cluster);
        let at = DROPPED.iter().position(|known| known == counter).unwrap();
        wanted[at] += 1;
        send_frames(netns, link, std::slice::from_ref(frame)).unwrap();
        let sum = |counts: [u64; 4]| counts.iter().sum::<u64>();
        let end = std::time::Instant::now() + PATIENCE;
        while sum(dropped(cluster)) < sum(wanted) && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        assert_eq!(dropped(cluster), wanted, "{what}: {DROPPED:?}");
    }
}

fn holds(capture: &Capture, data: &[u8]) -> usize {
    let frames = capture.frames();
    let holds = |frame: &&Vec<u8>| frame.windows(data.len()).any(|part| part == data);
    frames.iter().filter(holds).count()
}

/// Where a lie could arrive: everywhere but in the liar's namespace and on its own link.
fn captures(cluster: &Cluster) -> Vec<Capture> {
    let pods = cluster.pods[1..].iter().map(|pod| &pod.netns);
    let others = [&cluster.lan.nodes[1].netns, &cluster.lan.switch];
    pods.chain(others).map(|netns| Capture::start(netns)).collect()
}

/// IP packets from every address that isn't the pod's, and from its own by another's Ethernet address.
fn lies_by_ip(cluster: &Cluster, own: Mac, others: Mac) -> Vec<Lie> {
    let mut lies = Vec::new();
    let [node, other_node] = [0, 1].map(|node| cluster.lan.nodes[node].addresses());
    for v6 in [0, 1] {
        let own_address = cluster.pods[0].addresses[v6];
        let nobodys = [
            [
                "10.244.0.200",
                "10.244.1.200",
                "203.0.113.9",
                "0.0.0.0",
                "127.0.0.1",
            ],
            [
                "fd00:10:244::200",
                "fd00:10:244:1::200",
                "2001:db8::9",
                "::",
                "fe80::9",
            ],
        ];
        let mut sources = nobodys[v6].map(ip).to_vec();
        sources.extend([1, 2].map(|pod| cluster.pods[pod].addresses[v6]));
        sources.extend([node[v6], other_node[v6]]);
        let mut targets = [1, 2].map(|pod| cluster.pods[pod].addresses[v6]).to_vec();
        targets.extend([node[v6], other_node[v6]]);
        for destination in targets {
            let from_pods = sources.iter().map(|source| (*source, own));
            let by_ethernet = [others, NOBODYS_MAC, NODE_MAC].map(|mac| (own_address, mac));
            for (source, from) in from_pods.chain(by_ethernet) {
                let ends = Ends::new(source, destination);
                for frame in [
                    ends.udp(NODE_MAC, from, LIE),
                    ends.tcp(NODE_MAC, from, SYN, LIE),
                    ends.tcp(NODE_MAC, from, ACK, LIE),
                    ends.echo(NODE_MAC, from, LIE),
                ] {
                    lies.push(lie(format!("{ends:?} from {from:02x?}"), Counter::Spoofed, frame));
                }
            }
        }
    }
    lies
}

/// What neighbours say, in another one's name or in a router's.
fn lies_to_neighbours(cluster: &Cluster, own: Mac, others: Mac) -> Vec<Lie> {
    use Counter::{Spoofed, SpoofedNeighbour};
    let mut lies = Vec::new();
    let broadcast = [0xff; 6];
    let (own4, own6) = (cluster.pods[0].addresses[0], cluster.pods[0].addresses[1]);
    let [node4, node6] = cluster.lan.nodes[0].addresses();
    let gateway = IpAddr::from(plan::GATEWAY_V4);
    for operation in [1, 2] {
        for name in [cluster.pods[1].addresses[0], node4, gateway, ip("0.0.0.0")] {
            let payload = arp(operation, name, own, gateway);
            let frame = ethernet(broadcast, own, ARP, &payload);
            lies.push(lie(format!("ARP {operation} of {name}"), SpoofedNeighbour, frame));
        }
        for (from, inside) in [(own, others), (others, own), (own, NODE_MAC)] {
            let payload = arp(operation, own4, inside, gateway);
            let frame = ethernet(broadcast, from, ARP, &payload);
            let what = format!("ARP {operation} from {from:02x?} of {inside:02x?}");
            lies.push(lie(what, SpoofedNeighbour, frame));
        }
    }
    let (all, link_local) = (ip("ff02::1"), ip("fe80::5"));
    for about in [cluster.pods[1].addresses[1], cluster.pods[2].addresses[1], node6] {
        for source in [own6, link_local] {
            let frame = Ends::new(source, all).neighbour(ALL_NODES_MAC, own, 136, about);
            lies.push(lie(
                format!("{source} advertises {about}"),
                SpoofedNeighbour,
                frame,
            ));
        }
        let frame = Ends::new(about, all).neighbour(ALL_NODES_MAC, own, 135, own6);
        lies.push(lie(format!("{about} solicits"), Spoofed, frame));
    }
    for source in [own6, link_local] {
        let ends = Ends::new(source, all);
        let routers = [&[134, 0, 0, 0, 64, 0, 7, 8][..], &[0; 8]].concat();
        let frame = ends.icmp(ALL_NODES_MAC, own, 255, &routers);
        lies.push(lie(format!("{source} is a router"), SpoofedNeighbour, frame));
        let redirect = [
            &[137, 0, 0, 0, 0, 0, 0, 0][..],
            &craft::octets(own6),
            &craft::octets(node6),
        ]
        .concat();
        let frame = ends.icmp(ALL_NODES_MAC, own, 255, &redirect);
        lies.push(lie(format!("{source} redirects"), SpoofedNeighbour, frame));
    }
    // Behind options, where only multicast listeners' reports may come from an address of the link's.
    let hidden = [
        &[58, 0, 5, 2, 0, 0, 1, 0][..],
        &[134, 0, 0, 0, 64, 0, 7, 8],
        &[0; 8],
    ]
    .concat();
    let frame = Ends::new(link_local, all).frame(ALL_NODES_MAC, own, 0, 255, &hidden);
    lies.push(lie("a router behind options", Spoofed, frame));
    lies
}

/// What is neither IP nor ARP, or says that it is and isn't.
fn no_packets(cluster: &Cluster, own: Mac) -> Vec<Lie> {
    let [plain4, plain6] = [0, 1].map(|v6| {
        let [source, destination] = [0, 1].map(|pod| cluster.pods[pod].addresses[v6]);
        Ends::new(source, destination).udp(NODE_MAC, own, LIE)
    });
    let mut frames = vec![
        (
            "IPv6 in IPv4's name",
            ethernet(NODE_MAC, own, IPV4, &plain6[14..]),
        ),
        (
            "IPv4 in IPv6's name",
            ethernet(NODE_MAC, own, IPV6, &plain4[14..]),
        ),
        ("half a header", plain4[..24].to_vec()),
        ("half a header of IPv6", plain6[..44].to_vec()),
    ];
    for (kind, frame) in [(IPV4, &plain4), (IPV6, &plain6)] {
        for tag in [0x8100_u16, 0x88a8] {
            let inside = [&[0, 5][..], &kind.to_be_bytes(), &frame[14..]].concat();
            frames.push(("inside a VLAN", ethernet(NODE_MAC, own, tag, &inside)));
            // Priority alone: no VLAN's, a tag all the same.
            let inside = [&[0xe0, 0][..], &kind.to_be_bytes(), &frame[14..]].concat();
            frames.push(("with a priority", ethernet(NODE_MAC, own, tag, &inside)));
        }
    }
    for kind in [0x0004, 0x88cc, 0x8847, 0x8863, 0x8864, 0x88e5, 0x9000, 0xffff] {
        frames.push(("of an unknown kind", ethernet(NODE_MAC, own, kind, &plain4[14..])));
    }
    let lies = frames.into_iter();
    lies.map(|(what, frame)| lie(what, Counter::Malformed, frame))
        .collect()
}

/// What the pod may say: none of it is dropped, and packets arrive.
fn truths_pass(cluster: &Cluster, own: Mac) {
    let before = dropped(cluster);
    let (own4, own6) = (cluster.pods[0].addresses[0], cluster.pods[0].addresses[1]);
    let (all, link_local) = (ip("ff02::1"), ip("fe80::5"));
    let gateway = IpAddr::from(plan::GATEWAY_V4);
    let report = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &[143, 0, 0, 0, 0, 0, 0, 0]].concat();
    let mut frames = vec![
        ethernet([0xff; 6], own, ARP, &arp(1, own4, own, gateway)),
        ethernet(NODE_MAC, own, ARP, &arp(2, own4, own, gateway)),
        Ends::new(own6, all).neighbour(ALL_NODES_MAC, own, 135, plan::GATEWAY_V6.into()),
        Ends::new(link_local, all).neighbour(ALL_NODES_MAC, own, 135, own6),
        Ends::new(ip("::"), all).neighbour(ALL_NODES_MAC, own, 135, own6),
        Ends::new(own6, all).neighbour(ALL_NODES_MAC, own, 136, own6),
        Ends::new(link_local, all).neighbour(ALL_NODES_MAC, own, 136, link_local),
        Ends::new(ip("::"), ip("ff02::16")).frame([0x33, 0x33, 0, 0, 0, 0x16], own, 0, 1, &report),
        Ends::new(link_local, ip("ff02::2")).icmp(ALL_NODES_MAC, own, 255, &[133, 0, 0, 0, 0, 0, 0, 0]),
    ];
    let mut arriving = Vec::new();
    for pod in [1, 2] {
        arriving.push((pod, Capture::start(&cluster.pods[pod].netns)));
        for address in &cluster.pods[pod].addresses {
            let ends = Ends::new(alike(&[own4, own6], *address), *address);
            frames.push(ends.udp(NODE_MAC, own, TRUTH));
            frames.push(ends.echo(NODE_MAC, own, TRUTH));
        }
    }
    send_frames(&cluster.pods[0].netns, "eth0", &frames).unwrap();
    for (_, capture) in arriving {
        eventually(PATIENCE, || holds(&capture, TRUTH) >= 4);
    }
    assert_eq!(dropped(cluster), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_speaks_for_nobody_else() {
    let mut cluster = Cluster::running(2, 2, Stack::Dual).await;
    trust(&cluster);
    let own = mac(&cluster.pods[0].netns, "eth0").await;
    let others = mac(&cluster.pods[1].netns, "eth0").await;
    let node = cluster.lan.nodes[0].netns.netlink();
    let neighbours = node.neighbours().await.unwrap();
    let seen = captures(&cluster);

    let liar = &cluster.pods[0].netns;
    let lies = lies_by_ip(&cluster, own, others);
    all_are_dropped(&cluster, liar, "eth0", &lies);
    all_are_dropped(&cluster, liar, "eth0", &lies_to_neighbours(&cluster, own, others));
    all_are_dropped(&cluster, liar, "eth0", &no_packets(&cluster, own));
    truths_pass(&cluster, own);
    assert_eq!(seen.iter().map(|seen| holds(seen, LIE)).sum::<usize>(), 0);
    assert_eq!(node.neighbours().await.unwrap(), neighbours);

    // It's our programs that dropped them, nothing else: without them lies arrive.
    cluster.kernels[0].bare().await.unwrap();
    let frames: Vec<Vec<u8>> = lies.into_iter().map(|lie| lie.frame).collect();
    send_frames(&cluster.pods[0].netns, "eth0", &frames).unwrap();
    eventually(PATIENCE, || holds(&seen[0], LIE) > 0 && holds(&seen[1], LIE) > 0);
}

/// A packet that comes from outside and claims to be from a pod of this node, by each link to others.
#[rstest]
#[case::native(PodNetworkMode::Native)]
#[case::vxlan(PodNetworkMode::Vxlan)]
#[tokio::test(flavor = "multi_thread")]
async fn nobody_outside_speaks_for_a_pod_of_this_node(#[case] mode: PodNetworkMode) {
    let cluster = Cluster::on(Lan::new(2).await, Stack::Dual, Stack::Dual, mode).await;
    let mut cluster = cluster.with_pods(2).await;
    trust(&cluster);
    let plan = cluster.plan(0);
    let wires: Vec<String> = plan
        .objects()
        .filter_map(|object| match object {
            Object::Wire(wire) => Some(wire.clone()),
            _ => None,
        })
        .collect();
    assert!(!wires.is_empty());
    let outside = &cluster.lan.nodes[1].netns;
    let target = Capture::start(&cluster.pods[1].netns);
    let mut all = Vec::new();
    for wire in &wires {
        let (to, from) = (
            mac(&cluster.lan.nodes[0].netns, wire).await,
            mac(outside, wire).await,
        );
        let (mut lies, mut truths, mut frames) = (Vec::new(), Vec::new(), Vec::new());
        for v6 in [0, 1] {
            let destination = cluster.pods[1].addresses[v6];
            let node = cluster.lan.nodes[0].addresses()[v6];
            for (source, destination) in [
                (cluster.pods[0].addresses[v6], destination),
                (destination, destination),
                (cluster.pods[0].addresses[v6], node),
            ] {
                let ends = Ends::new(source, destination);
                for frame in [
                    ends.udp(to, from, LIE),
                    ends.tcp(to, from, SYN, LIE),
                    ends.echo(to, from, LIE),
                ] {
                    lies.push(lie(format!("{wire}: {ends:?}"), Counter::SpoofedFromWire, frame));
                }
            }
            let truth = format!("the truth about {destination} by {wire}");
            let ends = Ends::new(cluster.pods[2].addresses[v6], destination);
            frames.push(ends.udp(to, from, truth.as_bytes()));
            truths.push(truth);
        }
        all_are_dropped(&cluster, outside, wire, &lies);
        send_frames(outside, wire, &frames).unwrap();
        for truth in truths {
            eventually(PATIENCE, || holds(&target, truth.as_bytes()) > 0);
        }
        all.push((wire.clone(), lies));
    }
    assert_eq!(holds(&target, LIE), 0);

    cluster.kernels[0].bare().await.unwrap();
    for (wire, lies) in all {
        let frames: Vec<Vec<u8>> = lies.into_iter().map(|lie| lie.frame).collect();
        send_frames(&cluster.lan.nodes[1].netns, &wire, &frames).unwrap();
    }
    eventually(PATIENCE, || holds(&target, LIE) > 0);
}
