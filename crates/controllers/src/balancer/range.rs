//! Ranges of addresses, as in `172.30.0.200-172.30.0.250` or `fd00::/120`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::LazyLock;

use ipnet::IpNet;

/// Addresses of one family, from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// It isn't a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no range of addresses: write FIRST-LAST, as in 172.30.0.200-172.30.0.250, or a network, as in fd00::/120"
)]
pub struct ParseRangeError(String);

impl FromStr for AddressRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.split_once('-') {
            Some((first, last)) => first.trim().parse().ok().zip(last.trim().parse().ok()),
            None => text
                .trim()
                .parse::<IpNet>()
                .ok()
                .map(|net| (net.network(), net.broadcast())),
        };
        parsed
            .filter(|(first, last): &(IpAddr, IpAddr)| first.is_ipv4() == last.is_ipv4() && first <= last)
            .map(|(first, last)| Self { first, last })
            .ok_or_else(|| ParseRangeError(text.to_owned()))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl AddressRange {
    pub(super) fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    /// How many addresses it has.
    pub(super) fn size(&self) -> u128 {
        (bits(self.last) - bits(self.first)).saturating_add(1)
    }

    /// Whether all its addresses can be a Service's. What is special begins and ends at round numbers, and no
    /// range of use begins before one and ends after it.
    pub(super) fn is_usable(&self) -> bool {
        let around = |special: &IpNet| self.contains(special.network());
        ![self.first, self.last].into_iter().any(is_special) && !SPECIAL.iter().any(around)
    }

    /// Sorted, and each address once.
    pub(super) fn merge(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.sort_by_key(|range| (!range.is_ipv4(), bits(range.first)));
        let mut merged: Vec<Self> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if last.contains(range.first) => last.last = last.last.max(range.last),
                _ => merged.push(range),
            }
        }
        merged
    }

    /// The first address that both have.
    pub(super) fn shares_with(&self, other: &Self) -> Option<IpAddr> {
        let first = self.first.max(other.first);
        (self.contains(first) && other.contains(first)).then_some(first)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (first, last) = (bits(self.first), bits(self.last));
        let v4 = self.is_ipv4();
        (first..=last).map(move |bits| address(bits, v4))
    }
}

/// Addresses that are no host's on a link: this network, loopback, link-local and multicast ones, those that are
/// reserved.
static SPECIAL: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    let texts = [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/127",
        "::ffff:0:0/96",
        "fe80::/10",
        "ff00::/8",
    ];
    texts
        .into_iter()
        .map(|text| text.parse().expect("these are networks"))
        .collect()
});

fn is_special(address: IpAddr) -> bool {
    SPECIAL.iter().any(|special| special.contains(&address))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(bits: u128, v4: bool) -> IpAddr {
    if v4 {
        let bits = u32::try_from(bits).expect("an IPv4 range ends with an IPv4 address");
        IpAddr::V4(bits.into())
    } else {
        IpAddr::V6(bits.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_addresses_are_no_services() {
        for text in [
            "0.0.0.0/0",
            "127.0.0.1-127.0.0.9",
            "10.0.0.0-255.255.255.255",
            "239.0.0.0/24",
            "::/0",
            "fe80::/64",
            "100.0.0.0-130.0.0.0",
            "fd00::-ff02::1",
        ] {
            assert!(!text.parse::<AddressRange>().unwrap().is_usable(), "{text}");
        }
        for text in ["172.30.0.200-172.30.0.250", "203.0.113.0/24", "2001:db8::/32"] {
            assert!(text.parse::<AddressRange>().unwrap().is_usable(), "{text}");
        }
    }

    #[test]
    fn ranges_are_written_with_ends_or_as_networks() {
        let count = |text: &str| text.parse::<AddressRange>().unwrap().iter().count();
        assert_eq!(count("172.30.0.200-172.30.0.250"), 51);
        assert_eq!(count("fd00::200 - fd00::20f"), 16);
        assert_eq!(count("10.0.0.0/30"), 4);
        for wrong in ["", "10.0.0.1", "10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1", "x-y"] {
            let error = wrong.parse::<AddressRange>().unwrap_err().to_string();
            assert!(error.contains("is no range"), "{error}");
        }
        let mut first = "::/0".parse::<AddressRange>().unwrap().iter();
        assert_eq!(first.nth(1), Some("::1".parse().unwrap()));
    }
}
