//! UDP: connected or not, answers come from whom was asked; and sockets don't outlive their endpoints.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use kernel::sockdiag;
use rstest::rstest;

use super::fixture::{Node, PATIENCE, UDP, mapped, plain, put, vip};
use crate::shortcut::UdpEcho;

fn bound(v6: bool) -> UdpSocket {
    let socket = UdpSocket::bind(if v6 { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Asks; says who answered.
fn ask(socket: &UdpSocket, to: SocketAddr) -> std::io::Result<SocketAddr> {
    socket.send_to(b"x", to)?;
    Ok(socket.recv_from(&mut [0; 8])?.1)
}

fn servers(node: &Node, v6: bool) -> (Vec<UdpEcho>, Vec<SocketAddr>) {
    let echoes: Vec<UdpEcho> = [1, 2]
        .map(|pod| UdpEcho::start(&node.cluster.pods[pod].netns, node.pod(pod, v6)))
        .into();
    let backends = echoes.iter().zip([1, 2]);
    let backends = backends.map(|(echo, pod)| SocketAddr::new(node.pod(pod, v6), echo.port));
    let backends = backends.collect();
    (echoes, backends)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn answers_come_from_the_service(#[values(false, true)] v6: bool) {
    let node = Node::new(3).await;
    let (_echoes, backends) = servers(&node, v6);
    let (at, other) = (vip(v6, 53), vip(v6, 54));
    put(&node.maps, at, UDP, &backends[..1]);
    put(&node.maps, other, UDP, &backends[1..]);
    node.within(0, || {
        let socket = bound(v6);
        // One socket, two Services and a pod of no Service's.
        for to in [at, other, at, other] {
            assert_eq!(ask(&socket, to).unwrap(), to);
        }
        let connected = bound(v6);
        connected.connect(at).unwrap();
        assert_eq!(connected.peer_addr().unwrap(), at);
        connected.send(b"x").unwrap();
        assert_eq!(connected.recv_from(&mut [0; 8]).unwrap().1, at);
        assert_eq!(ask(&bound(v6), backends[1]).unwrap(), backends[1]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_socket_is_answered_by_an_ipv4_service() {
    let node = Node::new(3).await;
    let (_echoes, backends) = servers(&node, false);
    let at = vip(false, 53);
    put(&node.maps, at, UDP, &backends);
    node.within(0, || {
        let socket = bound(true);
        for _ in 0..2 {
            assert_eq!(plain(ask(&socket, mapped(at)).unwrap()), at);
        }
        socket.connect(mapped(at)).unwrap();
        assert_eq!(plain(socket.peer_addr().unwrap()), at);
        socket.send(b"x").unwrap();
        assert_eq!(plain(socket.recv_from(&mut [0; 8]).unwrap().1), at);
    });
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_stays_with_its_endpoint_and_leaves_it_when_that_goes(#[values(false, true)] v6: bool) {
    let node = Node::new(3).await;
    let (echoes, backends) = servers(&node, v6);
    let at = vip(v6, 53);
    let service = put(&node.maps, at, UDP, &backends);
    let socket = node.within(0, || bound(v6));
    let connected = node.within(0, || bound(v6));
    connected.connect(at).unwrap();
    let direct = node.within(0, || bound(v6));
    direct.connect(backends[0]).unwrap();
    for _ in 0..8 {
        assert_eq!(ask(&socket, at).unwrap(), at);
    }
    // Ends both servers: whoever was chosen answers no more.
    drop(echoes);
    let ids = service.ids.clone();
    node.maps.remove_backends(!v6, &ids).unwrap();
    let slots = (0..2).map(|slot| bpf_abi::service::SlotKey {
        set: service.set,
        slot,
    });
    let (_echoes, fresh) = servers(&node, v6);
    node.maps.remove_slots(&slots.collect::<Vec<_>>()).unwrap();
    put(&node.maps, at, UDP, &fresh);
    let gone = |called: kernel::services::At, id| called.port == at.port() && ids.contains(&id);
    let cookies = node.maps.forget_datagrams(gone).unwrap();
    assert_eq!(cookies.len(), 2, "one that is connected, one that isn't");
    let netns = &node.cluster.pods[0].netns;
    assert_eq!(sockdiag::end_datagrams(netns, &cookies).unwrap(), 1);
    let error = connected.recv_from(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    // The one that isn't connected goes on with another.
    assert_eq!(ask(&socket, at).unwrap(), at);
    assert_eq!(direct.peer_addr().unwrap(), backends[0]);
}
