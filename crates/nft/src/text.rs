//! The text form: what `nft list table` would print.

use std::fmt;

use crate::{
    Atom, Base, Chain, Elements, Expr, Family, Field, Hook, Key, KeyType, Nat, Op, Reject, Rule, Set, Table,
    Value, Verdict, priority,
};

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Family::Ip => f.write_str("ip"),
            Family::Ip6 => f.write_str("ip6"),
            Family::Inet => f.write_str("inet"),
            Family::Other(number) => write!(f, "family{number}"),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_table(f, self, &Elements::new())
    }
}

/// The table with its sets' elements in place.
pub fn with_elements<'a>(table: &'a Table, elements: &'a Elements) -> impl fmt::Display + 'a {
    fmt::from_fn(move |f| write_table(f, table, elements))
}

fn write_table(f: &mut fmt::Formatter<'_>, table: &Table, elements: &Elements) -> fmt::Result {
    writeln!(f, "table {} {} {{", table.family, table.name)?;
    for set in &table.sets {
        write_set(f, set, elements)?;
    }
    for chain in &table.chains {
        write!(f, "{chain}")?;
    }
    f.write_str("}")
}

fn write_set(f: &mut fmt::Formatter<'_>, set: &Set, elements: &Elements) -> fmt::Result {
    let kind = if set.data.is_empty() { "set" } else { "map" };
    writeln!(f, "\t{kind} {} {{", set.name)?;
    write!(
        f,
        "\t\ttype {}",
        joined(set.key.iter().map(|one| KeyType::name(*one)))
    )?;
    if !set.data.is_empty() {
        write!(f, " : {}", joined(set.data.iter().map(|one| KeyType::name(*one))))?;
    }
    writeln!(f)?;
    if set.interval {
        writeln!(f, "\t\tflags interval")?;
    }
    let entries: Vec<String> = elements.of(&set.name).iter().map(ToString::to_string).collect();
    if !entries.is_empty() {
        writeln!(f, "\t\telements = {{ {} }}", entries.join(", "))?;
    }
    writeln!(f, "\t}}")
}

fn joined(names: impl Iterator<Item = impl ToString>) -> String {
    names.map(|name| name.to_string()).collect::<Vec<_>>().join(" . ")
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(base) = &self.base {
            writeln!(f, "\t\t{base}")?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, hook, policy) = (self.kind.name(), self.hook.name(), self.policy.name());
        write!(f, "type {kind} hook {hook} priority ")?;
        // Names of priorities go with hooks.
        match (self.priority, self.hook) {
            (priority::MANGLE, _) => f.write_str("mangle")?,
            (priority::FILTER, _) => f.write_str("filter")?,
            (priority::SRCNAT, Hook::Postrouting) => f.write_str("srcnat")?,
            // Near a name it's told by that.
            (near @ 101..=110, Hook::Postrouting) => write!(f, "srcnat + {}", near - priority::SRCNAT)?,
            (priority::DSTNAT, Hook::Prerouting) => f.write_str("dstnat")?,
            (other, _) => write!(f, "{other}")?,
        }
        write!(f, "; policy {policy};")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, expr) in self.exprs.iter().enumerate() {
            write!(f, "{}{expr}", if i == 0 { "" } else { " " })?;
        }
        match &self.comment {
            Some(comment) => write!(f, " comment {comment:?}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The first bits are written as a length; beside others the sign isn't left out.
            Expr::Match {
                field: Field::Mark(bits),
                op: Op::Eq,
                value,
            } if bits.leading_ones() + bits.trailing_zeros() == u32::BITS => {
                write!(f, "meta mark {value}/{}", bits.leading_ones())
            }
            Expr::Match {
                field: field @ Field::Mark(_),
                op: Op::Eq,
                value,
            } => write!(f, "{field} == {value}"),
            Expr::Match { field, op, value } => write!(f, "{field} {op}{value}"),
            Expr::Lookup { field, op, set } => write!(f, "{field} {op}@{set}"),
            Expr::Established => f.write_str("ct state established,related"),
            Expr::New => f.write_str("ct state new"),
            Expr::Local => f.write_str("fib daddr type local"),
            Expr::TcpSyn => f.write_str("tcp flags syn"),
            Expr::ClampMss => f.write_str("tcp option maxseg size set rt mtu"),
            Expr::Untranslated => f.write_str("ct status ! snat,dnat"),
            Expr::SetMark(bits) => write!(f, "meta mark set meta mark | {bits:#010x}"),
            Expr::Vxlan { port, vni } => write!(f, "udp dport {port} @th,96,24 {vni:#x}"),
            Expr::ClearMark(bits) => write!(f, "meta mark set meta mark & {:#010x}", !bits),
            Expr::Counter => f.write_str("counter"),
            Expr::Translate {
                nat,
                family,
                key,
                map,
                port: _,
            } => {
                let nat = match nat {
                    Nat::Destination => "dnat",
                    Nat::Source => "snat",
                };
                let key = joined(key.iter());
                write!(f, "{nat} {family} to {key} map @{map}")
            }
            Expr::Masquerade { fully_random: true } => f.write_str("masquerade fully-random"),
            Expr::Masquerade { fully_random: false } => f.write_str("masquerade"),
            Expr::Reject(Reject::TcpReset) => f.write_str("reject with tcp reset"),
            Expr::Reject(Reject::PortUnreachable) => f.write_str("reject"),
            Expr::Verdict(verdict) => verdict.fmt(f),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::IifName => "iifname",
            Field::OifName => "oifname",
            Field::Ip4Source => "ip saddr",
            Field::Ip4Destination => "ip daddr",
            Field::Ip6Source => "ip6 saddr",
            Field::Ip6Destination => "ip6 daddr",
            Field::Protocol => "meta l4proto",
            Field::DestinationPort => "th dport",
            Field::Mark(bits) => return write!(f, "meta mark & {bits:#010x}"),
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Eq => "",
            Op::Ne => "!= ",
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Name(name) => write!(f, "{name:?}"),
            Value::Address(address) => address.fmt(f),
            Value::Net(net) => Key::from(*net).fmt(f),
            Value::Protocol(protocol) => Atom::Protocol(*protocol).fmt(f),
            Value::Mark(mark) => Atom::Mark(*mark).fmt(f),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}
