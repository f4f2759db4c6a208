//! Services without endpoints.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use bpf_abi::Counter;
use bpf_abi::service::frontend::INSIDE_SILENT;
use rstest::rstest;
use testkit::{Pong, ping};

use super::fixture::{Node, TCP, UDP, put, put_as, vip};
use super::tcp::talk;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_a_service_without_endpoints_is_refused_at_once(#[values(false, true)] v6: bool) {
    let node = Node::new(1).await;
    let at = vip(v6, 80);
    put(&node.maps, at, TCP, &[]);
    put(&node.maps, at, UDP, &[]);
    let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
    node.within(0, || {
        assert_eq!(talk(at).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let socket = UdpSocket::bind(any).unwrap();
        assert_eq!(
            socket.send_to(b"x", at).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        assert_eq!(
            socket.connect(at).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_may_serve_is_dropped_and_not_refused() {
    let node = Node::new(1).await;
    let at = vip(false, 80);
    put_as(&node.maps, at, TCP, &[], |frontend| {
        frontend.flags = INSIDE_SILENT
    });
    let before = node.cluster.count(0, Counter::ServiceDropped);
    let error = node.within(0, || {
        std::net::TcpStream::connect_timeout(&at, Duration::from_millis(200)).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(node.cluster.count(0, Counter::ServiceDropped) > before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_answers_pings_as_long_as_it_has_an_endpoint(#[values(false, true)] v6: bool) {
    let node = Node::new(2).await;
    let at = vip(v6, 0);
    let icmp = if v6 { 58 } else { 1 };
    let pod = &node.cluster.pods[0].netns;
    let backend = std::net::SocketAddr::new(node.pod(1, v6), 80);
    put(&node.maps, at, icmp, &[backend]);
    for size in [0, 8, 1000] {
        assert_eq!(ping(pod, at.ip(), size).unwrap(), Pong::Reply, "{size} bytes");
    }
    let refused = node.cluster.count(0, Counter::ServiceRefused);
    put(&node.maps, at, icmp, &[]);
    assert_ne!(ping(pod, at.ip(), 8).unwrap(), Pong::Reply);
    assert!(node.cluster.count(0, Counter::ServiceRefused) > refused);
}
