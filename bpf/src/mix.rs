//! A number that words always give, spread over all numbers: MurmurHash3.

/// Words so far.
#[derive(Clone, Copy)]
pub struct Mix(u32);

impl Mix {
    #[inline(always)]
    pub fn new(seed: u32) -> Mix {
        Mix(seed)
    }

    #[inline(always)]
    pub fn word(self, word: u32) -> Mix {
        let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15);
        let mixed = (self.0 ^ word.wrapping_mul(0x1b87_3593)).rotate_left(13);
        Mix(mixed.wrapping_mul(5).wrapping_add(0xe654_6b64))
    }

    /// One after the other: a loop would be one to the kernel, too.
    #[inline(always)]
    pub fn words(self, [a, b, c, d]: [u32; 4]) -> Mix {
        self.word(a).word(b).word(c).word(d)
    }

    #[inline(always)]
    pub fn end(self) -> u32 {
        let mut hash = self.0;
        hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
        hash ^ hash >> 16
    }
}
