//! One block of pod addresses and the ones in it that may be given to pods.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use plan::{GATEWAY_V4, GATEWAY_V6};

/// What every pod takes for its gateway.
const RESERVED: [IpAddr; 2] = [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)];

/// A block of pod addresses (one of the node's `spec.podCIDRs`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    net: IpNet,
    /// The first and last address for pods, as numbers.
    first: u128,
    last: u128,
    /// Every address below this has been a pod's already, as far as is remembered.
    fresh: u128,
}

impl Block {
    /// Leaves out what isn't a pod's: the network's own address (in IPv6 the routers' anycast) and
    /// IPv4's broadcast address. A block of one or two addresses has neither. The gateway that pods
    /// see isn't in a block ([`plan::GATEWAY_V4`]); should it be, [`RESERVED`] keeps it.
    pub(super) fn new(net: IpNet) -> Block {
        let net = net.trunc();
        let (low, high) = (number(net.network()), number(net.broadcast()));
        let tiny = high - low < 2;
        let first = if tiny { low } else { low + 1 };
        let last = if tiny || net.network().is_ipv6() {
            high
        } else {
            high - 1
        };
        Block {
            net,
            first,
            last,
            fresh: first,
        }
    }

    pub(super) fn net(&self) -> IpNet {
        self.net
    }

    pub(super) fn is_ipv4(&self) -> bool {
        matches!(self.net, IpNet::V4(_))
    }

    /// Whether a pod may have this address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.spans(address) && !RESERVED.contains(&address)
    }

    fn spans(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && (self.first..=self.last).contains(&number(address))
    }

    /// How many addresses pods may have.
    pub(super) fn capacity(&self) -> u128 {
        let reserved = RESERVED.iter().filter(|address| self.spans(**address)).count();
        (self.last - self.first).saturating_add(1) - reserved as u128
    }

    /// Notes that an address is or was a pod's.
    pub(super) fn used(&mut self, address: IpAddr) {
        if self.has(address) {
            self.fresh = self.fresh.max(number(address).saturating_add(1));
        }
    }

    /// The lowest address that no pod has had and that isn't `taken`.
    pub(super) fn fresh(&self, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        self.scan(self.fresh, taken)
    }

    /// The lowest address of all that isn't `taken`.
    pub(super) fn lowest(&self, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        self.scan(self.first, taken)
    }

    fn scan(&self, from: u128, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        (from..=self.last)
            .map(|number| self.address(number))
            .find(|address| self.has(*address) && !taken(*address))
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.net {
            IpNet::V4(_) => {
                Ipv4Addr::from_bits(u32::try_from(number).expect("an IPv4 block's numbers have 32 bits"))
                    .into()
            }
            IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::usual("10.244.1.0/24", "10.244.1.1", 254)]
    #[case::host_bits("10.244.1.77/24", "10.244.1.1", 254)]
    #[case::small("10.0.0.0/30", "10.0.0.1", 2)]
    #[case::with_the_gateway("169.254.1.0/24", "169.254.1.2", 253)]
    #[case::only_the_gateway("169.254.1.1/32", "", 0)]
    #[case::pair("10.0.0.0/31", "10.0.0.0", 2)]
    #[case::single("10.0.0.7/32", "10.0.0.7", 1)]
    #[case::v6("fd00:10:244:1::/64", "fd00:10:244:1::1", (1 << 64) - 1)]
    #[case::v6_single("fd00::7/128", "fd00::7", 1)]
    #[case::everything("::/0", "::1", u128::MAX - 1)]
    fn a_block_gives_pods_what_is_theirs(#[case] net: &str, #[case] first: &str, #[case] capacity: u128) {
        let block = Block::new(net.parse().expect("a block"));
        assert_eq!(block.fresh(|_| false), first.parse().ok());
        assert_eq!(block.capacity(), capacity);
    }

    #[rstest]
    #[case("10.244.1.0")]
    #[case("10.244.1.255")]
    #[case("10.244.2.2")]
    #[case("::10.244.1.2")]
    fn network_and_broadcast_are_no_pods(#[case] address: &str) {
        let block = Block::new("10.244.1.0/24".parse().expect("a block"));
        assert!(!block.has(address.parse().expect("an address")));
    }

    #[test]
    fn an_exhausted_block_has_nothing_fresh() {
        let mut block = Block::new("10.0.0.0/30".parse().expect("a block"));
        block.used([10, 0, 0, 2].into());
        assert_eq!(block.fresh(|_| false), None);
        assert_eq!(block.lowest(|_| false), Some([10, 0, 0, 1].into()));
    }
}
