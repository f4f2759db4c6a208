//! Values that are joined: the keys and data of maps.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::KeyType;
use crate::lower::octets;

/// One value of a joined key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// An address.
    Address(IpAddr),
    /// A transport protocol, by its number.
    Protocol(u8),
    /// A port.
    Port(u16),
    /// A mark.
    Mark(u32),
}

/// Values that are joined, as in `tcp . 8080`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple(Vec<Atom>);

impl Tuple {
    /// These values.
    pub fn new(atoms: impl Into<Vec<Atom>>) -> Tuple {
        Tuple(atoms.into())
    }

    /// Its values, in order.
    pub fn atoms(&self) -> &[Atom] {
        &self.0
    }

    /// The first address among its values.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.iter().find_map(|atom| match atom {
            Atom::Address(address) => Some(*address),
            _ => None,
        })
    }

    /// The first port among its values.
    pub fn port(&self) -> Option<u16> {
        self.0.iter().find_map(|atom| match atom {
            Atom::Port(port) => Some(*port),
            _ => None,
        })
    }

    /// The first protocol among its values.
    pub fn protocol(&self) -> Option<u8> {
        self.0.iter().find_map(|atom| match atom {
            Atom::Protocol(protocol) => Some(*protocol),
            _ => None,
        })
    }

    /// The first address and the first port among its values.
    pub fn socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address()?, self.port()?))
    }

    /// The first mark among its values.
    pub fn mark(&self) -> Option<u32> {
        self.0.iter().find_map(|atom| match atom {
            Atom::Mark(mark) => Some(*mark),
            _ => None,
        })
    }

    /// As the kernel has it: where there are several values each is padded to four bytes.
    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for atom in &self.0 {
            match atom {
                Atom::Address(address) => bytes.extend(octets(*address)),
                Atom::Protocol(protocol) => bytes.push(*protocol),
                Atom::Port(port) => bytes.extend(port.to_be_bytes()),
                // A number of this machine, not of the wire.
                Atom::Mark(mark) => bytes.extend(mark.to_ne_bytes()),
            }
            if self.0.len() > 1 {
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
        }
        bytes
    }

    /// The values of such bytes; `None` if they aren't of those types.
    pub(crate) fn parse(types: &[KeyType], bytes: &[u8]) -> Option<Tuple> {
        let mut rest = bytes;
        let mut atoms = Vec::new();
        for one in types {
            let (value, padded) = (one.length(), one.length().next_multiple_of(4));
            let (bytes, behind) = rest.split_at_checked(if types.len() > 1 { padded } else { value })?;
            let value = &bytes[..value];
            atoms.push(match one {
                KeyType::Ipv4 | KeyType::Ipv6 => Atom::Address(one.address(value)?),
                KeyType::Protocol => Atom::Protocol(*value.first()?),
                KeyType::Port => Atom::Port(u16::from_be_bytes(value.try_into().ok()?)),
                KeyType::Mark => Atom::Mark(u32::from_ne_bytes(value.try_into().ok()?)),
            });
            rest = behind;
        }
        rest.is_empty().then_some(Tuple(atoms))
    }
}

impl From<SocketAddr> for Tuple {
    fn from(socket: SocketAddr) -> Tuple {
        Tuple::new([Atom::Address(socket.ip()), Atom::Port(socket.port())])
    }
}

impl From<IpAddr> for Tuple {
    fn from(address: IpAddr) -> Tuple {
        Tuple::new([Atom::Address(address)])
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Address(address) => address.fmt(f),
            Atom::Protocol(1) => f.write_str("icmp"),
            Atom::Protocol(58) => f.write_str("ipv6-icmp"),
            Atom::Protocol(6) => f.write_str("tcp"),
            Atom::Protocol(17) => f.write_str("udp"),
            Atom::Protocol(132) => f.write_str("sctp"),
            Atom::Protocol(other) => other.fmt(f),
            Atom::Port(port) => port.fmt(f),
            Atom::Mark(mark) => write!(f, "{mark:#010x}"),
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, atom) in self.0.iter().enumerate() {
            write!(f, "{}{atom}", if i == 0 { "" } else { " . " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_values_are_padded_and_single_ones_are_not() {
        let tuple = Tuple::new([Atom::Protocol(6), Atom::Port(8080)]);
        assert_eq!(tuple.octets(), [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(tuple.to_string(), "tcp . 8080");
        let types = [KeyType::Protocol, KeyType::Port];
        assert_eq!(Tuple::parse(&types, &tuple.octets()), Some(tuple));
        assert_eq!(Tuple::parse(&types, &[6, 0, 0, 0, 0x1f, 0x90, 0]), None);
        assert_eq!(Tuple::parse(&types, &[0; 12]), None);
        let address = Tuple::from("10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(Tuple::parse(&[KeyType::Ipv4], &address.octets()), Some(address));
    }
}
