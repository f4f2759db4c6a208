//! Ranges of ports as the prefixes that a table of longest matches holds.

/// The fewest prefixes that cover a range: a first port, and how many of its 16 bits count.
pub(super) fn prefixes(first: u16, last: u16) -> Vec<(u16, u8)> {
    let mut prefixes = Vec::new();
    let (mut from, end) = (u32::from(first), u32::from(last));
    while from <= end {
        // As large as the first port allows, and the end.
        let aligned = from.trailing_zeros().min(16);
        let fitting = (end - from + 1).ilog2();
        let bits = aligned.min(fitting);
        let port = u16::try_from(from).expect("the end is a port, and this is before it");
        prefixes.push((port, 16 - bits as u8));
        from += 1 << bits;
    }
    prefixes
}

/// The first port of the prefix of that length that a port is in.
pub(super) fn first(port: u16, bits: u8) -> u16 {
    let rest = 16 - u32::from(bits.min(16));
    port & u16::MAX.checked_shl(rest).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_is_few_prefixes() {
        assert_eq!(prefixes(0, 65535), [(0, 0)]);
        assert_eq!(prefixes(80, 80), [(80, 16)]);
        assert_eq!(prefixes(8080, 8090), [(8080, 13), (8088, 15), (8090, 16)]);
        assert_eq!(prefixes(2, 1), []);
        assert_eq!(prefixes(1, 65534).len(), 30);
    }

    proptest! {
        #[test]
        fn prefixes_cover_the_range_and_nothing_else(from: u16, to: u16, port: u16) {
            let covered = prefixes(from, to).iter().filter(|(prefix, bits)| first(port, *bits) == *prefix).count();
            prop_assert_eq!(covered, usize::from((from..=to).contains(&port)));
        }
    }
}
