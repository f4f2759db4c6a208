//! The values that go in and the entries and events that come out.

use bytes::Bytes;

use crate::Error;

/// A value to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    bytes: Vec<u8>,
    stamp: Option<usize>,
}

impl Value {
    /// A value that is stored as it is.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Value {
        Value {
            bytes: bytes.into(),
            stamp: None,
        }
    }

    /// A value into which the store writes, at `offset`, the decimal digits of the revision it gets.
    ///
    /// # Panics
    /// When `offset` lies outside the bytes.
    pub fn stamped(bytes: impl Into<Vec<u8>>, offset: usize) -> Value {
        let bytes = bytes.into();
        assert!(offset <= bytes.len(), "the stamp's place lies inside the value");
        Value {
            bytes,
            stamp: Some(offset),
        }
    }

    /// How many bytes it has, the revision aside.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes as stored at `revision`.
    pub fn at(self, revision: u64) -> Bytes {
        let Some(offset) = self.stamp else {
            return self.bytes.into();
        };
        let digits = revision.to_string();
        let mut stamped = Vec::with_capacity(self.bytes.len() + digits.len());
        stamped.extend_from_slice(&self.bytes[..offset]);
        stamped.extend_from_slice(digits.as_bytes());
        stamped.extend_from_slice(&self.bytes[offset..]);
        stamped.into()
    }
}

/// A change to make, and what it expects to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The key doesn't exist: else [`Error::Exists`].
    Create {
        /// The key.
        key: String,
        /// Its value.
        value: Value,
    },
    /// The key's last change was at `revision`: else [`Error::Conflict`] or [`Error::NotFound`].
    Update {
        /// The key.
        key: String,
        /// Its new value.
        value: Value,
        /// As the caller read it.
        revision: u64,
    },
    /// The same.
    Delete {
        /// The key.
        key: String,
        /// The value that watches see with the deletion.
        last: Value,
        /// As the caller read it.
        revision: u64,
    },
}

impl Write {
    pub(crate) fn value(&self) -> &Value {
        match self {
            Write::Create { value, .. } | Write::Update { value, .. } | Write::Delete { last: value, .. } => {
                value
            }
        }
    }
}

/// A key's value, as of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// The revision of the last change.
    pub revision: u64,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It didn't exist before.
    Created,
    /// It got another value.
    Updated,
    /// It is gone.
    Deleted,
}

/// One change, as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The change's revision.
    pub revision: u64,
    /// The key.
    pub key: String,
    /// What happened.
    pub change: Change,
    /// The new value; of a deletion, the last one.
    pub value: Bytes,
    /// The value before; empty for a creation.
    pub previous: Bytes,
    /// The revision of the value before; 0 for a creation.
    pub previous_revision: u64,
}

/// Record: change (1 byte), previous revision (8), length of key (4) and of value (4), key, value, previous
/// value; integers little-endian.
const HEADER: usize = 1 + 8 + 4 + 4;

impl Event {
    /// Bytes that the event holds on to.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Event>() + self.key.len() + self.value.len() + self.previous.len()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(HEADER + self.key.len() + self.value.len() + self.previous.len());
        record.push(match self.change {
            Change::Created => 0,
            Change::Updated => 1,
            Change::Deleted => 2,
        });
        record.extend_from_slice(&self.previous_revision.to_le_bytes());
        record.extend_from_slice(&length(self.key.len()));
        record.extend_from_slice(&length(self.value.len()));
        record.extend_from_slice(self.key.as_bytes());
        record.extend_from_slice(&self.value);
        record.extend_from_slice(&self.previous);
        record
    }

    pub(crate) fn decode(revision: u64, record: &[u8]) -> Result<Event, Error> {
        let view = View::new(record)?;
        Ok(Event {
            revision,
            key: view.key.to_owned(),
            change: view.change,
            value: Bytes::copy_from_slice(view.value),
            previous: Bytes::copy_from_slice(view.previous),
            previous_revision: view.previous_revision,
        })
    }
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes)
        .expect("keys and values are far smaller than 4 GiB")
        .to_le_bytes()
}

/// An event's record, unread: a long log is searched without copying the values.
pub(crate) struct View<'a> {
    pub(crate) change: Change,
    pub(crate) previous_revision: u64,
    pub(crate) key: &'a str,
    pub(crate) value: &'a [u8],
    pub(crate) previous: &'a [u8],
}

impl<'a> View<'a> {
    pub(crate) fn new(record: &'a [u8]) -> Result<View<'a>, Error> {
        View::parse(record).ok_or(Error::Damaged("an event's record is malformed"))
    }

    fn parse(record: &'a [u8]) -> Option<View<'a>> {
        let (change, rest) = record.split_first()?;
        let (previous_revision, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key) as usize)?;
        let (value, previous) = rest.split_at_checked(u32::from_le_bytes(*value) as usize)?;
        Some(View {
            change: match change {
                0 => Change::Created,
                1 => Change::Updated,
                2 => Change::Deleted,
                _ => return None,
            },
            previous_revision: u64::from_le_bytes(*previous_revision),
            key: std::str::from_utf8(key).ok()?,
            value,
            previous,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_written_where_the_value_wants_it() {
        assert_eq!(Value::stamped("a\"\"z", 2).at(17), "a\"17\"z");
        assert_eq!(Value::plain("az").at(17), "az");
    }

    #[test]
    fn an_event_survives_its_record() {
        let event = Event {
            revision: 9,
            key: "/a/ü".into(),
            change: Change::Deleted,
            value: Bytes::from_static(b"last"),
            previous: Bytes::from_static(b"before"),
            previous_revision: 7,
        };
        assert_eq!(Event::decode(9, &event.encode()).unwrap(), event);
    }

    #[test]
    fn a_truncated_record_is_damage_and_not_a_panic() {
        let record = Event {
            revision: 1,
            key: "key".into(),
            change: Change::Created,
            value: Bytes::from_static(b"value"),
            previous: Bytes::new(),
            previous_revision: 0,
        }
        .encode();
        for end in 0..record.len() {
            assert!(Event::decode(1, &record[..end]).is_err(), "cut at {end}");
        }
    }
}
