//! Maglev's table: which of a set's backends a hash leads to.
//!
//! Each backend has an order of its own in which it would like the table's slots, and in turn each
//! takes the next one that is free. So all have about as many, and when one comes or goes the others
//! keep nearly all of theirs; on every node the table is the same.

use std::net::{IpAddr, SocketAddr};

use model::Backend;

/// Sizes of tables, primes: a step of any length then comes by every slot. A few hundred slots for
/// each backend make the shares equal to about a percent; a set that outgrows the first size is
/// spread anew, once.
const SIZES: [usize; 2] = [4093, 65_521];
/// How many backends the smaller size is for.
const FEW: usize = 256;
/// How many backends a table has room for.
pub(super) const MOST: usize = SIZES[1];

/// The table of these backends, of which there is one at least.
pub(super) fn table(backends: &[Backend]) -> Box<[u16]> {
    let backends = &backends[..backends.len().min(MOST)];
    let size = if backends.len() <= FEW { SIZES[0] } else { SIZES[1] };
    let mut wishes: Vec<Wishes> = backends
        .iter()
        .map(|backend| Wishes::new(backend.socket, size))
        .collect();
    let mut table: Vec<Option<u16>> = vec![None; size];
    let mut free = size;
    loop {
        for (at, wishes) in wishes.iter_mut().enumerate() {
            if free == 0 {
                return table.into_iter().flatten().collect();
            }
            let slot = wishes.first(|slot| table[slot].is_none());
            table[slot] = Some(u16::try_from(at).expect("a table has fewer backends"));
            free -= 1;
        }
    }
}

/// The slots of a table in the order in which a backend would like them.
struct Wishes {
    next: usize,
    step: usize,
    size: usize,
}

impl Wishes {
    fn new(socket: SocketAddr, size: usize) -> Wishes {
        let hash = hash(socket);
        let below = |bits: u64, end: usize| {
            usize::try_from(bits % u64::try_from(end).expect("sizes are small")).expect("it is below a size")
        };
        Wishes {
            next: below(hash >> 32, size),
            step: 1 + below(hash & 0xffff_ffff, size - 1),
            size,
        }
    }

    /// The first slot that is wanted; one is.
    fn first(&mut self, is_wanted: impl Fn(usize) -> bool) -> usize {
        loop {
            let slot = self.next;
            self.next = (slot + self.step) % self.size;
            if is_wanted(slot) {
                return slot;
            }
        }
    }
}

/// FNV-1a, stirred: its own bits depend too little on the last bytes. The same in every version, or
/// an upgrade would move every client.
fn hash(socket: SocketAddr) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let fold = |bytes: &[u8], hash| {
        bytes.iter().fold(hash, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
        })
    };
    let hash = match socket.ip() {
        IpAddr::V4(address) => fold(&address.octets(), OFFSET),
        IpAddr::V6(address) => fold(&address.octets(), OFFSET),
    };
    stir(fold(&socket.port().to_be_bytes(), hash))
}

const fn stir(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn backends(count: u32) -> Vec<Backend> {
        let backend = |number: u32| Backend {
            socket: SocketAddr::new(Ipv4Addr::from_bits(0x0af4_0000 + number).into(), 8080),
            local: false,
        };
        (0..count).map(backend).collect()
    }

    fn shares(table: &[u16], backends: usize) -> Vec<usize> {
        let mut shares = vec![0; backends];
        table.iter().for_each(|at| shares[usize::from(*at)] += 1);
        shares
    }

    #[test]
    fn sizes_are_prime() {
        for size in SIZES {
            assert!(
                (2..).take_while(|by| by * by <= size).all(|by| size % by != 0),
                "{size}"
            );
        }
    }

    #[test]
    fn all_have_about_as_much() {
        for count in [1, 2, 3, 10, 100, 256, 257, 1000] {
            let table = table(&backends(count));
            let shares = shares(&table, count as usize);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count} backends: from {least} to {most}");
        }
    }

    #[test]
    fn who_stays_keeps_nearly_everything_when_another_goes() {
        let before = backends(50);
        let mut after = before.clone();
        let gone = after.remove(20);
        let (old, new) = (table(&before), table(&after));
        let moved = old.iter().zip(&new).filter(|(old, new)| {
            let (old, new) = (before[usize::from(**old)], after[usize::from(**new)]);
            old != gone && old != new
        });
        let moved = moved.count();
        assert!(
            moved * 20 < old.len(),
            "{moved} of {} moved without need",
            old.len()
        );
    }

    #[test]
    fn more_backends_than_slots_are_cut() {
        let table = table(&backends(70_000));
        assert_eq!(table.len(), MOST);
    }
}
