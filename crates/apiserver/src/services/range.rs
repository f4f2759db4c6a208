//! Ranges that addresses and ports are taken from.
//!
//! Kubernetes' bands: the lower part is left to those who choose themselves, as long as there is room above it.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use rand::Rng;

/// A range of numbers; numbers below `middle` are given last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Band {
    first: u128,
    middle: u128,
    last: u128,
}

impl Band {
    pub(super) fn of_ports(ports: &RangeInclusive<u16>) -> Band {
        let (first, last) = (u128::from(*ports.start()), u128::from(*ports.end()));
        let size = (last + 1).saturating_sub(first);
        Band {
            first,
            middle: first + lower(size, size / 32, 128),
            last,
        }
    }

    /// The addresses that Services can have: not the network's own, and not IPv4's broadcast.
    pub(super) fn of_addresses(range: IpNet) -> Band {
        let (network, end) = (bits(range.network()), bits(range.broadcast()));
        let last = if range.addr().is_ipv4() {
            end.saturating_sub(1)
        } else {
            end
        };
        let size = (end - network).saturating_add(1);
        let first = network.saturating_add(1);
        Band {
            first,
            middle: first.saturating_add(lower(size, size / 16, 256)),
            last,
        }
    }

    pub(super) fn contains(&self, number: u128) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// Every number once, beginning somewhere in the upper part.
    pub(super) fn candidates(&self) -> impl Iterator<Item = u128> {
        let below = self.middle.saturating_sub(1).min(self.last);
        rotated(self.middle, self.last).chain(rotated(self.first, below))
    }
}

/// The size of the lower part.
fn lower(size: u128, part: u128, most: u128) -> u128 {
    if size <= 16 { 0 } else { part.clamp(16, most) }
}

/// All numbers of a range, from a random one on.
fn rotated(first: u128, last: u128) -> impl Iterator<Item = u128> {
    let start = if first <= last {
        rand::rng().random_range(first..=last)
    } else {
        first
    };
    (start..=last).chain(first..start)
}

pub(super) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address with these bits, of the same family as another.
pub(super) fn address(bits: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => {
            let bits = u32::try_from(bits).expect("an IPv4 range has IPv4 addresses");
            IpAddr::V4(bits.into())
        }
        IpAddr::V6(_) => IpAddr::V6(bits.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn all(band: Band) -> Vec<u128> {
        band.candidates().collect()
    }

    #[test]
    fn every_address_of_a_range_is_given_once_and_those_below_the_band_last() {
        for (range, usable, lower) in [
            ("10.96.0.0/16", 65_534, 256),
            ("10.96.0.0/24", 254, 16),
            ("10.96.0.0/28", 14, 0),
            ("10.96.0.0/32", 0, 0),
            ("10.96.0.0/31", 0, 0),
            ("fd00::/112", 65_535, 256),
            ("fd00::/124", 15, 0),
        ] {
            let (range, band) = (net(range), Band::of_addresses(net(range)));
            let given = all(band);
            let mut sorted = given.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!((given.len(), sorted.len()), (usable, usable), "{range}");
            let network = bits(range.network());
            assert!(!given.contains(&network), "{range}");
            let last = &given[given.len() - lower..];
            assert!(last.iter().all(|n| *n <= network + lower as u128), "{range}");
        }
    }

    #[test]
    fn large_ranges_cost_nothing() {
        for range in ["fd00::/8", "::/0", "0.0.0.0/0"] {
            let band = Band::of_addresses(net(range));
            let first: Vec<_> = band.candidates().take(3).collect();
            assert_eq!(first.len(), 3);
            assert!(first.iter().all(|n| band.contains(*n)));
        }
    }

    #[test]
    fn the_first_node_ports_are_left_to_those_who_choose() {
        let given = all(Band::of_ports(&(30_000..=32_767)));
        assert_eq!(given.len(), 2768);
        let chosen: Vec<_> = given[2768 - 86..].iter().map(|n| n - 30_000).collect();
        assert!(chosen.iter().all(|n| *n < 86), "{chosen:?}");
        assert_eq!(all(Band::of_ports(&(30_000..=30_003))).len(), 4);
    }
}
