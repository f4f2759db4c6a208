//! Policies for people.

use std::fmt;

use super::{Direction, PolicyPeer, PolicyPort, PolicyRule, PortMatch};

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        })
    }
}

impl fmt::Display for PolicyPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyPeer::Pods { namespaces, pods } => {
                if pods.is_everything() {
                    f.write_str("every pod")?;
                } else {
                    write!(f, "pods with {pods}")?;
                }
                match namespaces {
                    None => f.write_str(" of this namespace"),
                    Some(selector) if selector.is_everything() => f.write_str(" of every namespace"),
                    Some(selector) => write!(f, " of namespaces with {selector}"),
                }
            }
            PolicyPeer::Block { net, except } => {
                write!(f, "{net}")?;
                for (i, one) in except.iter().enumerate() {
                    let word = if i == 0 { " except" } else { "," };
                    write!(f, "{word} {one}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for PolicyPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol;
        match &self.ports {
            PortMatch::All => write!(f, "every port of {protocol}"),
            PortMatch::One(port) => write!(f, "{port}/{protocol}"),
            PortMatch::Range(first, last) => write!(f, "{first}-{last}/{protocol}"),
            PortMatch::Named(name) => write!(f, "{name}/{protocol}"),
        }
    }
}

/// Who and what, without the direction: `pods with role=frontend of this namespace: 6379/tcp`.
impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, self.peers.as_deref(), "everybody", "nobody", "; ")?;
        f.write_str(": ")?;
        write_list(f, self.ports.as_deref(), "everything", "nothing", ", ")
    }
}

fn write_list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    list: Option<&[T]>,
    all: &str,
    none: &str,
    between: &str,
) -> fmt::Result {
    match list {
        None => f.write_str(all),
        Some([]) => f.write_str(none),
        Some(list) => list.iter().enumerate().try_for_each(|(i, one)| {
            let between = if i == 0 { "" } else { between };
            write!(f, "{between}{one}")
        }),
    }
}
