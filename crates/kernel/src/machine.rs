//! The machine's own namespace, for clusters that live on one machine: what lets the nodes reach
//! the outside, beside whatever firewall the machine has.
//!
//! ```text
//!   nodes ── switch ── LINK ── machine ── the outside
//!                       │         └─ our table: the nodes' network is masqueraded; from outside
//!                       │            only answers are let in
//!                       └─ firewalls that could drop: an accept rule of ours on top, by comment
//! ```
//!
//! Everything is written again as needed (Docker, ufw and firewalld throw away others' rules when
//! they reload) and removed exactly ([`Machine::remove`]).

use std::fs;

use ipnet::IpNet;
use nft::{
    Base, Batch, Chain, ChainKind, Change, Elements, Expr, Family, Field, Hook, Key, KeyType, Object,
    ObservedRule, Place, Policy, Request, Rule, Set, Table, Verdict, priority,
};

use crate::nftables::Nft;
use crate::{NetNs, Result, sysctl};

/// What the names of our tables in the machine's namespace begin with.
const TABLE_PREFIX: &str = "ripstop-";

/// A cluster's link in the machine's namespace.
#[derive(Debug, Clone, Copy)]
pub struct NodeNetwork<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// Name of the machine's link to the nodes.
    pub link: &'a str,
    /// The nodes' network, one block a family.
    pub nets: &'a [IpNet],
}

/// A sysctl that [`Machine::forward`] changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Its path below `/proc/sys`.
    pub key: String,
    /// Its value before.
    pub before: String,
    /// Its value now.
    pub now: &'static str,
}

/// What [`Machine::allow_forwarding`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// How many rules it wrote.
    pub rules: usize,
    /// Firewalls that may drop the nodes' packets and can't be changed from here: one line each,
    /// with the cure.
    pub problems: Vec<String>,
}

/// The machine's namespace.
#[derive(Debug)]
pub struct Machine {
    netns: NetNs,
    nft: Nft,
}

impl Machine {
    /// The calling thread's namespace.
    pub fn current() -> Result<Machine> {
        Machine::open(NetNs::current()?)
    }

    /// The given namespace.
    pub fn open(netns: NetNs) -> Result<Machine> {
        Ok(Machine {
            nft: Nft::open(&netns)?,
            netns,
        })
    }

    /// Lets the machine forward these families; returns the sysctls that it changed. A link that learns its routes from router advertisements goes on doing so: a machine
    /// that forwards IPv6 would otherwise ignore them and lose its way out.
    pub fn forward(&self, v4: bool, v6: bool) -> Result<Vec<Changed>> {
        self.netns.run(|| {
            let mut changed = Vec::new();
            let mut set = |key: String, value: &'static str| -> Result<()> {
                let before = sysctl::read(&key)?.unwrap_or_default();
                if sysctl::write(&key, value)? {
                    let now = value;
                    changed.push(Changed { key, before, now });
                }
                Ok(())
            };
            if v4 {
                set("net/ipv4/ip_forward".to_owned(), "1")?;
            }
            if v6 {
                const LEARNS: &str = "1";
                const LEARNS_WHILE_FORWARDING: &str = "2";
                // "all" says nothing: each link has a setting of its own. "default" is for links to come.
                let links = sysctl::list("net/ipv6/conf")?;
                for link in links.iter().filter(|link| !matches!(link.as_str(), "all" | "lo")) {
                    let key = format!("net/ipv6/conf/{link}/accept_ra");
                    if sysctl::read(&key)?.as_deref() == Some(LEARNS) {
                        set(key, LEARNS_WHILE_FORWARDING)?;
                    }
                }
                set("net/ipv6/conf/all/forwarding".to_owned(), "1")?;
            }
            Ok(changed)
        })?
    }

    /// Makes our table: the nodes' network takes the machine's address on its way out, and only
    /// answers come in from outside. Returns the number of changes.
    pub fn masquerade(&self, network: NodeNetwork<'_>) -> Result<usize> {
        let (table, elements) = table(network);
        Ok(self.nft.apply(&table, &elements)?.len())
    }

    /// Puts accept rules for the link on top of every other's chain that could drop what is
    /// forwarded.
    pub fn allow_forwarding(&self, network: NodeNetwork<'_>) -> Result<Allowed> {
        let mut allowed = Allowed {
            problems: self.legacy_problem(network.link)?,
            ..Allowed::default()
        };
        let rules = accept_rules(network);
        let mut batch = Batch::new();
        for chain in self.forward_chains()? {
            let ours = chain
                .rules
                .iter()
                .filter(|rule| is_ours(rule, network.cluster))
                .count();
            if !chain.could_drop(network.cluster) || ours == rules.len() {
                continue;
            }
            if chain.owned {
                allowed.problems.push(owned_problem(&chain.place, network.link));
                continue;
            }
            for rule in chain.rules.iter().filter(|rule| is_ours(rule, network.cluster)) {
                batch.push(&chain.place, &Change::DeleteRule(chain.name.clone(), rule.handle));
            }
            for rule in rules.iter().rev() {
                batch.push(
                    &chain.place,
                    &Change::InsertRule(chain.name.clone(), rule.clone()),
                );
            }
            allowed.rules += rules.len();
        }
        self.nft.commit(batch)?;
        Ok(allowed)
    }

    /// Removes our table and our rules in others' chains; returns how many things went.
    pub fn remove(&self, cluster: &str) -> Result<usize> {
        let mut removed = usize::from(self.nft.delete_table(&place(cluster))?);
        let mut batch = Batch::new();
        for chain in self.forward_chains()? {
            for rule in chain.rules.iter().filter(|rule| is_ours(rule, cluster)) {
                batch.push(&chain.place, &Change::DeleteRule(chain.name.clone(), rule.handle));
                removed += 1;
            }
        }
        self.nft.commit(batch)?;
        Ok(removed)
    }

    /// Others' filter chains on the way through the machine.
    fn forward_chains(&self) -> Result<Vec<ForwardChain>> {
        let tables = self.nft.dump(Request::Tables)?;
        let owned = |place: &Place| {
            tables
                .iter()
                .any(|table| matches!(table, Object::Table(at, true) if at == place))
        };
        let mut chains = Vec::new();
        for object in self.nft.dump(Request::Chains)? {
            let Object::Chain(place, name, Some(base)) = object else {
                continue;
            };
            let on_the_way = base.hook == Hook::Forward && base.kind == ChainKind::Filter;
            let of_ip = !matches!(place.family, Family::Other(_));
            if on_the_way && of_ip && !place.table.starts_with(TABLE_PREFIX) {
                let rules = self.nft.dump(Request::Rules(&place))?;
                let rules = rules.into_iter().filter_map(|rule| match rule {
                    Object::Rule(at, chain, rule) if at == place && chain == name => Some(rule),
                    _ => None,
                });
                let rules = rules.collect();
                chains.push(ForwardChain {
                    owned: owned(&place),
                    policy: base.policy,
                    place,
                    name,
                    rules,
                });
            }
        }
        Ok(chains)
    }

    /// The old iptables keeps rules where nf_tables doesn't see them.
    fn legacy_problem(&self, link: &str) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        for (list, command) in [
            ("ip_tables_names", "iptables-legacy"),
            ("ip6_tables_names", "ip6tables-legacy"),
        ] {
            let path = format!("/proc/thread-self/net/{list}");
            let names = self.netns.run(|| fs::read_to_string(path).unwrap_or_default())?;
            if names.lines().any(|name| name == "filter") {
                problems.push(format!(
                    "this machine also filters with {command}, whose rules can't be changed from here: if nodes don't reach the outside run `{command} -I FORWARD -i {link} -j ACCEPT; {command} -I FORWARD -o {link} -j ACCEPT`"
                ));
            }
        }
        Ok(problems)
    }
}

/// Somebody else's chain on the way through the machine.
struct ForwardChain {
    place: Place,
    name: String,
    policy: Policy,
    rules: Vec<ObservedRule>,
    /// Only the process that made its table may change it.
    owned: bool,
}

impl ForwardChain {
    /// Whether anything that isn't ours decides here: an empty chain that lets all pass is left alone.
    fn could_drop(&self, cluster: &str) -> bool {
        self.policy == Policy::Drop || self.rules.iter().any(|rule| !is_ours(rule, cluster))
    }
}

fn place(cluster: &str) -> Place {
    Place::new(Family::Inet, format!("{TABLE_PREFIX}{cluster}"))
}

/// What marks our rules in others' chains.
fn comment(cluster: &str) -> String {
    format!("ripstop cluster {cluster}")
}

fn is_ours(rule: &ObservedRule, cluster: &str) -> bool {
    rule.digest.is_some() && rule.comment.as_deref() == Some(&comment(cluster))
}

/// Both ways are accepted; what may come in is decided in our own table. Only what iptables knows
/// is used: a rule that it can't read makes it refuse to work on the whole table.
fn accept_rules(network: NodeNetwork<'_>) -> [Rule; 2] {
    [Field::IifName, Field::OifName].map(|field| Rule {
        exprs: vec![Expr::eq(field, network.link), Expr::Verdict(Verdict::Accept)],
        comment: Some(comment(network.cluster)),
    })
}

fn owned_problem(place: &Place, link: &str) -> String {
    if place.table == "firewalld" {
        return format!(
            "firewalld may drop what nodes send to the outside and lets nobody else change its rules: run `firewall-cmd --permanent --zone=trusted --add-interface={link} && firewall-cmd --reload`"
        );
    }
    format!(
        "the nftables table {place} may drop what nodes send to the outside and its owner lets nobody else change it: have it accept what comes from and goes to link {link}"
    )
}

/// Our table in the machine's namespace.
fn table(network: NodeNetwork<'_>) -> (Table, Elements) {
    const SETS: [(&str, KeyType); 2] = [("nodes4", KeyType::Ipv4), ("nodes6", KeyType::Ipv6)];
    let sets = SETS.map(|(name, key)| Set::new(name, key, true));
    let masquerade = |source, destination, set: &str| Rule {
        exprs: vec![
            Expr::within(source, set),
            Expr::outside(destination, set),
            Expr::Masquerade { fully_random: true },
        ],
        comment: Some("nodes to the outside".to_owned()),
    };
    let into = |last: Vec<Expr>, comment: &str| {
        let from_outside = [
            Expr::eq(Field::OifName, network.link),
            Expr::ne(Field::IifName, network.link),
        ];
        Rule {
            exprs: from_outside.into_iter().chain(last).collect(),
            comment: Some(comment.to_owned()),
        }
    };
    let base = |kind, hook, priority| {
        Some(Base {
            kind,
            hook,
            priority,
            policy: Policy::Accept,
        })
    };
    let postrouting = Chain {
        name: "postrouting".to_owned(),
        base: base(ChainKind::Nat, Hook::Postrouting, priority::SRCNAT),
        rules: vec![
            masquerade(Field::Ip4Source, Field::Ip4Destination, SETS[0].0),
            masquerade(Field::Ip6Source, Field::Ip6Destination, SETS[1].0),
        ],
    };
    let forward = Chain {
        name: "forward".to_owned(),
        base: base(ChainKind::Filter, Hook::Forward, priority::FILTER),
        rules: vec![
            into(
                vec![Expr::Established, Expr::Verdict(Verdict::Accept)],
                "answers to nodes",
            ),
            into(
                vec![Expr::Verdict(Verdict::Drop)],
                "other machines may not use this one as a way to the nodes",
            ),
        ],
    };
    let place = place(network.cluster);
    let mut elements = Elements::new();
    for net in network.nets {
        elements.insert(SETS[usize::from(net.addr().is_ipv6())].0, Key::from(*net));
    }
    let table = Table {
        family: place.family,
        name: place.table,
        sets: sets.into(),
        chains: vec![postrouting, forward],
    };
    (table, elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_table_as_text() {
        let nets = [
            "172.30.0.0/24".parse().unwrap(),
            "fd00:172:30::/64".parse().unwrap(),
        ];
        let (table, elements) = table(NodeNetwork {
            cluster: "local",
            link: "rs-local",
            nets: &nets,
        });
        insta::assert_snapshot!(nft::with_elements(&table, &elements));
    }

    #[test]
    fn owners_are_named_with_a_cure() {
        insta::assert_snapshot!(owned_problem(&Place::new(Family::Inet, "firewalld"), "rs-local"), @"firewalld may drop what nodes send to the outside and lets nobody else change its rules: run `firewall-cmd --permanent --zone=trusted --add-interface=rs-local && firewall-cmd --reload`");
    }
}
