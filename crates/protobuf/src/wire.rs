//! protobuf's wire format: tags, varints and bytes with their length before them.

/// One field, as it was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed64([u8; 8]),
    /// Of a type that no message here has.
    Other,
}

/// Reads a message's fields one after the other.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    /// The next field's number and value; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Item<'a>)>, &'static str> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let (number, kind) = self.tag()?;
        let item = match kind {
            0 => Item::Varint(self.varint()?),
            2 => {
                let length = self.varint()?;
                Item::Bytes(self.take(length)?)
            }
            1 => {
                let bytes = self.take(8)?;
                Item::Fixed64(bytes.try_into().map_err(|_| "it ends within a number")?)
            }
            5 => self.take(4).map(|_| Item::Other)?,
            3 => self.skip_group(number)?,
            _ => return Err("a field has a wire type that doesn't exist"),
        };
        Ok(Some((number, item)))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.bytes.split_first().ok_or("it ends within a number")?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number is longer than 64 bits")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn tag(&mut self) -> Result<(u32, u64), &'static str> {
        let tag = self.varint()?;
        match u32::try_from(tag >> 3) {
            Ok(number) if number > 0 => Ok((number, tag & 7)),
            _ => Err("a field's number is out of range"),
        }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], &'static str> {
        let split = usize::try_from(length)
            .ok()
            .and_then(|length| self.bytes.split_at_checked(length));
        let (taken, rest) = split.ok_or("a value is longer than what holds it")?;
        self.bytes = rest;
        Ok(taken)
    }

    /// Groups are from before Kubernetes; one that is skipped may hold others.
    fn skip_group(&mut self, number: u32) -> Result<Item<'a>, &'static str> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let (number, kind) = self.tag()?;
            match kind {
                0 => {
                    self.varint()?;
                }
                1 => {
                    self.take(8)?;
                }
                2 => {
                    let length = self.varint()?;
                    self.take(length)?;
                }
                3 => open.push(number),
                4 if number == innermost => {
                    open.pop();
                }
                5 => {
                    self.take(4)?;
                }
                _ => return Err("a group ends that didn't begin"),
            }
        }
        Ok(Item::Other)
    }
}

/// Appends a number.
pub(crate) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        // The low seven bits, and a mark that more follow.
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field that is a number.
pub(crate) fn number(field: u32, value: i64, out: &mut Vec<u8>) {
    varint(u64::from(field) << 3, out);
    varint(value.cast_unsigned(), out);
}

/// Appends a field that is eight bytes.
pub(crate) fn fixed64(field: u32, value: [u8; 8], out: &mut Vec<u8>) {
    varint(u64::from(field) << 3 | 1, out);
    out.extend_from_slice(&value);
}

/// Appends a field that is text, bytes or a message.
pub(crate) fn bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(field) << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Item<'_>)>, &'static str> {
        let mut reader = Reader::new(bytes);
        std::iter::from_fn(|| reader.next().transpose()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        number(1, 0, &mut out);
        number(2, -1, &mut out);
        number(536_870_911, 300, &mut out);
        bytes(3, b"text", &mut out);
        let expected = [
            (1, Item::Varint(0)),
            (2, Item::Varint(u64::MAX)),
            (536_870_911, Item::Varint(300)),
            (3, Item::Bytes(b"text")),
        ];
        assert_eq!(read(&out).unwrap(), expected);
    }

    #[test]
    fn types_that_nobody_uses_are_passed_over() {
        let fixed = [&[0x09][..], &[0; 8], &[0x15], &[0; 4], &[0x18, 7]].concat();
        assert_eq!(
            read(&fixed).unwrap(),
            [(1, Item::Fixed64([0; 8])), (2, Item::Other), (3, Item::Varint(7))]
        );
        let group = [0x0b, 0x13, 0x08, 1, 0x14, 0x12, 1, 0xff, 0x0c, 0x18, 7];
        assert_eq!(read(&group).unwrap(), [(1, Item::Other), (3, Item::Varint(7))]);
    }

    #[test]
    fn malformed_bytes_are_refused() {
        for bytes in [
            &[0x08][..],
            &[0x08, 0x80],
            &[0x0a, 5, 1],
            &[0x00, 0],
            &[0x0b],
            &[0x0b, 0x14],
            &[0x0c],
            &[0x0e],
            &[0x09, 1],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert!(read(bytes).is_err(), "{bytes:x?}");
        }
    }
}
