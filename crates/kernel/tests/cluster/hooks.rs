//! Where programs hang: an older version's are replaced, and others' filters stay.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bpf_abi::Counter;
use futures::StreamExt;
use kernel::{Hooks, Netlink};
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use plan::PartId;
use rstest::rstest;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};
use testkit::{Pong, eventually, ping};

use crate::fixture::{Cluster, Stack, ip, net};
use crate::shortcut::UdpEcho;

const PATIENCE: Duration = Duration::from_secs(5);
const LIE: &str = "10.244.0.77";
const SIDES: [u16; 2] = [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS];
/// `TC_ACT_SHOT`
const DROP: u32 = 2;

/// A filter on a link, as far as it's told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    side: u16,
    priority: u16,
    handle: u32,
    name: String,
    program: u32,
}

impl Filter {
    fn is_ours(&self) -> bool {
        self.name.starts_with("rip_")
    }
}

/// Sends a request of others'; returns what the kernel answered.
async fn request(netlink: &Netlink, message: RouteNetlinkMessage, flags: u16) -> Vec<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    let mut answers = netlink.handle().clone().request(message).unwrap();
    let mut objects = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::InnerMessage(object) => objects.push(object),
            NetlinkPayload::Error(answer) => {
                assert_eq!(answer.code, None, "{answer:?}");
                break;
            }
            _ => break,
        }
    }
    objects
}

fn at(link: u32, side: u16) -> TcMessage {
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.parent = TcHandle {
        major: u16::MAX,
        minor: side,
    };
    message
}

/// Gives a link a queue of others'.
async fn add_queue(netlink: &Netlink, link: u32, kind: &str) {
    let mut message = at(link, TcHandle::CLSACT.minor);
    message.header.handle.major = u16::MAX;
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    let message = RouteNetlinkMessage::NewQueueDiscipline(message);
    request(netlink, message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).await;
}

async fn delete_queue(netlink: &Netlink, link: u32) {
    let message = at(link, TcHandle::CLSACT.minor);
    request(
        netlink,
        RouteNetlinkMessage::DelQueueDiscipline(message),
        NLM_F_ACK,
    )
    .await;
}

/// Puts a filter of others' on a link, which says `verdict` of every packet.
async fn add_filter(netlink: &Netlink, link: u32, side: u16, priority: u16, verdict: u32) {
    // `BPF_RET | BPF_K`, in the language of old.
    let mut code = vec![6, 0, 0, 0];
    code.extend(verdict.to_ne_bytes());
    let option = |kind, bytes| TcFilterBpfOption::Other(DefaultNla::new(kind, bytes));
    let options = [
        // `TCA_BPF_OPS_LEN`, `TCA_BPF_OPS`
        option(4, 1_u16.to_ne_bytes().to_vec()),
        option(5, code),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    let mut message = at(link, side);
    message.header.handle.minor = 1;
    message.header.info = u32::from(priority) << 16 | u32::from(3_u16.to_be());
    message.attributes.push(TcAttribute::Kind("bpf".to_owned()));
    let options = options.map(TcOption::Bpf).into();
    message.attributes.push(TcAttribute::Options(options));
    let message = RouteNetlinkMessage::NewTrafficFilter(message);
    request(netlink, message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).await;
}

/// The filters on a link, both sides.
async fn filters(netlink: &Netlink, link: u32) -> Vec<Filter> {
    let mut filters = Vec::new();
    for side in SIDES {
        let message = RouteNetlinkMessage::GetTrafficFilter(at(link, side));
        for object in request(netlink, message, NLM_F_DUMP).await {
            let RouteNetlinkMessage::NewTrafficFilter(message) = object else {
                continue;
            };
            let mut filter = Filter {
                side,
                priority: (message.header.info >> 16) as u16,
                handle: message.header.handle.into(),
                name: String::new(),
                program: 0,
            };
            for attribute in message.attributes {
                let TcAttribute::Options(options) = attribute else {
                    continue;
                };
                for option in options {
                    match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name = name,
                        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.program = id,
                        _ => {}
                    }
                }
            }
            // The kernel lists a priority itself, too.
            if filter.handle != 0 {
                filters.push(filter);
            }
        }
    }
    filters
}

/// What is pinned becomes another version's.
fn age(cluster: &Cluster, node: usize) {
    let pins = cluster.lan.nodes[node].netns.pins();
    let [version] = versions(cluster, node).try_into().unwrap();
    fs::rename(pins.join(version), pins.join("older")).unwrap();
}

fn versions(cluster: &Cluster, node: usize) -> Vec<String> {
    let entries = fs::read_dir(cluster.lan.nodes[node].netns.pins()).unwrap();
    let entries = entries.map(|entry| entry.unwrap());
    // A bpffs has files of its own.
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let names = folders.map(|entry| entry.file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

/// Says that it's over when it goes, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_older_versions_programs_are_replaced_under_traffic(
    #[values(Hooks::probe(), Hooks::Clsact)] hooks: Hooks,
) {
    let mut cluster = Cluster::hooked(hooks, 1, 2, Stack::V4).await;
    let pod = cluster.pods[0].netns.netlink();
    let eth0 = pod.link_index("eth0").await.unwrap();
    pod.add_address(eth0, net(&format!("{LIE}/32"))).await.unwrap();
    let bind = |address| {
        let socket = cluster.pods[0].netns.run(|| UdpSocket::bind((address, 0)));
        let socket = socket.unwrap().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let (liar, honest) = (bind(ip(LIE)), bind(cluster.pods[0].addresses[0]));
    let server = cluster.pods[1].addresses[0];
    let echo = UdpEcho::start(&cluster.pods[1].netns, server);
    let to = SocketAddr::new(server, echo.port);
    let spoofed = cluster.count(0, Counter::Spoofed);

    let (stop, exchanges) = (AtomicBool::new(false), AtomicU64::new(0));
    let lies = thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut lies = 0;
            while !stop.load(Ordering::Relaxed) {
                liar.send_to(b"lie", to).unwrap();
                lies += 1;
                honest.send_to(b"x", to).unwrap();
                let answer = honest.recv_from(&mut [0; 16]);
                assert_eq!(answer.expect("a packet was lost"), (1, to));
                exchanges.fetch_add(1, Ordering::Relaxed);
            }
            lies
        });
        let over = Over(&stop);
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            for _ in 0..3 {
                let before = exchanges.load(Ordering::Relaxed);
                eventually(PATIENCE, || exchanges.load(Ordering::Relaxed) > before + 10);
                age(&cluster, 0);
                cluster.restart_agent(0);
                // Both sides of two pods' links and of the uplink.
                assert_eq!(runtime.block_on(cluster.apply(0)).writes, 6);
                assert!(!versions(&cluster, 0).contains(&"older".to_owned()));
            }
        });
        drop(over);
        traffic.join().unwrap()
    });
    // None passed unchecked.
    eventually(PATIENCE, || cluster.count(0, Counter::Spoofed) >= spoofed + lies);
    liar.set_nonblocking(true).unwrap();
    liar.recv_from(&mut [0; 16]).unwrap_err();
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_filters_on_the_same_link_stay_and_have_their_turn() {
    let mut cluster = Cluster::hooked(Hooks::Clsact, 1, 0, Stack::V4).await;
    let netlink = cluster.lan.nodes[0].netns.netlink();
    let uplink = netlink.link_index("eth0").await.unwrap();
    let [first, _] = [cluster.add_pod(0).await, cluster.add_pod(0).await];
    cluster.apply(0).await;
    let link = netlink
        .link_index(&cluster.pods[first].id.host_link())
        .await
        .unwrap();
    let ours = filters(&netlink, link).await;
    let names: Vec<&str> = ours.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(names, ["rip_from_pod", "rip_to_pod"]);
    assert_eq!(filters(&netlink, uplink).await.len(), 2);

    // One more of our priority, which leaves everything to others, and one after us that drops.
    for side in SIDES {
        for link in [link, uplink] {
            add_filter(&netlink, link, side, ours[0].priority, u32::MAX).await;
        }
    }
    add_filter(&netlink, link, TcHandle::MIN_INGRESS, 0xc000, DROP).await;
    let all = filters(&netlink, link).await;
    let foreign =
        |all: Vec<Filter>| -> Vec<Filter> { all.into_iter().filter(|one| !one.is_ours()).collect() };
    assert_eq!(all.len(), 5, "{all:?}");
    let client = &cluster.pods[0].netns;
    let node = cluster.lan.nodes[0].addresses()[0];
    assert_eq!(
        ping(client, node, 8).unwrap(),
        Pong::Silence,
        "what we leave to others is theirs"
    );
    let peer = cluster.pods[1].addresses[0];
    assert_eq!(
        ping(client, peer, 8).unwrap(),
        Pong::Reply,
        "the shortcut is before them"
    );

    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 0);
    age(&cluster, 0);
    cluster.restart_agent(0);
    assert_eq!(cluster.apply(0).await.writes, 6);
    assert_eq!(foreign(filters(&netlink, link).await), foreign(all.clone()));

    cluster.kernels[0].bare().await.unwrap();
    assert_eq!(filters(&netlink, link).await, foreign(all));
    let left = filters(&netlink, uplink).await;
    assert_eq!(left.len(), 2);
    assert!(!left.iter().any(Filter::is_ours), "{left:?}");
    assert!(cluster.apply(0).await.writes >= 6);
    let (all, ours) = (filters(&netlink, link).await, ours.len());
    assert_eq!(all.iter().filter(|one| one.is_ours()).count(), ours);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_queue_of_others_is_left_alone_and_named() {
    let mut cluster = Cluster::hooked(Hooks::Clsact, 1, 0, Stack::V4).await;
    let netlink = cluster.lan.nodes[0].netns.netlink();
    let uplink = netlink.link_index("eth0").await.unwrap();
    delete_queue(&netlink, uplink).await;
    add_queue(&netlink, uplink, "ingress").await;
    cluster.restart_agent(0);
    let plan = cluster.plan(0);
    let applied = cluster.kernels[0].apply(&plan).await.unwrap();
    let (part, error) = &applied.failures[0];
    assert_eq!(*part, PartId::Base);
    assert!(
        error.to_string().contains("tc qdisc del dev eth0 ingress"),
        "{error}"
    );
    assert!(filters(&netlink, uplink).await.is_empty());

    delete_queue(&netlink, uplink).await;
    // Somebody else's is as good as one of our own.
    add_queue(&netlink, uplink, "clsact").await;
    cluster.apply(0).await;
    assert_eq!(filters(&netlink, uplink).await.len(), 2);
}
