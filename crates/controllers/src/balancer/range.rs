//! Ranges of addresses, as in `172.30.0.200-172.30.0.250` or `fd00::/120`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

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

    pub(super) fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (first, last) = (bits(self.first), bits(self.last));
        let v4 = self.is_ipv4();
        (first..=last).map(move |bits| address(bits, v4))
    }
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
