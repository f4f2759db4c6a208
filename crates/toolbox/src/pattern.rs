//! A body whose every byte follows from its place, so that a receiver can tell
//! what was lost, doubled or mixed up. It is text, one line of 16 bytes each:
//! the line's offset in hexadecimal.

const LINE: usize = 16;

/// Fills `out` with the body's bytes from `offset` on.
pub(crate) fn fill(offset: u64, out: &mut [u8]) {
    let mut at = offset;
    let mut done = 0;
    while done < out.len() {
        let start = (at % LINE as u64) as usize;
        let line = line(at - start as u64);
        let n = (LINE - start).min(out.len() - done);
        out[done..done + n].copy_from_slice(&line[start..start + n]);
        done += n;
        at += n as u64;
    }
}

/// The offset of the first byte of `data` that isn't the body's from `offset` on.
pub(crate) fn first_difference(offset: u64, data: &[u8]) -> Option<u64> {
    let mut expected = [0; 4096];
    let mut at = offset;
    for part in data.chunks(expected.len()) {
        let expected = &mut expected[..part.len()];
        fill(at, expected);
        if expected != part {
            let same = expected.iter().zip(part).take_while(|(a, b)| a == b);
            return Some(at + same.count() as u64);
        }
        at += part.len() as u64;
    }
    None
}

fn line(offset: u64) -> [u8; LINE] {
    let mut line = [b'\n'; LINE];
    let mut rest = offset;
    for place in line[..LINE - 1].iter_mut().rev() {
        *place = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_piece_equals_the_whole_at_its_place() {
        let mut whole = [0; 100];
        fill(0, &mut whole);
        assert_eq!(&whole[..32], b"000000000000000\n000000000000010\n");
        for start in 0..50 {
            let mut piece = [0; 33];
            fill(start, &mut piece);
            let start = start as usize;
            assert_eq!(piece, whole[start..start + 33]);
        }
    }

    #[test]
    fn a_wrong_byte_is_found_at_its_offset() {
        let mut data = vec![0; 10_000];
        fill(7, &mut data);
        assert_eq!(first_difference(7, &data), None);
        assert_eq!(first_difference(23, &data), Some(29));
        data[9_000] ^= 1;
        assert_eq!(first_difference(7, &data), Some(9_007));
    }
}
