//! Captured frames, taken apart as far as tests ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IANA's port of VXLAN.
const VXLAN_PORT: u16 = 4789;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// An IP packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// It may not be fragmented, and isn't a fragment.
    pub(crate) never_fragmented: bool,
    protocol: u8,
    payload: &'a [u8],
}

/// A frame inside a tunnel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tunnelled<'a> {
    pub(crate) outer: Packet<'a>,
    pub(crate) vni: u32,
    pub(crate) frame: &'a [u8],
}

impl<'a> Packet<'a> {
    /// What it carries, if it's of that protocol.
    pub(crate) fn transport(&self, protocol: u8) -> Option<&'a [u8]> {
        (self.protocol == protocol).then_some(self.payload)
    }
}

/// The IP packet of a frame, if it's one.
pub(crate) fn packet(frame: &[u8]) -> Option<Packet<'_>> {
    let (kind, packet) = (frame.get(12..14)?, frame.get(14..)?);
    match kind {
        [0x08, 0x00] => {
            let header = usize::from(packet.first()? & 0xf) * 4;
            let address = |at: usize| {
                <[u8; 4]>::try_from(packet.get(at..at + 4)?)
                    .ok()
                    .map(Ipv4Addr::from)
            };
            Some(Packet {
                source: address(12)?.into(),
                destination: address(16)?.into(),
                never_fragmented: packet.get(6..8)? == [0x40, 0],
                protocol: *packet.get(9)?,
                payload: packet.get(header..)?,
            })
        }
        [0x86, 0xdd] => {
            let address = |at: usize| {
                <[u8; 16]>::try_from(packet.get(at..at + 16)?)
                    .ok()
                    .map(Ipv6Addr::from)
            };
            Some(Packet {
                source: address(8)?.into(),
                destination: address(24)?.into(),
                never_fragmented: true,
                protocol: *packet.get(6)?,
                payload: packet.get(40..)?,
            })
        }
        _ => None,
    }
}

/// What a frame carries in a tunnel, if it does.
pub(crate) fn tunnelled(frame: &[u8]) -> Option<Tunnelled<'_>> {
    let outer = packet(frame).filter(|packet| packet.protocol == UDP)?;
    let port = outer.payload.get(2..4)?;
    if u16::from_be_bytes(port.try_into().ok()?) != VXLAN_PORT {
        return None;
    }
    let vni: [u8; 4] = outer.payload.get(12..16)?.try_into().ok()?;
    Some(Tunnelled {
        outer,
        vni: u32::from_be_bytes(vni) >> 8,
        frame: outer.payload.get(16..)?,
    })
}

/// The segment size that the beginning of a TCP connection asks for.
pub(crate) fn segment_size(frame: &[u8]) -> Option<(Packet<'_>, u16)> {
    const SYN: u8 = 0x02;
    let packet = packet(frame).filter(|packet| packet.protocol == TCP)?;
    let segment = packet.payload;
    if segment.get(13)? & SYN == 0 {
        return None;
    }
    // Linux puts it first.
    match segment.get(20..24)? {
        [2, 4, high, low] => Some((packet, u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// The Ethernet address that a frame is for.
pub(crate) fn target(frame: &[u8]) -> [u8; 6] {
    frame[..6].try_into().unwrap()
}
