//! Answers that are short, however large the question.
//!
//! What comes back by another way must not count: so whoever measures asks for the head of its
//! datagram alone, and a server that knows this sends no more back. One that doesn't echoes all of
//! it, and the answer is about both directions.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a datagram that asks for its head begins with.
const ASKS: &[u8; 16] = b"path-mtu: head\r\n";

/// How much comes back: that beginning, and what tells datagrams apart.
pub(crate) const HEAD: usize = ASKS.len() + 12;

/// How often a server looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// What an echo server sends back of a datagram: all of it, or what it asks for.
pub fn head(datagram: &[u8]) -> &[u8] {
    match datagram.starts_with(ASKS) {
        true => &datagram[..datagram.len().min(HEAD)],
        false => datagram,
    }
}

/// A datagram of so many bytes that asks for its head.
pub(crate) fn question(token: u64, length: usize) -> Vec<u8> {
    let mut datagram = vec![0; length.max(HEAD)];
    datagram[..ASKS.len()].copy_from_slice(ASKS);
    datagram[ASKS.len()..][..8].copy_from_slice(&token.to_be_bytes());
    datagram[ASKS.len() + 8..HEAD].copy_from_slice(&(length as u32).to_be_bytes());
    datagram
}

/// The length of the question that this answers, if it is one of `token`'s.
pub(crate) fn answered(token: u64, datagram: &[u8]) -> Option<usize> {
    let rest = datagram.strip_prefix(ASKS)?;
    let (seen, rest) = rest.split_at_checked(8)?;
    let length = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
    (seen == token.to_be_bytes()).then_some(length as usize)
}

/// A server that answers such questions on an address until it is dropped. It answers nothing else.
#[derive(Debug)]
pub struct Answerer {
    at: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answerer {
    /// Listens at any free port of the address, in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the address isn't there, or no socket or thread is to be had.
    pub fn listen(address: IpAddr) -> io::Result<Answerer> {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_read_timeout(Some(LOOK))?;
        let at = socket.local_addr()?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let serve = move || serve(&socket, &stopped);
        let thread = thread::Builder::new().name("path-mtu".to_owned()).spawn(serve)?;
        Ok(Answerer {
            at,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub const fn at(&self) -> SocketAddr {
        self.at
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) if buffer[..length].starts_with(ASKS) => {
                // An answer that can't be sent is lost, as datagrams are.
                let _ = socket.send_to(head(&buffer[..length]), from);
            }
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // What came of an earlier answer; don't spin on it.
                thread::sleep(Duration::from_millis(1));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_tells_which_question_it_answers() {
        let datagram = question(7, 1400);
        let answer = head(&datagram);
        assert_eq!((datagram.len(), answer.len()), (1400, HEAD));
        assert_eq!(answered(7, answer), Some(1400));
        assert_eq!(answered(8, answer), None);
        assert_eq!(answered(7, &datagram), Some(1400), "an echo of all of it, too");
        assert_eq!(answered(7, &answer[..HEAD - 1]), None);
    }

    #[test]
    fn anything_else_is_echoed_whole() {
        let text = [b'x'; 100];
        assert_eq!(head(&text), text);
        assert_eq!(head(b""), b"");
        assert_eq!(head(&ASKS[..5]), &ASKS[..5]);
    }
}
