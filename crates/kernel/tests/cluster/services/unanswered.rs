//! Whoever connects to an endpoint that is gone without a word, as one on a node that has lost its power: the attempts
//! that the client's kernel makes by itself are led to another one.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;

use kernel::NetNs;
use kernel::conntrack::{Conntrack, Which};
use kernel::link::LinkChange;
use model::Protocol;
use rstest::rstest;
use testkit::{Echo, eventually};

use super::fixture::{Group, PATIENCE};
use super::planned::{service, vips};
use crate::fixture::{Cluster, Stack, alike};

/// Takes a pod's own link down: as from a node that has lost its power there's no answer, not even a refusal.
async fn silence(cluster: &Cluster, pod: usize) {
    let pod = cluster.pods[pod].netns.netlink();
    let links = pod.links().await.unwrap();
    let link = links.iter().find(|link| link.name == "eth0").unwrap();
    let down = LinkChange {
        up: Some(false),
        ..LinkChange::default()
    };
    pod.set_link(link.index, &down).await.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_endpoint_never_answered_is_led_to_another_from_the_same_port(
    #[values(false, true)] v6: bool,
) {
    let mut cluster = Cluster::running(1, 3, Stack::Dual).await;
    let echo = Echo::start(&cluster.pods[1].netns);
    let at = SocketAddr::new(vips()[usize::from(v6)], 80);
    let web = |cluster: &Cluster, pod| service(cluster, &[pod], Protocol::Tcp, echo.port);
    cluster.serve(&[("web", web(&cluster, 0))]).await;
    let dead = SocketAddr::new(alike(&cluster.pods[0].addresses, at.ip()), echo.port);
    silence(&cluster, 0).await;
    let conntrack = Conntrack::open(&cluster.lan.nodes[0].netns).unwrap();
    let waiting = || {
        let all = conntrack.connections(Which::Unanswered).unwrap().into_iter();
        all.filter(|one| one.reply.source == dead).count()
    };
    let client = NetNs::open(cluster.pods[2].netns.path()).unwrap();
    let connect = move || client.run(|| TcpStream::connect_timeout(&at, 10 * PATIENCE));
    let connecting = thread::spawn(connect);
    eventually(PATIENCE, || waiting() == 1);
    let forget = |cluster: &Cluster| cluster.kernels[0].forget_unanswered().unwrap();
    assert_eq!(
        [forget(&cluster), forget(&cluster)],
        [0, 0],
        "the endpoint is there"
    );
    cluster.serve(&[("web", web(&cluster, 1))]).await;
    assert_eq!(forget(&cluster), 0, "an answer may be on its way");
    assert_eq!(forget(&cluster), 1);
    // The kernel's next attempt, in three seconds at most.
    connecting.join().unwrap().unwrap().unwrap();
    assert_eq!((waiting(), forget(&cluster)), (0, 0));
}

/// Its packets have the endpoint's own address, so it's another endpoint that answers under it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_whose_endpoint_never_answered_is_led_to_another(
    #[values(false, true)] v6: bool,
    #[values(0, 1)] dead: usize,
    #[values(2, 3)] other: usize,
) {
    let group = Group::new();
    let mut cluster = Cluster::new(2, Stack::Dual).await;
    cluster.facts[0].cgroup = Some(group.path().to_owned());
    // Pods 0 to 2 are of the first node, the others of the second.
    let mut cluster = cluster.with_pods(3).await;
    group.enter();
    let (dead, other, client) = (3 * dead + 1, if other == 2 { 2 } else { 3 }, 0);
    let echo = Echo::start(&cluster.pods[other].netns);
    let at = SocketAddr::new(vips()[usize::from(v6)], 80);
    let web = |cluster: &Cluster, pods: &[usize]| service(cluster, pods, Protocol::Tcp, echo.port);
    cluster.serve(&[("web", web(&cluster, &[dead]))]).await;
    silence(&cluster, dead).await;
    let netns = NetNs::open(cluster.pods[client].netns.path()).unwrap();
    let connecting = move || netns.run(|| TcpStream::connect_timeout(&at, 10 * PATIENCE));
    let (direct, socket) = (
        SocketAddr::new(alike(&cluster.pods[dead].addresses, at.ip()), echo.port),
        thread::spawn(connecting),
    );
    eventually(PATIENCE, || waits_for(&cluster, client, direct));
    cluster.serve(&[("web", web(&cluster, &[other]))]).await;
    let forgotten = |cluster: &Cluster| cluster.kernels[0].forget_unanswered().unwrap();
    let _ = [forgotten(&cluster), forgotten(&cluster)];
    // The kernel's next attempt, in three seconds at most.
    let stream = socket.join().unwrap().unwrap().unwrap();
    assert_eq!(stream.peer_addr().unwrap(), at);
    let from = alike(&cluster.pods[client].addresses, at.ip());
    assert_eq!(greeting(&stream), from.to_string());
    // Who asks for the pod itself waits for it.
    let netns = &cluster.pods[client].netns;
    let asked = netns
        .run(|| TcpStream::connect_timeout(&direct, PATIENCE / 2))
        .unwrap();
    assert!(asked.is_err(), "{asked:?}");
}

/// What an echo says first: who it is asked by.
fn greeting(mut stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    String::from_utf8_lossy(&line).trim().to_owned()
}

/// Whether a pod's socket is connecting there, as its packets say.
fn waits_for(cluster: &Cluster, pod: usize, to: SocketAddr) -> bool {
    const SYN_SENT: &str = "02";
    let file = if to.is_ipv4() { "tcp" } else { "tcp6" };
    let read = || std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    let text = cluster.pods[pod].netns.run(read).unwrap().unwrap();
    let words = match to.ip() {
        IpAddr::V4(v4) => vec![u32::from_ne_bytes(v4.octets())],
        IpAddr::V6(v6) => v6
            .octets()
            .chunks(4)
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect(),
    };
    let address: String = words.iter().map(|word| format!("{word:08X}")).collect();
    let sought = format!("{address}:{:04X}", to.port());
    let mut lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.any(|words| words.get(2) == Some(&&*sought) && words[3] == SYN_SENT)
}
