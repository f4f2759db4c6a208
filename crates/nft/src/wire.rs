//! Netlink attributes as bytes: a writer that can't get lengths wrong and a reader that never
//! panics.
//!
//! An attribute is a length (its four header bytes included), a type, and a value padded to four
//! bytes. Numbers in nf_tables are big-endian, but for those inside an expression's data registers.

/// The attribute holds attributes.
const NESTED: u16 = 1 << 15;
/// What is left of a type without its flags.
const TYPE_MASK: u16 = !(NESTED | 1 << 14);

/// Attributes being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// None yet.
    pub fn new() -> Attributes {
        Attributes::default()
    }

    /// Appends raw bytes.
    ///
    /// # Panics
    ///
    /// If the value is longer than an attribute can be (64 KiB): callers split lists before.
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Attributes {
        let length = u16::try_from(value.len() + 4)
            .expect("lists are split so that an attribute fits its length field");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Appends a string with its closing zero.
    pub fn string(self, kind: u16, value: &str) -> Attributes {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Appends a big-endian 32-bit number.
    pub fn be32(self, kind: u16, value: u32) -> Attributes {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Appends a big-endian 64-bit number.
    pub fn be64(self, kind: u16, value: u64) -> Attributes {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Appends attributes within an attribute.
    pub fn nested(self, kind: u16, inner: Attributes) -> Attributes {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// The bytes written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// How many bytes are written.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The bytes end within an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a netlink attribute is cut short")]
pub struct Truncated;

/// Reads attributes as (type without flags, value).
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Truncated>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let attribute = split(rest);
        rest = attribute.map_or(&[], |(_, _, rest)| rest);
        Some(attribute.map(|(kind, value, _)| (kind, value)))
    })
}

fn split(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), Truncated> {
    let [l0, l1, k0, k1, ..] = *bytes else {
        return Err(Truncated);
    };
    let length = usize::from(u16::from_ne_bytes([l0, l1]));
    let value = bytes.get(4..length).ok_or(Truncated)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    Ok((u16::from_ne_bytes([k0, k1]) & TYPE_MASK, value, rest))
}

/// The value of the first attribute of that type.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .flatten()
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| value)
}

/// A big-endian 32-bit number.
pub fn be32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// A string without its closing zero.
pub fn string(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_reads_back() {
        let inner = Attributes::new().be32(1, 7).string(2, "abc");
        let bytes = Attributes::new().bytes(9, &[1]).nested(3, inner).into_bytes();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(find(&bytes, 9), Some(&[1][..]));
        let nested = find(&bytes, 3).unwrap();
        assert_eq!(find(nested, 1).and_then(be32), Some(7));
        assert_eq!(find(nested, 2).map(string), Some("abc".to_owned()));
        assert_eq!(find(nested, 4), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_always_ends(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(attributes(&bytes).count() <= bytes.len() + 1);
        }
    }
}
