//! Captured frames, taken apart as far as tests ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IANA's port of VXLAN.
const VXLAN_PORT: u16 = 4789;
const UDP: u8 = 17;

/// An IP packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
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

/// The Ethernet address that a frame is for.
pub(crate) fn target(frame: &[u8]) -> [u8; 6] {
    frame[..6].try_into().unwrap()
}
