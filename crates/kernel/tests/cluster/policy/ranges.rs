//! Ranges of ports (`endPort`) and real packets: the first and the last are in, their neighbours aren't.

use std::net::{SocketAddr, UdpSocket};

use bpf_abi::Counter;
use model::{PolicyPort, PortMatch, Protocol};
use rstest::rstest;
use testkit::{Echo, eventually};

use super::traffic::{PATIENCE, SHORT, is_kept_from, reaches};
use super::{from_pod, ingress, rule};
use crate::fixture::{Cluster, Stack};
use crate::shortcut::UdpEcho;

fn range(protocol: Protocol, first: u16, last: u16) -> PolicyPort {
    let ports = PortMatch::Range(first, last);
    PolicyPort { protocol, ports }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_for_its_ports_and_no_others(
    #[values(false, true)] v6: bool,
    #[values(0, 2)] client: usize,
) {
    let cluster = Cluster::running(2, 2, Stack::Dual).await;
    let mut servers = [(); 3].map(|()| Echo::start(&cluster.pods[1].netns));
    servers.sort_by_key(|server| server.port);
    let [low, middle, high] = servers.each_ref().map(|server| server.port);
    let from = &cluster.pods[client].netns;
    for (first, last) in [
        (low + 1, high - 1),
        (middle, middle),
        (low, middle),
        (middle, high),
        (1, low),
        (high, u16::MAX),
    ] {
        let ports = [range(Protocol::Tcp, first, last)];
        cluster.enforce(&[ingress(1, &[rule(&[from_pod(client)], &ports)])]);
        for port in [low, middle, high] {
            let to = SocketAddr::new(cluster.at(1, v6), port);
            if (first..=last).contains(&port) {
                reaches(from, to);
            } else {
                is_kept_from(&cluster, 0, Counter::PolicyIngress, from, to);
            }
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_for_its_protocol(#[values(false, true)] v6: bool) {
    let cluster = Cluster::running(1, 2, Stack::Dual).await;
    let (own, theirs) = (cluster.at(0, v6), cluster.at(1, v6));
    let echo = UdpEcho::start(&cluster.pods[1].netns, theirs);
    let enforce = |protocol| {
        let ports = [range(protocol, echo.port - 10, echo.port)];
        cluster.enforce(&[ingress(1, &[rule(&[from_pod(0)], &ports)])])
    };
    let pod = &cluster.pods[0].netns;
    let client = pod.within(|| UdpSocket::bind((own, 0))).unwrap();
    let mut buffer = [0; 8];
    enforce(Protocol::Tcp);
    let before = cluster.count(0, Counter::PolicyIngress);
    client.send_to(b"hello", (theirs, echo.port)).unwrap();
    eventually(PATIENCE, || cluster.count(0, Counter::PolicyIngress) > before);
    client.set_read_timeout(Some(SHORT)).unwrap();
    assert!(client.recv(&mut buffer).is_err());
    enforce(Protocol::Udp);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"hello", (theirs, echo.port)).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 5, "the answer");
    let before = cluster.count(0, Counter::PolicyIngress);
    client.send_to(b"hello", (theirs, echo.port + 1)).unwrap();
    eventually(PATIENCE, || cluster.count(0, Counter::PolicyIngress) > before);
}
