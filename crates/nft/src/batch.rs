//! Netlink messages: a batch of changes that the kernel makes all or none of, and requests to dump.

use crate::lower::{LIST_ELEMENT, data, lower, octets};
use crate::set::{end, first};
use crate::wire::Attributes;
use crate::{Base, Change, Entry, Family, Key, KeyType, Place, Rule, Set};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

pub(crate) const NEW_TABLE: u8 = 0;
const GET_TABLE: u8 = 1;
const DELETE_TABLE: u8 = 2;
pub(crate) const NEW_CHAIN: u8 = 3;
const GET_CHAIN: u8 = 4;
const DELETE_CHAIN: u8 = 5;
pub(crate) const NEW_RULE: u8 = 6;
const GET_RULE: u8 = 7;
const DELETE_RULE: u8 = 8;
pub(crate) const NEW_SET: u8 = 9;
const GET_SET: u8 = 10;
const DELETE_SET: u8 = 11;
pub(crate) const NEW_ELEMENTS: u8 = 12;
const GET_ELEMENTS: u8 = 13;
const DELETE_ELEMENTS: u8 = 14;

const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_DUMP: u16 = 0x300;
const F_CREATE: u16 = 0x400;
const F_APPEND: u16 = 0x800;

/// How many elements go into one message: their attributes must fit into 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 400;

/// Attribute numbers that more than one kind of message has.
pub(crate) mod attribute {
    pub(crate) const TABLE_NAME: u16 = 1;
    pub(crate) const TABLE_FLAGS: u16 = 2;
    pub(crate) const CHAIN_NAME: u16 = 3;
    pub(crate) const CHAIN_HOOK: u16 = 4;
    pub(crate) const CHAIN_POLICY: u16 = 5;
    pub(crate) const CHAIN_TYPE: u16 = 7;
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
    pub(crate) const RULE_CHAIN: u16 = 2;
    pub(crate) const RULE_HANDLE: u16 = 3;
    pub(crate) const RULE_EXPRESSIONS: u16 = 4;
    pub(crate) const RULE_USERDATA: u16 = 7;
    pub(crate) const SET_TABLE: u16 = 1;
    pub(crate) const SET_NAME: u16 = 2;
    pub(crate) const SET_FLAGS: u16 = 3;
    pub(crate) const SET_KEY_TYPE: u16 = 4;
    pub(crate) const SET_KEY_LENGTH: u16 = 5;
    pub(crate) const SET_DATA_TYPE: u16 = 6;
    pub(crate) const SET_DATA_LENGTH: u16 = 7;
    pub(crate) const SET_ID: u16 = 10;
    pub(crate) const SET_USERDATA: u16 = 13;
    pub(crate) const ELEMENTS_TABLE: u16 = 1;
    pub(crate) const ELEMENTS_SET: u16 = 2;
    pub(crate) const ELEMENTS: u16 = 3;
    pub(crate) const ELEMENT_KEY: u16 = 1;
    pub(crate) const ELEMENT_DATA: u16 = 2;
    pub(crate) const ELEMENT_FLAGS: u16 = 3;
}

/// `nft`'s own note on a set: its keys are numbers of this machine (`NFTNL_UDATA_SET_KEYBYTEORDER`).
const MACHINE_NUMBERS: [u8; 6] = {
    const HOST_ENDIAN: [u8; 4] = 1_u32.to_ne_bytes();
    let [a, b, c, d] = HOST_ENDIAN;
    [0, 4, a, b, c, d]
};

/// The set holds intervals.
pub(crate) const SET_INTERVAL: u32 = 4;
/// The set is a map.
pub(crate) const SET_MAP: u32 = 8;
/// The element is the first address after an interval.
pub(crate) const ELEMENT_INTERVAL_END: u32 = 1;

/// A batch being written.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    requests: Vec<String>,
}

/// A finished batch.
#[derive(Debug)]
pub struct Sent {
    /// What goes to the kernel, in one write.
    pub bytes: Vec<u8>,
    requests: Vec<String>,
}

impl Sent {
    /// The command that the message with this sequence number stands for; for errors.
    pub fn request(&self, sequence: u32) -> &str {
        let index = usize::try_from(sequence)
            .ok()
            .and_then(|sequence| sequence.checked_sub(1));
        index
            .and_then(|index| self.requests.get(index))
            .map_or("change the nftables ruleset", String::as_str)
    }

    /// Sequence number of the message that is acknowledged when all is done.
    pub fn last(&self) -> u32 {
        u32::try_from(self.requests.len()).expect("a batch is smaller than 4 GiB")
    }
}

impl Batch {
    /// A batch that changes nothing yet.
    #[expect(
        clippy::new_without_default,
        reason = "an empty batch is a beginning, not a value"
    )]
    pub fn new() -> Batch {
        let mut batch = Batch {
            bytes: Vec::new(),
            requests: Vec::new(),
        };
        batch.frame(
            BATCH_BEGIN,
            F_REQUEST,
            0,
            Family::Other(0),
            SUBSYSTEM,
            &Attributes::new(),
        );
        batch
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Adds changes of one table.
    pub fn extend(&mut self, place: &Place, changes: &[Change]) {
        for change in changes {
            self.push(place, change);
        }
    }

    /// Adds a change.
    pub fn push(&mut self, place: &Place, change: &Change) {
        use attribute as a;
        let table = || Attributes::new().string(a::TABLE_NAME, &place.table);
        let chain = |name: &str| table().string(a::CHAIN_NAME, name);
        let rule = |chain: &str| table().string(a::RULE_CHAIN, chain);
        let set = |name: &str| table().string(a::SET_NAME, name);
        let (kind, flags, attributes) = match change {
            Change::AddTable => (NEW_TABLE, F_CREATE, table().be32(a::TABLE_FLAGS, 0)),
            Change::DeleteTable => (DELETE_TABLE, 0, table()),
            Change::AddSet(definition) => (NEW_SET, F_CREATE, self.set(place, definition)),
            Change::DeleteSet(name) => (DELETE_SET, 0, set(name)),
            Change::AddElements(set, entries) => {
                return self.elements(NEW_ELEMENTS, F_CREATE, place, set, entries);
            }
            Change::DeleteElements(set, entries) => {
                return self.elements(DELETE_ELEMENTS, 0, place, set, entries);
            }
            Change::FlushSet(name) => (DELETE_ELEMENTS, 0, set(name)),
            Change::AddChain(name, base) => (NEW_CHAIN, F_CREATE, with_base(chain(name), base.as_ref())),
            Change::DeleteChain(name) => (DELETE_CHAIN, 0, chain(name)),
            Change::FlushChain(name) => (DELETE_RULE, 0, rule(name)),
            Change::AddRule(chain, added) => (
                NEW_RULE,
                F_CREATE | F_APPEND,
                with_code(rule(chain), added, place.family),
            ),
            Change::InsertRule(chain, added) => {
                (NEW_RULE, F_CREATE, with_code(rule(chain), added, place.family))
            }
            Change::DeleteRule(chain, handle) => (DELETE_RULE, 0, rule(chain).be64(a::RULE_HANDLE, *handle)),
        };
        self.message(kind, flags, place.family, &attributes, change.describe(place));
    }

    /// The finished batch.
    pub fn finish(mut self) -> Sent {
        // The last change is acknowledged, and only once all are made.
        self.acknowledge_last();
        let sequence = self.next();
        self.frame(
            BATCH_END,
            F_REQUEST,
            sequence,
            Family::Other(0),
            SUBSYSTEM,
            &Attributes::new(),
        );
        Sent {
            bytes: self.bytes,
            requests: self.requests,
        }
    }

    fn set(&self, place: &Place, set: &Set) -> Attributes {
        use attribute as a;
        let is_map = !set.data.is_empty();
        let flags = if set.interval { SET_INTERVAL } else { 0 } | if is_map { SET_MAP } else { 0 };
        let length = |types: &[KeyType]| {
            u32::try_from(KeyType::total(types)).expect("a key is as long as a few registers at most")
        };
        let named = Attributes::new()
            .string(a::SET_TABLE, &place.table)
            .string(a::SET_NAME, &set.name);
        let mut typed = named
            .be32(a::SET_FLAGS, flags)
            .be32(a::SET_KEY_TYPE, KeyType::joined(&set.key))
            .be32(a::SET_KEY_LENGTH, length(&set.key));
        if is_map {
            typed = typed
                .be32(a::SET_DATA_TYPE, KeyType::joined(&set.data))
                .be32(a::SET_DATA_LENGTH, length(&set.data));
        }
        if set.key == [KeyType::Mark] {
            // Or `nft` reads marks as if they were the wire's numbers.
            typed = typed.bytes(a::SET_USERDATA, &MACHINE_NUMBERS);
        }
        typed.be32(a::SET_ID, self.next())
    }

    fn elements(&mut self, kind: u8, flags: u16, place: &Place, set: &Set, entries: &[Entry]) {
        use attribute as a;
        let verb = if kind == NEW_ELEMENTS { "add" } else { "delete" };
        for entries in entries.chunks(ELEMENTS_PER_MESSAGE) {
            let list = entries
                .iter()
                .fold(Attributes::new(), |list, entry| element(list, set, entry));
            let named = Attributes::new()
                .string(a::ELEMENTS_TABLE, &place.table)
                .string(a::ELEMENTS_SET, &set.name);
            let request = format!("{verb} element {place} {} {{ {} }}", set.name, some(entries));
            self.message(
                kind,
                flags,
                place.family,
                &named.nested(a::ELEMENTS, list),
                request,
            );
        }
    }

    fn next(&self) -> u32 {
        u32::try_from(self.requests.len() + 1).expect("a batch is smaller than 4 GiB")
    }

    fn message(&mut self, kind: u8, flags: u16, family: Family, attributes: &Attributes, request: String) {
        let sequence = self.next();
        self.requests.push(request);
        self.frame(
            SUBSYSTEM << 8 | u16::from(kind),
            F_REQUEST | flags,
            sequence,
            family,
            0,
            attributes,
        );
    }

    fn frame(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        family: Family,
        resource: u16,
        attributes: &Attributes,
    ) {
        frame(
            &mut self.bytes,
            kind,
            flags,
            sequence,
            family,
            resource,
            attributes,
        );
    }

    fn acknowledge_last(&mut self) {
        let mut start = 0;
        let mut last = 0;
        while let Some(length) = self.bytes.get(start..start + 4) {
            last = start;
            let length = u32::from_ne_bytes(length.try_into().expect("four bytes were taken"));
            start += usize::try_from(length).expect("lengths fit").next_multiple_of(4);
        }
        let flags = u16::from_ne_bytes([self.bytes[last + 6], self.bytes[last + 7]]) | F_ACK;
        self.bytes[last + 6..last + 8].copy_from_slice(&flags.to_ne_bytes());
    }
}

/// The first few elements, for people.
fn some(entries: &[Entry]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = entries.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if entries.len() > SHOWN {
        format!(" and {} more", entries.len() - SHOWN)
    } else {
        String::new()
    };
    shown.join(", ") + &more
}

fn with_base(chain: Attributes, base: Option<&Base>) -> Attributes {
    use attribute as a;
    let Some(base) = base else { return chain };
    let priority = base.priority.cast_unsigned();
    let hook = Attributes::new()
        .be32(a::HOOK_NUMBER, base.hook.number())
        .be32(a::HOOK_PRIORITY, priority);
    chain
        .nested(a::CHAIN_HOOK, hook)
        .be32(a::CHAIN_POLICY, base.policy.number())
        .string(a::CHAIN_TYPE, base.kind.name())
}

fn with_code(attributes: Attributes, rule: &Rule, family: Family) -> Attributes {
    use attribute as a;
    attributes
        .nested(a::RULE_EXPRESSIONS, lower(rule, family))
        .bytes(a::RULE_USERDATA, &user_data(rule, family))
}

/// `NFTNL_UDATA_RULE_COMMENT`: what `nft list` shows as the comment.
pub(crate) const USER_COMMENT: u8 = 0;
/// Ours: the rule's digest, 8 bytes.
pub(crate) const USER_DIGEST: u8 = 82;
/// Comments are cut to this.
const COMMENT_LENGTH: usize = 128;

/// A rule's user data: type, length, value.
fn user_data(rule: &Rule, family: Family) -> Vec<u8> {
    let mut bytes = vec![USER_DIGEST, 8];
    bytes.extend_from_slice(&digest(rule, family).to_be_bytes());
    if let Some(comment) = &rule.comment {
        let comment = &comment.as_bytes()[..comment.floor_char_boundary(COMMENT_LENGTH)];
        let length = u8::try_from(comment.len() + 1).expect("a comment is cut to 128 bytes");
        bytes.extend_from_slice(&[USER_COMMENT, length]);
        bytes.extend_from_slice(comment);
        bytes.push(0);
    }
    bytes
}

/// A number that differs if the rule's code or comment does (64-bit FNV-1a).
pub(crate) fn digest(rule: &Rule, family: Family) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let code = lower(rule, family).into_bytes();
    let comment = rule.comment.iter().flat_map(|comment| comment.bytes());
    code.into_iter()
        .chain(comment)
        .fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// An element; of an interval set its first address and the first address after it.
fn element(list: Attributes, set: &Set, entry: &Entry) -> Attributes {
    use attribute as a;
    let net = match &entry.key {
        Key::Net(net) => *net,
        Key::Joined(tuple) => {
            let mut element = Attributes::new().nested(a::ELEMENT_KEY, data(&tuple.octets()));
            if let Some(leads_to) = &entry.data {
                element = element.nested(a::ELEMENT_DATA, data(&leads_to.octets()));
            }
            return list.nested(LIST_ELEMENT, element);
        }
    };
    let bound = |address, flags: u32| {
        let bound = Attributes::new().nested(a::ELEMENT_KEY, data(&octets(address)));
        if flags == 0 {
            bound
        } else {
            bound.be32(a::ELEMENT_FLAGS, flags)
        }
    };
    let list = list.nested(LIST_ELEMENT, bound(first(net), 0));
    match end(net).filter(|_| set.interval) {
        Some(end) => list.nested(LIST_ELEMENT, bound(end, ELEMENT_INTERVAL_END)),
        None => list,
    }
}

/// What to ask the kernel for; the answers are read by [`crate::Object::parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// All tables of all families.
    Tables,
    /// All chains of all families.
    Chains,
    /// The rules of a table.
    Rules(&'a Place),
    /// The sets of a table.
    Sets(&'a Place),
    /// The elements of a set of a table.
    Elements(&'a Place, &'a str),
}

impl Request<'_> {
    /// The message that asks for a dump.
    pub fn bytes(self) -> Vec<u8> {
        use attribute as a;
        let any = Family::Other(0);
        let of = |place: &Place| Attributes::new().string(a::TABLE_NAME, &place.table);
        let (kind, family, attributes) = match self {
            Request::Tables => (GET_TABLE, any, Attributes::new()),
            Request::Chains => (GET_CHAIN, any, Attributes::new()),
            Request::Rules(place) => (GET_RULE, place.family, of(place)),
            Request::Sets(place) => (GET_SET, place.family, of(place)),
            Request::Elements(place, set) => {
                (GET_ELEMENTS, place.family, of(place).string(a::ELEMENTS_SET, set))
            }
        };
        let mut bytes = Vec::new();
        frame(
            &mut bytes,
            SUBSYSTEM << 8 | u16::from(kind),
            F_REQUEST | F_DUMP,
            1,
            family,
            0,
            &attributes,
        );
        bytes
    }
}

/// Appends a message: netlink's header, netfilter's header, attributes.
fn frame(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: Family,
    resource: u16,
    attributes: &Attributes,
) {
    const HEADERS: usize = 16 + 4;
    let length = u32::try_from(HEADERS + attributes.len()).expect("messages are split long before 4 GiB");
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    // The port: the kernel knows who asks.
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[family.number(), 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    bytes.extend_from_slice(attributes.as_bytes());
}
