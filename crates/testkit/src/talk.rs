//! TCP between namespaces, with plain sockets: a server that says who it sees, and a client that
//! asks.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kernel::NetNs;

const TIMEOUT: Duration = Duration::from_secs(3);

/// A TCP server in a namespace that answers each connection with the client's address as it sees
/// it, then echoes what it's sent. It ends when dropped.
#[derive(Debug)]
pub struct Echo {
    /// The port it listens on, of every address of its namespace.
    pub port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts one in `netns`.
    pub fn start(netns: &NetNs) -> Echo {
        let any: [SocketAddr; 2] = [
            (Ipv6Addr::UNSPECIFIED, 0).into(),
            (Ipv4Addr::UNSPECIFIED, 0).into(),
        ];
        let listener = netns
            .run(|| TcpListener::bind(&any[..]))
            .expect("entering the server's namespace");
        let listener = listener.expect("listening in a namespace of the test's own");
        listener
            .set_nonblocking(true)
            .expect("a socket can be made non-blocking");
        let port = listener
            .local_addr()
            .expect("a bound socket has an address")
            .port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(&listener, &stopped));
        Echo {
            port,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, peer)) => drop(thread::spawn(move || answer(stream, peer))),
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn answer(mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    writeln!(stream, "{}", peer.ip().to_canonical())?;
    let mut reader = stream.try_clone()?;
    io::copy(&mut reader, &mut stream).map(drop)
}

/// Connects from `netns` to an [`Echo`] and returns the address under which it was seen. Sends 32
/// KiB on the way, so packets of full size, and checks that they come back.
pub fn ask(netns: &NetNs, server: SocketAddr) -> io::Result<IpAddr> {
    netns.run(|| ask_here(server)).map_err(io::Error::other)?
}

fn ask_here(server: SocketAddr) -> io::Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        line.extend_from_slice(&byte);
    }
    let sent: Vec<u8> = (0..32 * 1024_u32).map(|n| n.to_be_bytes()[3]).collect();
    stream.write_all(&sent)?;
    let mut received = vec![0; sent.len()];
    stream.read_exact(&mut received)?;
    if received != sent {
        return Err(io::Error::other("the echo differs from what was sent"));
    }
    let text = String::from_utf8_lossy(&line);
    text.trim().parse().map_err(io::Error::other)
}
