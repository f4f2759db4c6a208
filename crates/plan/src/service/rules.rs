//! Our nft table's part of Services: what a packet's mark says is done, and nothing chosen.
//!
//! ```text
//!   prerouting   refused      new, and the mark is no backend's: its sender is told
//!                prerouting   the mark is a backend's: the destination becomes what the map says
//!   forward      strays       still for a Service's address: no port of any, and its sender is told
//!   output       own_strays   the same of the node's own
//!   postrouting  postrouting  the mark says so: an address of the node's takes the source's place
//!                unmarked     nobody else is to see the mark
//! ```
//!
//! A connection's first packet alone is translated so; conntrack does the others.

use std::net::IpAddr;

use bpf_abi::service::mark::{ID, MASK, MASQUERADE, SERVICE};
use model::{NodeFacts, Protocol};
use nft::{
    Atom, Base, Chain, ChainKind, Expr, Family, Field, Hook, KeyType, Nat, Op, Policy, Reject, Rule, Set,
    Tuple, Value, Verdict, priority,
};

use crate::base::SetName;
use crate::{Mapping, Object, own_address};

const CHAIN: &str = "services";
/// The protocols' numbers.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The map of our table that says where backends of a family are, by their ids. What is in it isn't
/// the table's matter: it's written with what our programs know.
pub const fn backends_map(v4: bool) -> &'static str {
    if v4 { "backends4" } else { "backends6" }
}

/// The map that says which address the node speaks under to its own pods.
const fn own_map(v4: bool) -> &'static str {
    if v4 { "own_addresses4" } else { "own_addresses6" }
}

/// The maps of our table.
pub(crate) fn maps() -> impl Iterator<Item = Set> {
    [true, false].into_iter().flat_map(|v4| {
        let address = if v4 { KeyType::Ipv4 } else { KeyType::Ipv6 };
        [
            Set::map(backends_map(v4), &[KeyType::Mark], &[address, KeyType::Port]),
            Set::map(own_map(v4), &[KeyType::Mark], &[address]),
        ]
    })
}

/// The chains that are about Services alone.
pub(crate) fn chains() -> [Chain; 6] {
    let filter = |name: &str, hook, priority, rules| Chain {
        name: name.to_owned(),
        base: Some(Base {
            kind: ChainKind::Filter,
            hook,
            priority,
            policy: Policy::Accept,
        }),
        rules,
    };
    [
        Chain {
            name: CHAIN.to_owned(),
            base: None,
            rules: [true, false].map(to_backend).into(),
        },
        filter("refused", Hook::Prerouting, priority::MANGLE, refusals()),
        filter("strays", Hook::Forward, priority::MANGLE, strays(|_| Vec::new())),
        filter("own_strays", Hook::Output, priority::MANGLE, own_strays()),
        filter("unmarked_in", Hook::Input, priority::MANGLE, vec![unmark()]),
        filter(
            "unmarked",
            Hook::Postrouting,
            priority::SRCNAT + 5,
            vec![unmark()],
        ),
    ]
}

/// What must be done before other destinations are translated.
pub(crate) fn prerouting_rule() -> Rule {
    Rule {
        exprs: vec![
            marked(SERVICE, SERVICE),
            Expr::Verdict(Verdict::Jump(CHAIN.to_owned())),
        ],
        comment: None,
    }
}

/// What must be done before other sources are translated. To its own pods the node speaks under its
/// own address, whichever others there are on its links.
pub(crate) fn postrouting_rules() -> Vec<Rule> {
    let asked = || marked(SERVICE | MASQUERADE, SERVICE | MASQUERADE);
    let to_own_pods = |v4: bool, destination| Rule {
        exprs: vec![
            asked(),
            Expr::within(destination, SetName::OwnPods.of(v4)),
            Expr::Translate {
                nat: Nat::Source,
                family: family(v4),
                key: vec![Field::Mark(SERVICE)],
                map: own_map(v4).to_owned(),
                port: false,
            },
        ],
        comment: Some("Services' clients, to pods of this node".to_owned()),
    };
    let masquerade = Rule {
        exprs: vec![asked(), Expr::Masquerade { fully_random: true }],
        comment: Some("Services' clients, to endpoints elsewhere".to_owned()),
    };
    vec![
        to_own_pods(true, Field::Ip4Destination),
        to_own_pods(false, Field::Ip6Destination),
        masquerade,
    ]
}

/// The addresses that the node speaks under to its own pods.
pub(crate) fn own_addresses(facts: &NodeFacts) -> Vec<Object> {
    let any = [true, false].map(super::any_address);
    let own = any.iter().filter_map(|like: &IpAddr| own_address(facts, *like));
    let mapping = |address: IpAddr| {
        Object::Mapping(Mapping {
            map: own_map(address.is_ipv4()).to_owned(),
            key: Tuple::new([Atom::Mark(SERVICE)]),
            data: address.into(),
        })
    };
    own.map(mapping).collect()
}

fn to_backend(v4: bool) -> Rule {
    Rule {
        exprs: vec![Expr::Translate {
            nat: Nat::Destination,
            family: family(v4),
            key: vec![Field::Mark(ID)],
            map: backends_map(v4).to_owned(),
            port: true,
        }],
        comment: Some("what our programs picked".to_owned()),
    }
}

fn refusals() -> Vec<Rule> {
    let refuse = |exprs: Vec<Expr>| Rule {
        exprs: [marked(SERVICE | ID, SERVICE), Expr::New]
            .into_iter()
            .chain(exprs)
            .collect(),
        comment: Some("Services without endpoints".to_owned()),
    };
    let is_tcp = Expr::eq(Field::Protocol, Value::Protocol(Protocol::Tcp.number()));
    vec![
        refuse(vec![is_tcp, Expr::Reject(Reject::TcpReset)]),
        refuse(vec![Expr::Reject(Reject::PortUnreachable)]),
    ]
}

/// What is for an address of Services and was translated by nothing is for none of their ports: it would leave
/// the cluster by the default route. `exprs`: which of it.
fn strays(exprs: fn(v4: bool) -> Vec<Expr>) -> Vec<Rule> {
    let is_tcp = Expr::eq(Field::Protocol, Value::Protocol(Protocol::Tcp.number()));
    let destinations = [(true, Field::Ip4Destination), (false, Field::Ip6Destination)];
    let rules = destinations.map(|(v4, destination)| {
        let refuse = |more: Vec<Expr>| Rule {
            exprs: [Expr::within(destination, SetName::Services.of(v4))]
                .into_iter()
                .chain(exprs(v4))
                .chain(more)
                .collect(),
            comment: Some("no port of a Service".to_owned()),
        };
        [
            refuse(vec![is_tcp.clone(), Expr::Reject(Reject::TcpReset)]),
            refuse(vec![Expr::Reject(Reject::PortUnreachable)]),
        ]
    });
    rules.concat()
}

/// A node has addresses of Services for itself, and its pings of others are answered on the link that they
/// leave by.
fn own_strays() -> Vec<Rule> {
    const fn differs(field: Field, value: Value) -> Expr {
        Expr::Match {
            field,
            op: Op::Ne,
            value,
        }
    }
    strays(|v4| {
        vec![
            differs(Field::OifName, Value::Name("lo".to_owned())),
            differs(Field::Protocol, Value::Protocol(if v4 { ICMP } else { ICMPV6 })),
        ]
    })
}

fn unmark() -> Rule {
    Rule {
        exprs: vec![marked(SERVICE, SERVICE), Expr::ClearMark(MASK)],
        comment: Some("the mark is ours alone".to_owned()),
    }
}

fn marked(bits: u32, value: u32) -> Expr {
    Expr::eq(Field::Mark(bits), Value::Mark(value))
}

const fn family(v4: bool) -> Family {
    if v4 { Family::Ip } else { Family::Ip6 }
}
