//! Plans for people: what a reviewer reads, and snapshots keep.

use std::fmt;

use super::{PolicyPlan, RangeKey, RuleKey, SetId};
use model::Protocol;

impl fmt::Display for PolicyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "policies of node {}", self.node)?;
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        for (address, pod) in &self.pods {
            match self.tables.isolation.get(address) {
                Some(isolation) => writeln!(
                    f,
                    "  isolation {address} of {pod}: ingress {}, egress {}",
                    name(isolation.ingress),
                    name(isolation.egress)
                )?,
                None => writeln!(f, "  isolation {address} of {pod}: none, all is dropped")?,
            }
        }
        for (id, set) in &self.sets {
            writeln!(f, "  set {id}: {set}")?;
        }
        for (id, matches) in &self.classes {
            writeln!(f, "  class {id}: {}", matches.join("; "))?;
        }
        for (address, class) in &self.tables.classes {
            writeln!(f, "  address {address}: class {class}")?;
        }
        for (net, class) in &self.tables.blocks {
            writeln!(f, "  block {net}: class {class}")?;
        }
        for (key, rule) in &self.tables.rules {
            self.write_rule(f, &key.to_string(), *rule)?;
        }
        for (key, rule) in &self.tables.ranges {
            self.write_rule(f, &key.to_string(), *rule)?;
        }
        Ok(())
    }
}

impl PolicyPlan {
    fn write_rule(&self, f: &mut fmt::Formatter<'_>, key: &str, rule: super::RuleId) -> fmt::Result {
        match self.rules.get(&rule) {
            Some(name) => writeln!(f, "  allow {key}: {name}"),
            None => writeln!(f, "  allow {key}: rule {rule}"),
        }
    }
}

fn name(set: SetId) -> String {
    if set.is_free() {
        "free".to_owned()
    } else {
        set.to_string()
    }
}

impl fmt::Display for RuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {} class {} ", self.set, self.class)?;
        match (self.protocol, self.port) {
            (0, _) => f.write_str("everything"),
            (protocol, 0) => write!(f, "{}/*", protocol_name(protocol)),
            (protocol, port) => write!(f, "{}/{port}", protocol_name(protocol)),
        }
    }
}

impl fmt::Display for RangeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {} class {} ", self.set, self.class)?;
        write!(f, "{}/{}~{}", protocol_name(self.protocol), self.port, self.bits)
    }
}

fn protocol_name(number: u8) -> String {
    let mut all = Protocol::ALL.into_iter();
    let known = all.find(|protocol| protocol.number() == number);
    known.map_or_else(|| number.to_string(), |protocol| protocol.to_string())
}
