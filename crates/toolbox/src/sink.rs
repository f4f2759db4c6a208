//! Where `toolbox flood` sends to: what arrives is counted, and the count sent back.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

/// A connection on which nothing arrives for this long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Room for what arrives while this process isn't running; the kernel gives what it allows.
const WAITING: usize = 4 << 20;
/// The datagram that asks how many came before it.
pub(crate) const QUESTION: &[u8] = b"?";

/// Counts what arrives until the client has said all, then tells it how many bytes that were.
pub(crate) fn tcp(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(IDLE));
    let _ = stream.set_write_timeout(Some(Duration::from_secs(30)));
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => bytes += n as u64,
            Err(_) => return,
        }
    }
    // A client that has gone isn't told.
    let _ = writeln!(stream, "{bytes}");
}

/// Counts datagrams, and answers [`QUESTION`] with their number. Never returns.
pub(crate) fn udp(socket: &UdpSocket) {
    let _ = setsockopt(socket, sockopt::RcvBuf, &WAITING);
    let mut buffer = vec![0; 64 << 10];
    let mut datagrams = 0_u64;
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((n, from)) if buffer[..n] == *QUESTION => {
                let _ = socket.send_to(format!("{datagrams}\n").as_bytes(), from);
            }
            Ok(_) => datagrams += 1,
            // Errors of earlier answers (ICMP) come back here; don't spin on them.
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}
