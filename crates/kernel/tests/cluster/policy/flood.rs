//! More drops than anybody can be told of: so many are told, and the others counted.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bpf_abi::Counter;
use bpf_abi::policy::{PACE, event};
use rstest::rstest;
use testkit::eventually;

use super::ingress;
use super::traffic::PATIENCE;
use crate::fixture::{Cluster, Stack};

const DATAGRAMS: u64 = 50_000;

/// Sends what nothing allows, as fast as it goes; calls `meanwhile` now and then.
fn flood(cluster: &Cluster, mut meanwhile: impl FnMut()) {
    let (own, theirs) = (cluster.at(0, false), cluster.at(1, false));
    let pod = &cluster.pods[0].netns;
    let socket = pod.within(|| UdpSocket::bind((own, 0))).unwrap();
    let before = cluster.count(0, Counter::PolicyIngress);
    for number in 0..DATAGRAMS {
        socket.send_to(b"flood", (theirs, 9)).unwrap();
        if number % 64 == 0 {
            meanwhile();
        }
    }
    eventually(PATIENCE, || {
        cluster.count(0, Counter::PolicyIngress) >= before + DATAGRAMS
    });
}

/// Two programs of one processor may count at once, and then one of them isn't seen.
fn are_about(all: u64, wanted: u64) {
    assert!(all <= wanted && all >= wanted - wanted / 100, "{all} of {wanted}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_told_in_part_and_counted_whole(#[values(true, false)] is_read: bool) {
    let cluster = Cluster::running(1, 2, Stack::V4).await;
    cluster.enforce(&[ingress(1, &[])]);
    let kernel = &cluster.kernels[0];
    let mut events = kernel.policy_events().unwrap().unwrap();
    let begin = Instant::now();
    let mut told = 0;
    let mut read = || {
        while let Some(event) = events.next_event() {
            assert_eq!(event.kind, event::DROPPED);
            told += 1;
        }
    };
    flood(&cluster, || {
        if is_read {
            read();
        }
    });
    let took = begin.elapsed();
    read();
    let lost = kernel.policy_counts().unwrap().lost;
    are_about(told + lost, DATAGRAMS);
    let processors = std::thread::available_parallelism().unwrap().get() as u64;
    // The first and the last tenth of a second are begun ones.
    let tenths = (took.as_nanos() / Duration::from_millis(100).as_nanos()) as u64 + 2;
    assert!(
        told > 0 && told <= PACE * tenths * processors,
        "{told} in {took:?}"
    );
    // Whoever reads again hears again.
    let (own, theirs) = (cluster.at(0, false), cluster.at(1, false));
    let pod = &cluster.pods[0].netns;
    let socket = pod.within(|| UdpSocket::bind((own, 0))).unwrap();
    eventually(PATIENCE, || {
        socket.send_to(b"one", (theirs, 10)).unwrap();
        let last = events.next_event();
        last.is_some_and(|event| event.destination_port == 10_u16.to_be())
    });
}
