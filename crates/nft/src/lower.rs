//! Rules as the kernel takes them: each expression becomes a few instructions of its register
//! machine.

use std::net::IpAddr;

use crate::wire::Attributes;
use crate::{Expr, Family, Field, Nat, Op, Reject, Rule, Value, Verdict};

/// `NFTA_LIST_ELEM`.
pub(crate) const LIST_ELEMENT: u16 = 1;
/// The 16-byte register that single values are loaded into.
const REGISTER: u32 = 1;
/// The first of the 4-byte registers; four of them are [`REGISTER`] by other names.
const SMALL_REGISTER: u32 = 8;
/// The register that holds the verdict.
const VERDICT_REGISTER: u32 = 0;
/// Length of a link's name as the kernel compares it.
const NAME_LENGTH: usize = 16;

/// `IPS_SRC_NAT | IPS_DST_NAT`.
const TRANSLATED: u32 = 0b11 << 4;
const CT_STATUS: u32 = 2;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `IPPROTO_TCP`.
const PROTOCOL_TCP: u8 = 6;
/// `IPPROTO_UDP`.
const PROTOCOL_UDP: u8 = 17;
const CT_STATE: u32 = 0;
/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED)`.
const ESTABLISHED_RELATED: u32 = 0b110;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const NEW: u32 = 0b1000;
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
            Expr::Established => self.state(ESTABLISHED_RELATED),
            Expr::New => self.state(NEW),
            Expr::Local => self.local(),
            Expr::TcpSyn => self.tcp_syn(),
            Expr::ClampMss => self.clamp_mss(),
            Expr::Untranslated => self.untranslated(),
            Expr::Vxlan { port, vni } => self.vxlan(*port, *vni),
            Expr::SetMark(bits) => self.set_mark(!bits, *bits),
            Expr::ClearMark(bits) => self.set_mark(!bits, 0),
            Expr::Counter => self.push("counter", Attributes::new()),
            Expr::Translate {
                nat,
                family,
                key,
                map,
                port,
            } => self.translate(*nat, *family, key, map, *port),
            Expr::Masquerade { fully_random } => {
                const FLAGS: u16 = 1;
                let flags = if *fully_random {
                    Attributes::new().be32(FLAGS, FULLY_RANDOM)
                } else {
                    Attributes::new()
                };
                self.push("masq", flags);
            }
            Expr::Reject(how) => self.reject(*how),
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
        self.know_protocol(field);
        self.load_into(field, REGISTER);
    }

    /// Loads fields one behind the other, each into as many of the small registers as it needs.
    fn load_joined(&mut self, fields: &[Field]) {
        // First of all, as it uses the register itself.
        fields.iter().for_each(|field| self.know_protocol(*field));
        let mut register = SMALL_REGISTER;
        for field in fields {
            self.load_into(*field, register);
            register += length(*field).div_ceil(4);
        }
    }

    fn load_into(&mut self, field: Field, register: u32) {
        const V4_SOURCE: u32 = 12;
        const V4_DESTINATION: u32 = 16;
        const V6_SOURCE: u32 = 8;
        const V6_DESTINATION: u32 = 24;
        const DESTINATION_PORT: u32 = 2;
        let (base, offset) = match field {
            Field::IifName => return self.meta(META_IIFNAME, register),
            Field::OifName => return self.meta(META_OIFNAME, register),
            Field::Protocol => return self.meta(META_L4PROTO, register),
            Field::Mark(bits) => {
                self.meta(META_MARK, register);
                return self.bits_of(register, &bits.to_ne_bytes(), &[0; 4]);
            }
            Field::Ip4Source => (NETWORK_HEADER, V4_SOURCE),
            Field::Ip4Destination => (NETWORK_HEADER, V4_DESTINATION),
            Field::Ip6Source => (NETWORK_HEADER, V6_SOURCE),
            Field::Ip6Destination => (NETWORK_HEADER, V6_DESTINATION),
            Field::DestinationPort => (TRANSPORT_HEADER, DESTINATION_PORT),
        };
        self.payload(base, offset, length(field), register);
    }

    fn meta(&mut self, key: u32, register: u32) {
        const REGISTER_TO: u16 = 1;
        const KEY: u16 = 2;
        self.push(
            "meta",
            Attributes::new().be32(REGISTER_TO, register).be32(KEY, key),
        );
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        const REGISTER_TO: u16 = 1;
        const BASE: u16 = 2;
        const OFFSET: u16 = 3;
        const LENGTH: u16 = 4;
        let place = Attributes::new().be32(REGISTER_TO, register).be32(BASE, base);
        self.push("payload", place.be32(OFFSET, offset).be32(LENGTH, length));
    }

    /// Goes on only with packets of the network protocol that has the field.
    fn know_protocol(&mut self, field: Field) {
        let protocol = match field {
            Field::Ip4Source | Field::Ip4Destination => Family::Ip,
            Field::Ip6Source | Field::Ip6Destination => Family::Ip6,
            Field::IifName | Field::OifName | Field::Protocol | Field::DestinationPort | Field::Mark(_) => {
                return;
            }
        };
        if self.family != protocol && self.checked != Some(protocol) {
            self.meta(META_NFPROTO, REGISTER);
            self.cmp(Op::Eq, &[protocol.number()]);
            self.checked = Some(protocol);
        }
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
        self.bits(mask, &vec![0; mask.len()]);
    }

    /// Leaves in the register what the mask leaves, then flips bits of it.
    fn bits(&mut self, mask: &[u8], flip: &[u8]) {
        self.bits_of(REGISTER, mask, flip);
    }

    /// The same in any register.
    fn bits_of(&mut self, register: u32, mask: &[u8], flip: &[u8]) {
        const REGISTER_FROM: u16 = 1;
        const REGISTER_TO: u16 = 2;
        const LENGTH: u16 = 3;
        const MASK: u16 = 4;
        const XOR: u16 = 5;
        let length = u32::try_from(mask.len()).expect("a mask is as long as a register at most");
        let registers = Attributes::new()
            .be32(REGISTER_FROM, register)
            .be32(REGISTER_TO, register);
        let masks = registers
            .be32(LENGTH, length)
            .nested(MASK, data(mask))
            .nested(XOR, data(flip));
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
            Value::Protocol(protocol) => self.cmp(op, &[*protocol]),
            Value::Mark(mark) => self.cmp(op, &mark.to_ne_bytes()),
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

    fn connection(&mut self, key: u32) {
        const REGISTER_TO: u16 = 1;
        const KEY: u16 = 2;
        self.push("ct", Attributes::new().be32(REGISTER_TO, REGISTER).be32(KEY, key));
    }

    fn state(&mut self, bits: u32) {
        self.connection(CT_STATE);
        // The state is a number of this machine, not of the wire.
        self.mask(&bits.to_ne_bytes());
        self.cmp(Op::Ne, &[0; 4]);
    }

    fn local(&mut self) {
        const REGISTER_TO: u16 = 1;
        const RESULT: u16 = 2;
        const FLAGS: u16 = 3;
        const ADDRESS_TYPE: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        let asked = Attributes::new()
            .be32(REGISTER_TO, REGISTER)
            .be32(RESULT, ADDRESS_TYPE);
        self.push("fib", asked.be32(FLAGS, OF_DESTINATION));
        // The type is a number of this machine, not of the wire.
        self.cmp(Op::Eq, &LOCAL.to_ne_bytes());
    }

    fn translate(&mut self, nat: Nat, family: Family, key: &[Field], map: &str, port: bool) {
        const SET: u16 = 1;
        const REGISTER_FROM: u16 = 2;
        const REGISTER_TO: u16 = 3;
        const KIND: u16 = 1;
        const FAMILY: u16 = 2;
        const ADDRESS: u16 = 3;
        const PORT: u16 = 5;
        self.load_joined(key);
        let lookup = Attributes::new().string(SET, map).be32(REGISTER_FROM, REGISTER);
        self.push("lookup", lookup.be32(REGISTER_TO, REGISTER));
        let kind = match nat {
            Nat::Source => 0,
            Nat::Destination => 1,
        };
        let mut translation = Attributes::new()
            .be32(KIND, kind)
            .be32(FAMILY, u32::from(family.number()))
            .be32(ADDRESS, REGISTER);
        if port {
            let address = if family == Family::Ip { 4_u32 } else { 16 };
            translation = translation.be32(PORT, SMALL_REGISTER + address.div_ceil(4));
        }
        self.push("nat", translation);
    }

    fn tcp_syn(&mut self) {
        const FLAGS: (u32, u32) = (13, 1);
        let (offset, length) = FLAGS;
        const SYN: u8 = 0x02;
        self.meta(META_L4PROTO, REGISTER);
        self.cmp(Op::Eq, &[PROTOCOL_TCP]);
        self.payload(TRANSPORT_HEADER, offset, length, REGISTER);
        self.mask(&[SYN]);
        self.cmp(Op::Ne, &[0]);
    }

    /// The segment size that the routes allow, in the wire's order, into the option of TCP.
    fn clamp_mss(&mut self) {
        const RT_REGISTER_TO: u16 = 1;
        const RT_KEY: u16 = 2;
        const RT_TCP_MSS: u32 = 3;
        let size = Attributes::new()
            .be32(RT_REGISTER_TO, REGISTER)
            .be32(RT_KEY, RT_TCP_MSS);
        self.push("rt", size);

        const ORDER_REGISTER_FROM: u16 = 1;
        const ORDER_REGISTER_TO: u16 = 2;
        const ORDER_OP: u16 = 3;
        const ORDER_LENGTH: u16 = 4;
        const ORDER_SIZE: u16 = 5;
        const HOST_TO_NETWORK: u32 = 1;
        let order = Attributes::new()
            .be32(ORDER_REGISTER_FROM, REGISTER)
            .be32(ORDER_REGISTER_TO, REGISTER)
            .be32(ORDER_OP, HOST_TO_NETWORK)
            .be32(ORDER_LENGTH, 2)
            .be32(ORDER_SIZE, 2);
        self.push("byteorder", order);

        const OPTION_KIND: u16 = 2;
        const OPTION_OFFSET: u16 = 3;
        const OPTION_LENGTH: u16 = 4;
        const OPTION_OP: u16 = 6;
        const OPTION_REGISTER_FROM: u16 = 7;
        const MAXSEG: u8 = 2;
        const TCP_OPTION: u32 = 1;
        let option = Attributes::new()
            .bytes(OPTION_KIND, &[MAXSEG])
            .be32(OPTION_OFFSET, 2)
            .be32(OPTION_LENGTH, 2)
            .be32(OPTION_OP, TCP_OPTION)
            .be32(OPTION_REGISTER_FROM, REGISTER);
        self.push("exthdr", option);
    }

    fn vxlan(&mut self, port: u16, vni: u32) {
        const DESTINATION_PORT: u32 = 2;
        // Behind UDP's header, and VXLAN's flags.
        const VNI: u32 = 8 + 4;
        self.meta(META_L4PROTO, REGISTER);
        self.cmp(Op::Eq, &[PROTOCOL_UDP]);
        self.payload(TRANSPORT_HEADER, DESTINATION_PORT, 2, REGISTER);
        self.cmp(Op::Eq, &port.to_be_bytes());
        let [_, vni @ ..] = vni.to_be_bytes();
        self.payload(TRANSPORT_HEADER, VNI, 3, REGISTER);
        self.cmp(Op::Eq, &vni);
    }

    /// What belongs to no connection doesn't match.
    fn untranslated(&mut self) {
        self.connection(CT_STATUS);
        self.mask(&TRANSLATED.to_ne_bytes());
        self.cmp(Op::Eq, &[0; 4]);
    }

    /// Some bits stay, others are set.
    fn set_mark(&mut self, stay: u32, bits: u32) {
        const KEY: u16 = 2;
        const REGISTER_FROM: u16 = 3;
        self.meta(META_MARK, REGISTER);
        self.bits(&stay.to_ne_bytes(), &bits.to_ne_bytes());
        self.push(
            "meta",
            Attributes::new()
                .be32(KEY, META_MARK)
                .be32(REGISTER_FROM, REGISTER),
        );
    }

    fn reject(&mut self, how: Reject) {
        const TYPE: u16 = 1;
        const CODE: u16 = 2;
        const TCP_RESET: u32 = 1;
        const ICMPX: u32 = 2;
        const PORT_UNREACHABLE: u8 = 1;
        let (kind, code) = match how {
            Reject::TcpReset => (TCP_RESET, 0),
            Reject::PortUnreachable => (ICMPX, PORT_UNREACHABLE),
        };
        self.push("reject", Attributes::new().be32(TYPE, kind).bytes(CODE, &[code]));
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

/// Length of a field in bytes.
const fn length(field: Field) -> u32 {
    match field {
        Field::IifName | Field::OifName => 16,
        Field::Ip4Source | Field::Ip4Destination | Field::Mark(_) => 4,
        Field::Ip6Source | Field::Ip6Destination => 16,
        Field::Protocol => 1,
        Field::DestinationPort => 2,
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
