//! TCP and UDP echo.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};

use crate::drain::State;

/// A connection on which nothing happens for this long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// Sends back what arrives until the client has said all.
pub(crate) fn tcp(mut stream: TcpStream, state: &State) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(IDLE));
    let _ = stream.set_write_timeout(Some(Duration::from_secs(30)));
    let mut buffer = [0; 16 << 10];
    while let Ok(n) = stream.read(&mut buffer) {
        let _working = state.work();
        if n == 0 || stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// Sends every datagram back, or the head of one that asks for no more, from the address it was sent to, which a machine
/// with several addresses must take care of itself. Never returns.
pub(crate) fn udp(socket: &UdpSocket) {
    let v6 = socket.local_addr().is_ok_and(|at| at.is_ipv6());
    let told = if v6 {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)
    } else {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)
    };
    if let Err(e) = told {
        eprintln!("toolbox: UDP echo answers from the first address it has: {e}");
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        // A datagram that can't be sent back is lost, as datagrams are.
        match echo_one(socket, &mut buffer) {
            Ok(()) | Err(Errno::EINTR) => {}
            // Errors of earlier replies (ICMP) come back here; don't spin on them.
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn echo_one(socket: &UdpSocket, buffer: &mut [u8]) -> nix::Result<()> {
    let fd = socket.as_raw_fd();
    let mut space = cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space), MsgFlags::empty())?;
    let from = message.address;
    let n = message.bytes;
    let destination = message.cmsgs()?.find(|control| {
        matches!(
            control,
            ControlMessageOwned::Ipv6PacketInfo(_) | ControlMessageOwned::Ipv4PacketInfo(_)
        )
    });
    let parts = [IoSlice::new(path_mtu::answer::head(&buffer[..n]))];
    let send = |control: &[ControlMessage<'_>]| {
        sendmsg(fd, &parts, control, MsgFlags::empty(), from.as_ref()).map(drop)
    };
    // The interface is left to the routes, except for link-local addresses,
    // which mean nothing without it.
    match destination {
        Some(ControlMessageOwned::Ipv6PacketInfo(mut info)) => {
            if info.ipi6_addr.s6_addr[..2] != [0xfe, 0x80] {
                info.ipi6_ifindex = 0;
            }
            send(&[ControlMessage::Ipv6PacketInfo(&info)])
        }
        Some(ControlMessageOwned::Ipv4PacketInfo(mut info)) => {
            info.ipi_ifindex = 0;
            info.ipi_spec_dst = info.ipi_addr;
            send(&[ControlMessage::Ipv4PacketInfo(&info)])
        }
        _ => send(&[]),
    }
}
