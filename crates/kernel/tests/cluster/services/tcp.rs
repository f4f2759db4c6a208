//! TCP: connected once, and named as it was asked for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rstest::rstest;
use testkit::Echo;

use super::fixture::{Node, PATIENCE, TCP, put, vip};

/// Connects, and says under which address it was seen.
pub(super) fn talk(to: SocketAddr) -> std::io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut line, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        line.extend_from_slice(&byte);
    }
    stream.write_all(b"x")?;
    stream.read_exact(&mut byte)?;
    Ok((stream, String::from_utf8_lossy(&line).trim().to_owned()))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_to_its_endpoint_and_keeps_its_name(#[values(false, true)] v6: bool) {
    let node = Node::new(2).await;
    let echo = Echo::start(&node.cluster.pods[1].netns);
    let at = vip(v6, 80);
    put(
        &node.maps,
        at,
        TCP,
        &[SocketAddr::new(node.pod(1, v6), echo.port)],
    );
    node.within(0, || {
        let (stream, seen) = talk(at).unwrap();
        assert_eq!(seen, node.pod(0, v6).to_string());
        assert_eq!(stream.peer_addr().unwrap(), at);
    });
}
