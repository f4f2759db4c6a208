//! Frames that no network stack would send, byte by byte.

use std::net::IpAddr;

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const ARP: u16 = 0x0806;

pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Ports of whoever asks, and of whoever is asked.
const PORTS: [u8; 4] = [0x5b, 0xa1, 0x1f, 0x90];

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// Who sends to whom, by IP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

pub(crate) fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// ARP, of operation 1 or 2, in the name of an address and an Ethernet address.
pub(crate) fn arp(operation: u8, name: IpAddr, mac: Mac, about: IpAddr) -> Vec<u8> {
    let start = [0, 1, 8, 0, 6, 4, 0, operation];
    [&start[..], &mac, &octets(name), &[0; 6], &octets(about)].concat()
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The Internet checksum.
pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |byte| u32::from(*byte)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

impl Ends {
    pub(crate) fn new(source: IpAddr, destination: IpAddr) -> Ends {
        Ends { source, destination }
    }

    /// An IP packet, with an Ethernet header.
    pub(crate) fn frame(&self, to: Mac, from: Mac, protocol: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap();
        let (source, destination) = (octets(self.source), octets(self.destination));
        if self.source.is_ipv6() {
            let start = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[protocol, hops]].concat();
            let packet = [&start, &source, &destination, payload].concat();
            return ethernet(to, from, IPV6, &packet);
        }
        let total = (length + 20).to_be_bytes();
        let start = [&[0x45, 0][..], &total, &[0, 7, 0x40, 0, hops, protocol]].concat();
        let checksum = sum(&[&start, &source, &destination]).to_be_bytes();
        let packet = [&start, &checksum[..], &source, &destination, payload].concat();
        ethernet(to, from, IPV4, &packet)
    }

    pub(crate) fn udp(&self, to: Mac, from: Mac, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + data.len()).unwrap().to_be_bytes();
        let datagram = [&PORTS[..], &length, &[0, 0], data].concat();
        self.frame(to, from, UDP, 64, &self.summed(UDP, datagram, 6))
    }

    pub(crate) fn tcp(&self, to: Mac, from: Mac, flags: u8, data: &[u8]) -> Vec<u8> {
        let rest = [0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0];
        let segment = [&PORTS[..], &rest, data].concat();
        self.frame(to, from, TCP, 64, &self.summed(TCP, segment, 16))
    }

    pub(crate) fn echo(&self, to: Mac, from: Mac, data: &[u8]) -> Vec<u8> {
        let kind = if self.source.is_ipv6() { 128 } else { 8 };
        self.icmp(
            to,
            from,
            64,
            &[&[kind, 0, 0, 0, 0x12, 0x34, 0, 1][..], data].concat(),
        )
    }

    /// A message of ICMP's or ICMPv6's.
    pub(crate) fn icmp(&self, to: Mac, from: Mac, hops: u8, message: &[u8]) -> Vec<u8> {
        let protocol = if self.source.is_ipv6() { ICMPV6 } else { ICMP };
        self.frame(
            to,
            from,
            protocol,
            hops,
            &self.summed(protocol, message.to_vec(), 2),
        )
    }

    /// A neighbour's message about an address (RFC 4861): solicitation 135, advertisement 136.
    pub(crate) fn neighbour(&self, to: Mac, from: Mac, kind: u8, about: IpAddr) -> Vec<u8> {
        let start = [kind, 0, 0, 0, 0xe0, 0, 0, 0];
        let option = [&[if kind == 135 { 1 } else { 2 }, 1][..], &from].concat();
        self.icmp(to, from, 255, &[&start[..], &octets(about), &option].concat())
    }

    fn summed(&self, protocol: u8, mut payload: Vec<u8>, at: usize) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let pseudo = [
            octets(self.source),
            octets(self.destination),
            length.to_vec(),
            vec![0, 0, 0, protocol],
        ]
        .concat();
        let over: &[u8] = if protocol == ICMP { &[] } else { &pseudo };
        let checksum = sum(&[over, &payload]).to_be_bytes();
        payload[at..at + 2].copy_from_slice(&checksum);
        payload
    }
}
