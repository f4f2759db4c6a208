//! A client of DNS, as plain as can be, and a server that can lie.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// As long as resolvers wait before they ask again.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A question for the IPv4 addresses of a name.
pub fn question(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).expect("labels are short"));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Where the question of a message ends, if it has a whole one.
pub fn end_of_question(message: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match usize::from(*message.get(at)?) {
            0 => break,
            length => at += length + 1,
        }
    }
    (message.len() >= at + 5).then_some(at + 5)
}

/// The question's own answer: an address, for a second.
pub fn answer(question: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let mut bytes = question.get(..end_of_question(question)?)?.to_vec();
    bytes[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
    bytes.extend(address.octets());
    Some(bytes)
}

/// The question's own answer: nothing, for a reason.
pub fn refusal(question: &[u8], code: u8) -> Option<Vec<u8>> {
    let mut bytes = question.get(..end_of_question(question)?)?.to_vec();
    bytes[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    Some(bytes)
}

/// Asks one server, and waits as long as a resolver does.
#[derive(Debug)]
pub struct Asker {
    socket: UdpSocket,
    id: u16,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The response code.
    pub code: u8,
    /// The last address that it tells.
    pub address: Option<Ipv4Addr>,
}

impl Asker {
    /// One for this server.
    ///
    /// # Panics
    /// If the machine has no port or no route.
    pub fn new(server: SocketAddr) -> Asker {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
        socket.connect(server).expect("a route");
        Asker { socket, id: 0 }
    }

    /// Asks once.
    ///
    /// # Errors
    /// If nothing was heard in time.
    pub fn ask(&mut self, name: &str) -> Result<Reply, String> {
        let end = Instant::now() + PATIENCE;
        self.id = self.id.wrapping_add(1);
        let question = question(self.id, name);
        while let Err(error) = self.socket.send(&question) {
            if Instant::now() > end {
                return Err(format!("{name} can't be asked for: {error}"));
            }
            // Nobody listened to an earlier one, which is told now: this one wasn't sent.
            std::thread::sleep(Duration::from_millis(10));
        }
        self.hear(end).ok_or_else(|| format!("{name}: no answer"))
    }

    /// The answer to the last question; those to earlier ones are late.
    fn hear(&self, end: Instant) -> Option<Reply> {
        let mut buffer = [0; 1232];
        loop {
            let left = end.checked_duration_since(Instant::now())?;
            let wait = left.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(wait)).expect("it can be set");
            let Ok(length) = self.socket.recv(&mut buffer) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let message = &buffer[..length];
            if length < 12 || message[..2] != self.id.to_be_bytes() {
                continue;
            }
            let tells = message[6..8] != [0, 0] && length >= 16;
            let last = || <[u8; 4]>::try_from(&message[length - 4..]).ok();
            return Some(Reply {
                code: message[3] & 0xf,
                address: tells.then(last).flatten().map(Ipv4Addr::from),
            });
        }
    }
}
