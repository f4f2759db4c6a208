//! Listening sockets that outlive the process that uses them.
//!
//! ```text
//! supervisor ── open ──► sockets ── hand_over ──► process ── inherited
//!                           ▲                        │ killed: what comes in waits in the sockets
//!                           └──── Process::sockets ──┘ for a supervisor that comes later
//! ```

use std::env;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::NetNs;
use crate::context::Context;
use crate::process::Process;

/// Says to a program how many sockets it was given.
const COUNT: &str = "RIPSTOP_SOCKETS";
/// The first one's descriptor: beyond those that the parent opens by itself, so that none of them is
/// in the way when the program is started.
const FIRST: RawFd = 900;
/// As many as are ever given.
const MOST: usize = 64;

/// What waits while nobody reads: some seconds' worth of datagrams.
const RECEIVE_BUFFER: usize = 4 << 20;
const BACKLOG: i32 = 1024;

/// Listens at each of the addresses, by UDP and TCP. An address needn't be there yet, and others of
/// this user may listen at it as well.
///
/// # Errors
/// When somebody else listens there.
pub fn open(addresses: &[SocketAddr]) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    for address in addresses {
        for kind in [Type::DGRAM, Type::STREAM] {
            let what = if kind == Type::DGRAM { "UDP" } else { "TCP" };
            let socket = listen(*address, kind).context(|| format!("listen at {address} by {what}"))?;
            sockets.push(socket.into());
        }
    }
    Ok(sockets)
}

fn listen(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::DGRAM {
        Protocol::UDP
    } else {
        Protocol::TCP
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_reuse_port(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    if kind == Type::STREAM {
        // Connections of a process before us, half closed, are no reason to wait.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
    } else {
        enlarge(&socket);
        socket.bind(&address.into())?;
    }
    Ok(socket)
}

/// A socket in another network namespace, neither bound nor connected: what is sent by it leaves from there.
///
/// # Errors
/// When the namespace can't be entered, or has no such sockets.
pub fn open_in(netns: &NetNs, family_of: SocketAddr, stream: bool) -> io::Result<OwnedFd> {
    let kind = if stream { Type::STREAM } else { Type::DGRAM };
    let open = || Socket::new(Domain::for_address(family_of), kind, None);
    let socket = netns.run(open).map_err(io::Error::other)??;
    Ok(socket.into())
}

/// Beyond the system's limit where that is allowed, else up to it.
fn enlarge(socket: &Socket) {
    use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
    if setsockopt(socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
}

/// Whether the sockets are those of [`open`] with these addresses.
pub fn are_at(sockets: &[OwnedFd], addresses: &[SocketAddr]) -> bool {
    let bound = |socket: &OwnedFd| {
        let copy = Socket::from(socket.try_clone().ok()?);
        copy.local_addr().ok()?.as_socket()
    };
    let wanted = addresses.iter().flat_map(|address| [*address; 2]);
    sockets.len() == 2 * addresses.len()
        && sockets
            .iter()
            .zip(wanted)
            .all(|(socket, wanted)| bound(socket) == Some(wanted))
}

/// Gives the program copies of the sockets, which it gets from [`inherited`]. After
/// [`crate::process::prepare`].
///
/// # Errors
/// When there are no descriptors left.
pub fn hand_over(command: &mut Command, sockets: &[OwnedFd]) -> io::Result<()> {
    let count = i32::try_from(sockets.len().min(MOST)).expect("few enough");
    let mut sources = Vec::new();
    for socket in &sockets[..sockets.len().min(MOST)] {
        let above = nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(FIRST + count);
        let copy = nix::fcntl::fcntl(socket, above)?;
        #[expect(unsafe_code, reason = "fcntl gives a bare number")]
        // SAFETY: the call made this descriptor, and nobody else knows of it.
        sources.push(unsafe { OwnedFd::from_raw_fd(copy) });
    }
    command.env(COUNT, sources.len().to_string());
    let place = move || -> io::Result<()> {
        for (target, source) in (FIRST..).zip(&sources) {
            #[expect(unsafe_code, reason = "nix's dup2 wants to own the target")]
            // SAFETY: a bare system call between fork and exec. The target is below all sources, and
            // nothing else in the child uses it: the parent's own descriptors are below FIRST.
            Errno::result(unsafe { libc::dup2(source.as_raw_fd(), target) })?;
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "descriptors get their numbers between fork and exec")]
    // SAFETY: the closure makes bare system calls on descriptors that were opened before the fork, and
    // neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(place);
    }
    Ok(())
}

/// The sockets that this program was given, if it was. To be called once.
///
/// # Errors
/// When what it was given aren't open descriptors.
pub fn inherited() -> io::Result<Option<Vec<OwnedFd>>> {
    let Some(count) = env::var(COUNT).ok().and_then(|text| text.parse::<RawFd>().ok()) else {
        return Ok(None);
    };
    let mut sockets = Vec::new();
    for number in FIRST..FIRST + count.clamp(0, MOST as RawFd) {
        #[expect(unsafe_code, reason = "a descriptor's number is all that a program is given")]
        // SAFETY: fcntl only looks at the number; it is ours by the agreement with whoever started us.
        let socket = unsafe {
            Errno::result(libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC))
                .map_err(io::Error::from)
                .context(|| format!("use the socket {number} that was given"))?;
            OwnedFd::from_raw_fd(number)
        };
        sockets.push(socket);
    }
    Ok(Some(sockets))
}

impl Process {
    /// Copies of the sockets that it was given.
    ///
    /// # Errors
    /// When it has none any more, or the kernel gives none out (before Linux 5.6).
    pub fn sockets(&self, count: usize) -> io::Result<Vec<OwnedFd>> {
        (FIRST..)
            .take(count)
            .map(|number| self.copy_descriptor(number))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Stdio;
    use std::time::Duration;

    use super::*;
    use crate::process::ProcessId;

    fn free() -> Vec<SocketAddr> {
        let any = UdpSocket::bind("127.0.0.1:0").expect("a port");
        vec![any.local_addr().expect("bound")]
    }

    #[test]
    fn an_address_that_is_not_there_yet_can_be_listened_at() {
        let addresses: Vec<SocketAddr> = ["192.0.2.53:5353", "[2001:db8::53]:5353"]
            .map(|text| text.parse().expect("an address"))
            .into();
        let sockets = open(&addresses).expect("bound");
        assert!(are_at(&sockets, &addresses));
        assert!(!are_at(&sockets, &free()));
        open(&addresses).expect("a second time, beside the first");
    }

    #[test]
    fn what_comes_in_waits_for_the_next_process() {
        let addresses = free();
        let sockets = open(&addresses).expect("bound");
        let start = || {
            let mut command = Command::new("sleep");
            command.arg("60").stdin(Stdio::null());
            hand_over(&mut command, &sockets).expect("handed over");
            command.spawn().expect("sleep runs")
        };
        let mut child = start();
        let process = ProcessId::of(child.id())
            .expect("alive")
            .open()
            .expect("pidfd")
            .expect("alive");
        let taken = process.sockets(2).expect("taken back");
        assert!(are_at(&taken, &addresses), "the child has them, in order");
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert!(process.sockets(2).is_err(), "it is gone");

        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        client
            .send_to(b"hello", addresses[0])
            .expect("sent to nobody in particular");
        drop(sockets);
        let reader = UdpSocket::from(taken.into_iter().next().expect("the UDP one"));
        reader
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("set");
        let mut buffer = [0; 16];
        let length = reader.recv(&mut buffer).expect("it waited");
        assert_eq!(&buffer[..length], b"hello");
    }
}
