//! Sockets of a network namespace, ended from outside.
//!
//! A UDP socket that is connected keeps its peer whatever becomes of it. If its peer was a Service's
//! endpoint that is gone, what it sends would go to whoever has the address next: the socket is ended
//! instead, its owner reads that the connection was aborted, and asks again.

use std::collections::HashSet;

use crate::direct::{Direct, Message};
use crate::{NetNs, Result};

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`
const DESTROY: u16 = 21;
const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_DUMP: u16 = 0x300;
/// `1 << TCP_ESTABLISHED`, which is also what connected UDP sockets are.
const CONNECTED: u32 = 1 << 1;
/// `struct inet_diag_sockid`
const ID: usize = 48;
/// Where it is in `struct inet_diag_msg`.
const ID_AT: usize = 4;
/// Where in it the kernel's cookie of the socket is.
const COOKIE_AT: usize = 40;

/// Ends the connected UDP sockets of a namespace that are among those, by the kernel's cookies; says how
/// many there were.
pub fn end_datagrams(netns: &NetNs, cookies: &HashSet<u64>) -> Result<usize> {
    if cookies.is_empty() {
        return Ok(0);
    }
    let diag = netns.run(Direct::sockets)??;
    let mut ended = 0;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).expect("families are small numbers");
        let request = message(BY_FAMILY, F_REQUEST | F_DUMP, family, &[0; ID]);
        let found = diag.dump(&request, "read the sockets", |message| found(message, cookies));
        let found = match found {
            // A kernel without IPv6 has none of its sockets.
            Err(error) if error.is_not_found() => continue,
            found => found?,
        };
        for id in found {
            let request = message(DESTROY, F_REQUEST | F_ACK, family, &id);
            match diag.execute(&request, "end a socket", |_| None::<()>) {
                Ok(_) => ended += 1,
                // Closed meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(ended)
}

/// A socket's id, if it's one of those.
fn found(message: &Message<'_>, cookies: &HashSet<u64>) -> Option<[u8; ID]> {
    let id: [u8; ID] = message.body.get(ID_AT..ID_AT + ID)?.try_into().ok()?;
    let cookie = u64::from_ne_bytes(id[COOKIE_AT..].try_into().ok()?);
    (message.kind == BY_FAMILY && cookies.contains(&cookie)).then_some(id)
}

fn message(kind: u16, flags: u16, family: u8, id: &[u8; ID]) -> Vec<u8> {
    const LENGTH: u32 = 16 + 8 + ID as u32;
    let protocol = u8::try_from(libc::IPPROTO_UDP).expect("it's 17");
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&LENGTH.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    // One question at a time needs no number; the port: the kernel knows who asks.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, protocol, 0, 0]);
    bytes.extend_from_slice(&CONNECTED.to_ne_bytes());
    bytes.extend_from_slice(id);
    bytes
}
