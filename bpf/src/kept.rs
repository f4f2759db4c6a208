//! Where conversations are kept: in sets of four places, which a hash finds that nobody outside can tell.
//!
//! ```text
//! hash ─► set ─► its word: four names ─► the place that has the conversation's name ─► the conversation
//!                          ended │ used │ 13 more bits of the hash
//! ```
//!
//! So a look costs a word, and an entry only where there is one, and to keep one is to write it: there's no
//! list of free entries, and none of which was used last. A set that is full gives away the place of a
//! connection that has ended, or else any.
//!
//! Beginnings that await their answers have places of their own, one for each hash.
//!
//! Nobody holds a lock. An entry says whose it is and what all its words come to: one that is written while
//! it's read, or by two at once, is nobody's.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use bpf_abi::{End, Flow, FlowKey, size};

use crate::maps::Family;
use crate::packet::Turned;

/// What multiplies each word of an entry: any odd numbers.
const ODD: [u64; 12] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
    0x5899_65cc_7537_4cc3,
    0x1d8e_4e27_c47d_124f,
    0xeb44_acca_b455_d165,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
];

/// What no entry comes to.
const NONE: u32 = 0;

/// One in each name.
const EACH: u64 = 0x0001_0001_0001_0001;
/// A name: that its place is used, and bits of the hash.
const USED: u64 = 0x2000;
const NAME: u64 = 0x3fff;
/// Who has ended: the key's sender, the other; both, in the same bits.
const ENDED: [u16; 2] = [0x4000, 0x8000];

/// What is kept of a conversation, in the order of its key.
pub struct Kept<F: Family> {
    pub ways: [u16; 2],
    pub generation: u32,
    pub ends: [[u64; 2]; 2],
    pub gateway: F::Address,
}

/// A conversation that is looked for.
pub struct Sought<F: Family> {
    key: F::Words,
    pub place: Place,
}

impl<F: Family> Sought<F> {
    #[inline(always)]
    pub fn new(key: &FlowKey<F::Address>) -> Sought<F> {
        let key = F::words(key);
        Sought {
            key,
            place: Place(F::hash(key)),
        }
    }
}

/// Where a conversation is, if it's anywhere.
#[derive(Clone, Copy)]
pub struct Place(u64);

impl Place {
    #[inline(always)]
    fn set(self) -> u32 {
        (self.0 >> 50) as u32 & (size::SETS - 1)
    }

    #[inline(always)]
    fn name(self) -> u64 {
        USED | self.0 >> 36 & (USED - 1)
    }

    #[inline(always)]
    fn opening(self) -> u32 {
        self.0 as u32 & (size::OPENINGS - 1)
    }
}

/// What is known of a conversation.
#[inline(always)]
pub fn find<F: Family>(sought: &Sought<F>) -> Option<Kept<F>> {
    let set = sought.place.set();
    // SAFETY: the map's value, read once and whole.
    let names = unsafe { F::names(set)?.read_volatile() };
    let at = first(named(names, sought.place.name()))?;
    read(F::flow(set * 4 + at)?, sought)
}

/// Keeps what is known of a conversation, over whatever was known of it. `begins`: nobody has ended it.
#[inline(always)]
pub fn keep<F: Family>(sought: &Sought<F>, kept: &Kept<F>, begins: bool) {
    if let Some(slot) = take::<F>(sought.place, begins) {
        write(slot, sought, kept);
    }
}

/// A place for a conversation: its own, if it has one.
#[inline(always)]
fn take<F: Family>(place: Place, begins: bool) -> Option<*mut Flow<F::Address>> {
    let held = F::names(place.set())?;
    // SAFETY: as above.
    let names = unsafe { held.read_volatile() };
    let own = first(named(names, place.name()));
    let at = match own.or_else(|| first(room(names))) {
        Some(at) => at,
        // SAFETY: it has no arguments.
        None => (unsafe { bpf_get_prandom_u32() }) & 3,
    };
    let mut name = place.name() as u16;
    if own.is_some() && !begins {
        name |= (names >> (at * 16)) as u16 & (ENDED[0] | ENDED[1]);
    }
    set_name(held, at, name);
    F::flow(place.set() * 4 + at)
}

/// One side has ended a connection; `whole`: for both.
#[inline(always)]
pub fn end<F: Family>(place: Place, turned: Turned, whole: bool) {
    let Some(held) = F::names(place.set()) else {
        return;
    };
    // SAFETY: as above.
    let names = unsafe { held.read_volatile() };
    if let Some(at) = first(named(names, place.name())) {
        let [own, other] = turned.order(ENDED);
        let ended = if whole { own | other } else { own };
        set_name(held, at, (names >> (at * 16)) as u16 | ended);
    }
}

/// A conversation that has begun and whose answer is awaited.
#[inline(always)]
pub fn opening<F: Family>(sought: &Sought<F>) -> Option<Kept<F>> {
    read(F::opening(sought.place.opening())?, sought)
}

/// Awaits an answer.
#[inline(always)]
pub fn open<F: Family>(sought: &Sought<F>, kept: &Kept<F>) {
    if let Some(slot) = F::opening(sought.place.opening()) {
        write(slot, sought, kept);
    }
}

/// Keeps a conversation as it was opened, as its answer is there. If the place of its beginning has become
/// another's meanwhile, nobody finds what is kept then.
#[inline(always)]
pub fn answer<F: Family>(place: Place) {
    if let Some(opening) = F::opening(place.opening())
        && let Some(slot) = take::<F>(place, true)
    {
        F::copy(opening, slot);
        // SAFETY: the map's value.
        unsafe { (&raw mut (*opening).sum).write_volatile(NONE) };
    }
}

/// Awaits no answer any more.
#[inline(always)]
pub fn close<F: Family>(sought: &Sought<F>) {
    if let Some(slot) = F::opening(sought.place.opening())
        && F::key_of(slot) == sought.key
    {
        // SAFETY: as above.
        unsafe { (&raw mut (*slot).sum).write_volatile(NONE) };
    }
}

/// In the highest bit of each place whose name it is, and nowhere else: one.
#[inline(always)]
fn named(names: u64, name: u64) -> u64 {
    let differs = (names & NAME * EACH) ^ name * EACH;
    !(differs + NAME * EACH) << 1 & 0x8000 * EACH
}

/// The same of each that may be given away: nobody uses it, or both sides have ended.
#[inline(always)]
fn room(names: u64) -> u64 {
    ((names & names << 1) | !(names << 2)) & 0x8000 * EACH
}

/// The first place that is marked so.
#[inline(always)]
fn first(marks: u64) -> Option<u32> {
    /// Times the first bit of a place: the place's number in the highest ones.
    const NUMBERS: u64 = 0x0000_0001_0002_0003;
    let one = (marks & marks.wrapping_neg()) >> 15;
    (marks != 0).then_some((one.wrapping_mul(NUMBERS) >> 48) as u32 & 3)
}

#[inline(always)]
fn set_name(names: *mut u64, at: u32, name: u16) {
    // SAFETY: one of the four that are in the map's value; the first is the lowest.
    unsafe { names.cast::<u16>().add(at as usize & 3).write_volatile(name) };
}

/// What an entry's words come to; never [`NONE`].
#[inline(always)]
fn sum<F: Family>(key: F::Words, kept: &Kept<F>) -> u32 {
    let [[a, b], [c, d]] = kept.ends;
    let ways = u64::from(kept.ways[0]) | u64::from(kept.ways[1]) << 16;
    let rest = ways << 32 | u64::from(kept.generation);
    let mut sum = F::sum(key, kept.gateway, &ODD);
    for (word, at) in [(a, 7), (b, 8), (c, 9), (d, 10), (rest, 11)] {
        sum = sum.wrapping_add(word.wrapping_mul(ODD[at]));
    }
    (sum >> 32) as u32 | 1
}

/// What an entry says, if it's the conversation's and whole.
#[inline(always)]
fn read<F: Family>(slot: *mut Flow<F::Address>, sought: &Sought<F>) -> Option<Kept<F>> {
    // SAFETY: the map's value; each word is read once.
    let (kept, held) = unsafe {
        let ends = (&raw const (*slot).ends).cast::<u64>();
        let end = |at: usize| ends.add(at).read_volatile();
        let kept = Kept {
            ways: (&raw const (*slot).ways).read_volatile(),
            generation: (&raw const (*slot).generation).read_volatile(),
            ends: [[end(0), end(1)], [end(2), end(3)]],
            gateway: (&raw const (*slot).gateway).read_volatile(),
        };
        (kept, (&raw const (*slot).sum).read_volatile())
    };
    (F::key_of(slot) == sought.key && held == sum(sought.key, &kept)).then_some(kept)
}

#[inline(always)]
fn write<F: Family>(slot: *mut Flow<F::Address>, sought: &Sought<F>, kept: &Kept<F>) {
    F::set_key(slot, sought.key);
    // SAFETY: the map's value.
    unsafe {
        let ends = (&raw mut (*slot).ends).cast::<u64>();
        let [[a, b], [c, d]] = kept.ends;
        ends.write_volatile(a);
        ends.add(1).write_volatile(b);
        ends.add(2).write_volatile(c);
        ends.add(3).write_volatile(d);
        (&raw mut (*slot).gateway).write_volatile(kept.gateway);
        (&raw mut (*slot).generation).write_volatile(kept.generation);
        (&raw mut (*slot).ways).write_volatile(kept.ways);
        (&raw mut (*slot).sum).write_volatile(sum(sought.key, kept));
    }
}

/// An end as two words, as it's laid out in memory.
#[inline(always)]
pub fn words(end: &End) -> [u64; 2] {
    let [a, b, c] = end.mac.map(u64::from);
    [
        u64::from(end.link) | u64::from(end.mtu) << 32,
        a | b << 16 | c << 32 | u64::from(end.place) << 48,
    ]
}

/// An end of its words.
#[inline(always)]
pub fn end_of([first, second]: [u64; 2]) -> End {
    End {
        link: first as u32,
        mtu: (first >> 32) as u32,
        mac: [second as u16, (second >> 16) as u16, (second >> 32) as u16],
        place: (second >> 48) as u16,
    }
}
