//! What the programs decide, by the same looks in the same order.

use std::net::IpAddr;

use ipnet::IpNet;
use model::Transport;

use super::{ClassId, PolicyTables, RangeKey, RuleId, RuleKey, SetId, ports};

impl PolicyTables {
    /// An address's class: its own, else that of the smallest block that has it.
    pub fn class(&self, address: IpAddr) -> ClassId {
        if let Some(class) = self.classes.get(&address) {
            return *class;
        }
        let longest = IpNet::from(address).prefix_len();
        let mut nets = (0..=longest)
            .rev()
            .filter_map(|length| Some(IpNet::new(address, length).ok()?.trunc()));
        nets.find_map(|net| self.blocks.get(&net))
            .copied()
            .unwrap_or(ClassId::ANY)
    }

    /// What allows the beginning of a conversation, of a pod that has a set, with a peer of a class; none if
    /// nothing does.
    pub fn allows(&self, set: SetId, class: ClassId, transport: Transport) -> Option<RuleId> {
        let peer = Some(class).filter(|class| *class != ClassId::ANY && set.hints(SetId::PEERS));
        let any = Some(ClassId::ANY).filter(|_| set.hints(SetId::ANY_PEER));
        let mut classes = [peer, any].into_iter().flatten();
        classes.find_map(|class| self.look(set, class, transport))
    }

    fn look(&self, set: SetId, class: ClassId, transport: Transport) -> Option<RuleId> {
        let key = |protocol, port| RuleKey {
            set,
            class,
            protocol,
            port,
        };
        let everything = || self.rules.get(&key(0, 0)).copied();
        let Some((protocol, port)) = transport.port() else {
            return everything();
        };
        let protocol = protocol.number();
        let one = self.rules.get(&key(protocol, port)).copied();
        one.or_else(|| self.range(set, class, protocol, port))
            .or_else(|| self.rules.get(&key(protocol, 0)).copied())
            .or_else(everything)
    }

    fn range(&self, set: SetId, class: ClassId, protocol: u8, port: u16) -> Option<RuleId> {
        let mut keys = (0..=16_u8).rev().map(|bits| RangeKey {
            set,
            class,
            protocol,
            port: ports::first(port, bits),
            bits,
        });
        keys.find_map(|key| self.ranges.get(&key)).copied()
    }
}
