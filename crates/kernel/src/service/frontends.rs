//! Frontends, and who wants them.
//!
//! Nothing keeps two Services from naming the same external address and port. The first by name has
//! it, as in the plan, and the next one gets it when that one goes.

use std::collections::HashMap;

use bpf_abi::service::{self as abi, Choice, frontend, strategy};
use model::{Protocol, ServiceName, Strategy};
use plan::{Frontend, Scope, ServicePort, ServicePortId};

use crate::Result;
use crate::bpf::service::{At, ServiceMaps};

/// What the maps hold, and what is wanted of them.
#[derive(Debug, Default)]
pub(super) struct Frontends {
    held: HashMap<At, abi::Frontend>,
    /// Who wants each: mostly one.
    wanted: HashMap<At, Vec<ServicePortId>>,
    /// Services by the addresses that answer pings for them, and whether they're to be answered.
    pings: HashMap<At, Vec<(ServiceName, bool)>>,
}

/// Where a port's frontend is in the maps.
pub(super) fn at(protocol: Protocol, frontend: &Frontend) -> At {
    At {
        address: frontend.address,
        protocol: protocol.number(),
        port: frontend.port,
    }
}

/// Where a Service's address is asked whether it's there.
pub(super) fn ping_at(address: std::net::IpAddr) -> At {
    const ICMP: u8 = 1;
    const ICMPV6: u8 = 58;
    At {
        address,
        protocol: if address.is_ipv4() { ICMP } else { ICMPV6 },
        port: 0,
    }
}

impl Frontends {
    /// Takes over what the maps hold.
    pub(super) fn found(entries: Vec<(At, abi::Frontend)>) -> Frontends {
        Frontends {
            held: entries.into_iter().collect(),
            ..Frontends::default()
        }
    }

    /// What is there.
    pub(super) fn get(&self, at: At) -> Option<&abi::Frontend> {
        self.held.get(&at)
    }

    /// Everything that is there.
    pub(super) fn all(&self) -> impl Iterator<Item = At> {
        self.held.keys().copied()
    }

    /// A port wants it, or doesn't any more; says whose it is then.
    pub(super) fn want(&mut self, at: At, by: &ServicePortId, is_wanted: bool) -> Option<&ServicePortId> {
        let all = self.wanted.entry(at).or_default();
        match all.binary_search(by) {
            Ok(place) if !is_wanted => drop(all.remove(place)),
            Err(place) if is_wanted => all.insert(place, by.clone()),
            _ => {}
        }
        if all.is_empty() {
            self.wanted.remove(&at);
        }
        self.wanted.get(&at)?.first()
    }

    /// Whether anybody wants it.
    pub(super) fn is_wanted(&self, at: At) -> bool {
        self.wanted.contains_key(&at) || self.pings.contains_key(&at)
    }

    /// A Service has the address, with somebody who serves or without, or hasn't any more.
    pub(super) fn want_ping(&mut self, at: At, by: &ServiceName, served: Option<bool>) {
        let all = self.pings.entry(at).or_default();
        all.retain(|(name, _)| name != by);
        all.extend(served.map(|served| (by.clone(), served)));
        if all.is_empty() {
            self.pings.remove(&at);
        }
    }

    /// Writes what a Service's address answers.
    pub(super) fn write_ping(&mut self, maps: &impl ServiceMaps, at: At) -> Result<usize> {
        let Some(services) = self.pings.get(&at) else {
            return Ok(0);
        };
        let any = services.iter().any(|(_, served)| *served);
        let choice = Choice {
            set: 0,
            slots: u32::from(any),
        };
        self.write(
            maps,
            at,
            abi::Frontend {
                inside: choice,
                outside: choice,
                affinity: 0,
                strategy: strategy::RANDOM,
                flags: 0,
                zero: 0,
            },
        )
    }

    /// Writes a frontend, unless it's there.
    pub(super) fn write(&mut self, maps: &impl ServiceMaps, at: At, value: abi::Frontend) -> Result<usize> {
        if self.held.get(&at) == Some(&value) {
            return Ok(0);
        }
        maps.put_frontend(at, &value)?;
        self.held.insert(at, value);
        Ok(1)
    }

    /// Removes a frontend.
    pub(super) fn remove(&mut self, maps: &impl ServiceMaps, at: At) -> Result<usize> {
        if !self.held.contains_key(&at) {
            return Ok(0);
        }
        maps.remove_frontend(at)?;
        self.held.remove(&at);
        Ok(1)
    }
}

/// A frontend as the maps have it; `choice` is what a scope is there.
pub(super) fn value(
    port: &ServicePort,
    frontend: &Frontend,
    choice: impl Fn(Scope) -> Choice,
) -> abi::Frontend {
    let flag = |holds, bit| if holds { bit } else { 0 };
    abi::Frontend {
        inside: choice(frontend.inside),
        outside: choice(frontend.outside),
        affinity: port.affinity.unwrap_or(0),
        strategy: match port.strategy {
            Strategy::Random => strategy::RANDOM,
            Strategy::RoundRobin => strategy::ROUND_ROBIN,
            Strategy::LeastConnections => strategy::LEAST_CONNECTIONS,
            Strategy::Maglev => strategy::SOURCE_HASH,
        },
        flags: flag(frontend.silent, frontend::OUTSIDE_SILENT)
            | flag(frontend.restricted, frontend::RANGES)
            | flag(frontend.keeps_source, frontend::KEEP_SOURCE),
        zero: 0,
    }
}
