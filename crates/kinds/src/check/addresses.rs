//! The formats of addresses, with Kubernetes' messages: what some programs read in another way than others
//! (leading zeros, IPv4 in IPv6's clothes) is refused.

use std::net::IpAddr;

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Any address.
pub(crate) fn ip(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Ok(ip) if is_mapped(ip) => vec!["must not be an IPv4-mapped IPv6 address".to_owned()],
        Ok(_) => Vec::new(),
        Err(_) if without_leading_zeros(text).parse::<IpAddr>().is_ok() => {
            vec!["must not have leading 0s".to_owned()]
        }
        Err(_) => vec![NOT_AN_IP.to_owned()],
    }
}

/// An address as everybody writes it, so that texts can be compared.
pub(crate) fn canonical_ip(text: &str) -> Vec<String> {
    let messages = ip(text);
    match text.parse::<IpAddr>() {
        Ok(ip) if messages.is_empty() && ip.to_string() != text => {
            vec![format!("must be in canonical form (\"{ip}\")")]
        }
        _ => messages,
    }
}

/// A range of addresses, as in `10.9.8.0/24`.
pub(crate) fn cidr(text: &str) -> Vec<String> {
    let message = match Cidr::parse(text) {
        None if Cidr::parse(&without_leading_zeros(text)).is_some() => {
            "must not have leading 0s in IP or prefix length"
        }
        None => NOT_A_CIDR,
        Some(cidr) if is_mapped(cidr.address) => "must not have an IPv4-mapped IPv6 address",
        Some(cidr) if cidr.first() != cidr.address => "must not have bits set beyond the prefix length",
        Some(_) => return Vec::new(),
    };
    vec![message.to_owned()]
}

/// A range as everybody writes it.
pub(crate) fn canonical_cidr(text: &str) -> Vec<String> {
    let messages = cidr(text);
    match Cidr::parse(text).map(|cidr| format!("{}/{}", cidr.address, cidr.length)) {
        Some(canonical) if messages.is_empty() && canonical != text => {
            vec![format!("must be in canonical form (\"{canonical}\")")]
        }
        _ => messages,
    }
}

/// The address of an endpoint: one that traffic can be sent to from every node.
pub(crate) fn endpoint(text: &str) -> Vec<String> {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return self::ip(text);
    };
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let link_local_multicast = match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] == 0xff02,
    };
    let rules = [
        (ip.is_unspecified(), format!("may not be unspecified ({text})")),
        (
            ip.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        ),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ];
    let broken = rules.into_iter().filter(|(broken, _)| *broken);
    self::ip(text)
        .into_iter()
        .chain(broken.map(|(_, message)| message))
        .collect()
}

/// A range's parts.
#[derive(Clone, Copy)]
pub(crate) struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
}

impl Cidr {
    pub(crate) fn parse(text: &str) -> Option<Cidr> {
        let (address, digits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let length: u8 = digits.parse().ok()?;
        let plain = plain && (digits == "0" || !digits.starts_with('0'));
        (plain && length <= most).then_some(Cidr { address, length })
    }

    /// Whether every address of another range is in this one, and more.
    pub(crate) fn strictly_contains(self, other: Cidr) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.length < other.length
            && self.first() == masked(other.address, self.length)
    }

    fn first(self) -> IpAddr {
        masked(self.address, self.length)
    }
}

/// An address with nothing set beyond a prefix.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let kept = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & kept).into())
        }
        IpAddr::V6(ip) => {
            let kept = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & kept).into())
        }
    }
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// An IPv4 address or range as old programs read it: zeros before a number say nothing.
fn without_leading_zeros(text: &str) -> String {
    let trim = |number: &str| match number.trim_start_matches('0') {
        "" if !number.is_empty() => "0".to_owned(),
        rest => rest.to_owned(),
    };
    let parts = text
        .split('/')
        .map(|part| part.split('.').map(trim).collect::<Vec<_>>().join("."));
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(ip, &["10.9.8.7", "2001:db8::ffff", "2001:DB8::1"], &["", "10.0.0", "010.0.0.1", "::ffff:1.2.3.4", "fe80::1%eth0", "a"])]
    #[case(canonical_ip, &["10.9.8.7", "2001:db8::ffff"], &["2001:DB8::1", "2001:db8:0::1"])]
    #[case(cidr, &["10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/64"], &["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0", "10.0.0.0/08", "10.0.0.0/+8", "::ffff:1.2.3.0/120"])]
    #[case(canonical_cidr, &["2001:db8::/64"], &["2001:DB8::/64", "2001:db8:0::/64"])]
    #[case(endpoint, &["10.0.0.1"], &["127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "ff02::1", "::1", "fe80::1", "x"])]
    fn formats(#[case] check: fn(&str) -> Vec<String>, #[case] good: &[&str], #[case] bad: &[&str]) {
        for text in good {
            assert_eq!(check(text), Vec::<String>::new(), "{text:?}");
        }
        for text in bad {
            assert!(!check(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn what_programs_read_differently_is_named() {
        assert_eq!(ip("010.0.0.1"), ["must not have leading 0s"]);
        assert_eq!(
            cidr("10.0.0.0/08"),
            ["must not have leading 0s in IP or prefix length"]
        );
        assert_eq!(
            cidr("10.0.0.1/8"),
            ["must not have bits set beyond the prefix length"]
        );
        assert_eq!(
            canonical_cidr("2001:DB8::/32"),
            ["must be in canonical form (\"2001:db8::/32\")"]
        );
    }

    #[rstest]
    #[case("10.0.0.0/8", "10.1.0.0/16", true)]
    #[case("10.0.0.0/8", "10.0.0.0/8", false)]
    #[case("10.0.0.0/8", "11.0.0.0/16", false)]
    #[case("0.0.0.0/0", "10.0.0.0/8", true)]
    #[case("::/0", "10.0.0.0/8", false)]
    #[case("2001:db8::/32", "2001:db8:1::/48", true)]
    fn ranges_contain_ranges(#[case] outer: &str, #[case] inner: &str, #[case] contains: bool) {
        let (outer, inner) = (Cidr::parse(outer).unwrap(), Cidr::parse(inner).unwrap());
        assert_eq!(outer.strictly_contains(inner), contains);
    }
}
