//! Rules as the kernel takes them: each expression becomes a few instructions of its register
//! machine.

use std::net::IpAddr;

use crate::wire::Attributes;
use crate::{Expr, Family, Field, Op, Rule, Value, Verdict};

/// `NFTA_LIST_ELEM`.
pub(crate) const LIST_ELEMENT: u16 = 1;
/// The 16-byte register that everything is loaded into.
const REGISTER: u32 = 1;
/// The register that holds the verdict.
const VERDICT_REGISTER: u32 = 0;
/// Length of a link's name as the kernel compares it.
const NAME_LENGTH: usize = 16;

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const NETWORK_HEADER: u32 = 1;
const CT_STATE: u32 = 0;
/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED)`.
const ESTABLISHED_RELATED: u32 = 0b110;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const FULLY_RANDOM: u32 = 1 << 4;

/// The instructions of a rule in a table of that family, as the list's elements.
pub(crate) fn lower(rule: &Rule, family: Family) -> Attributes {
    let mut program = Program {
        family,
        checked: None,
        code: Attributes::new(),
    };
    for expr in &rule.exprs {
        program.expr(expr);
    }
    program.code
}

struct Program {
    family: Family,
    /// The protocol that the packet is known to have.
    checked: Option<Family>,
    code: Attributes,
}

impl Program {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Match { field, op, value } => self.compare(*field, *op, value),
            Expr::Lookup { field, op, set } => self.lookup(*field, *op, set),
            Expr::Established => self.established(),
            Expr::Counter => self.push("counter", Attributes::new()),
            Expr::Masquerade { fully_random } => {
                const FLAGS: u16 = 1;
                let flags = if *fully_random {
                    Attributes::new().be32(FLAGS, FULLY_RANDOM)
                } else {
                    Attributes::new()
                };
                self.push("masq", flags);
            }
            Expr::Verdict(verdict) => self.verdict(verdict),
        }
    }

    fn push(&mut self, name: &str, data: Attributes) {
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        let expression = Attributes::new().string(NAME, name).nested(DATA, data);
        self.code = std::mem::take(&mut self.code).nested(LIST_ELEMENT, expression);
    }

    /// Loads a field into the register.
    fn load(&mut self, field: Field) {
        const V4_SOURCE: (u32, u32) = (12, 4);
        const V4_DESTINATION: (u32, u32) = (16, 4);
        const V6_SOURCE: (u32, u32) = (8, 16);
        const V6_DESTINATION: (u32, u32) = (24, 16);
        match field {
            Field::IifName => self.meta(META_IIFNAME),
            Field::OifName => self.meta(META_OIFNAME),
            Field::Ip4Source => self.header(Family::Ip, V4_SOURCE),
            Field::Ip4Destination => self.header(Family::Ip, V4_DESTINATION),
            Field::Ip6Source => self.header(Family::Ip6, V6_SOURCE),
            Field::Ip6Destination => self.header(Family::Ip6, V6_DESTINATION),
        }
    }

    fn meta(&mut self, key: u32) {
        const REGISTER_TO: u16 = 1;
        const KEY: u16 = 2;
        self.push(
            "meta",
            Attributes::new().be32(REGISTER_TO, REGISTER).be32(KEY, key),
        );
    }

    /// Loads from the network header, once the packet is known to be of that protocol.
    fn header(&mut self, protocol: Family, (offset, length): (u32, u32)) {
        const REGISTER_TO: u16 = 1;
        const BASE: u16 = 2;
        const OFFSET: u16 = 3;
        const LENGTH: u16 = 4;
        if self.family != protocol && self.checked != Some(protocol) {
            self.meta(META_NFPROTO);
            self.cmp(Op::Eq, &[protocol.number()]);
            self.checked = Some(protocol);
        }
        let place = Attributes::new()
            .be32(REGISTER_TO, REGISTER)
            .be32(BASE, NETWORK_HEADER);
        self.push("payload", place.be32(OFFSET, offset).be32(LENGTH, length));
    }

    fn cmp(&mut self, op: Op, value: &[u8]) {
        const REGISTER_FROM: u16 = 1;
        const OP: u16 = 2;
        const DATA: u16 = 3;
        let op = match op {
            Op::Eq => 0,
            Op::Ne => 1,
        };
        self.push(
            "cmp",
            Attributes::new()
                .be32(REGISTER_FROM, REGISTER)
                .be32(OP, op)
                .nested(DATA, data(value)),
        );
    }

    /// Leaves in the register what the mask leaves.
    fn mask(&mut self, mask: &[u8]) {
        const REGISTER_FROM: u16 = 1;
        const REGISTER_TO: u16 = 2;
        const LENGTH: u16 = 3;
        const MASK: u16 = 4;
        const XOR: u16 = 5;
        let length = u32::try_from(mask.len()).expect("a mask is as long as a register at most");
        let registers = Attributes::new()
            .be32(REGISTER_FROM, REGISTER)
            .be32(REGISTER_TO, REGISTER);
        let masks = registers
            .be32(LENGTH, length)
            .nested(MASK, data(mask))
            .nested(XOR, data(&vec![0; mask.len()]));
        self.push("bitwise", masks);
    }

    fn compare(&mut self, field: Field, op: Op, value: &Value) {
        self.load(field);
        match value {
            Value::Name(name) => {
                let mut padded = [0; NAME_LENGTH];
                // One byte stays for the closing zero.
                let length = name.len().min(NAME_LENGTH - 1);
                padded[..length].copy_from_slice(&name.as_bytes()[..length]);
                self.cmp(op, &padded);
            }
            Value::Address(address) => self.cmp(op, &octets(*address)),
            Value::Net(net) => {
                self.mask(&octets(net.netmask()));
                self.cmp(op, &octets(net.network()));
            }
        }
    }

    fn lookup(&mut self, field: Field, op: Op, set: &str) {
        const SET: u16 = 1;
        const REGISTER_FROM: u16 = 2;
        const FLAGS: u16 = 5;
        const INVERTED: u32 = 1;
        self.load(field);
        let mut lookup = Attributes::new().string(SET, set).be32(REGISTER_FROM, REGISTER);
        if op == Op::Ne {
            lookup = lookup.be32(FLAGS, INVERTED);
        }
        self.push("lookup", lookup);
    }

    fn established(&mut self) {
        const REGISTER_TO: u16 = 1;
        const KEY: u16 = 2;
        self.push(
            "ct",
            Attributes::new().be32(REGISTER_TO, REGISTER).be32(KEY, CT_STATE),
        );
        // The state is a number of this machine, not of the wire.
        self.mask(&ESTABLISHED_RELATED.to_ne_bytes());
        self.cmp(Op::Ne, &[0; 4]);
    }

    fn verdict(&mut self, verdict: &Verdict) {
        const REGISTER_TO: u16 = 1;
        const DATA: u16 = 2;
        const VERDICT: u16 = 2;
        const CODE: u16 = 1;
        const CHAIN: u16 = 2;
        let (code, chain) = match verdict {
            Verdict::Drop => (0_i32, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
            Verdict::Return => (-5, None),
        };
        let mut inner = Attributes::new().be32(CODE, code.cast_unsigned());
        if let Some(chain) = chain {
            inner = inner.string(CHAIN, chain);
        }
        let data = Attributes::new().nested(VERDICT, inner);
        self.push(
            "immediate",
            Attributes::new()
                .be32(REGISTER_TO, VERDICT_REGISTER)
                .nested(DATA, data),
        );
    }
}

/// A value as data (`NFTA_DATA_VALUE`).
pub(crate) fn data(value: &[u8]) -> Attributes {
    const VALUE: u16 = 1;
    Attributes::new().bytes(VALUE, value)
}

/// An address's bytes.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
