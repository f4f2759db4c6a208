//! How one of a set's backends is picked.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_boot_ns};
use bpf_abi::service::{Affinity, AffinityKey, Backend, Choice, Frontend, strategy};

use crate::mix::Mix;
use crate::service::{self, Services};

/// A backend and its id.
pub type Picked<F> = (u32, &'static Backend<<F as crate::maps::Family>::Address>);

/// A backend for a client; none if the set has none.
#[inline(always)]
pub fn pick<F: Services>(frontend: &Frontend, choice: &Choice, client: [u32; 4]) -> Option<Picked<F>> {
    if frontend.affinity == 0 {
        return choose::<F>(frontend, choice, client);
    }
    let key = AffinityKey {
        client,
        set: choice.set,
    };
    let now = seconds();
    if let Some(kept) = service::affinity(&key) {
        // SAFETY: an entry that is evicted at this moment is stale for one connection; what's written
        // is no more than when a client came.
        let Affinity { backend, seen } = unsafe { *kept };
        if now.wrapping_sub(seen) <= frontend.affinity
            && let Some(found) = F::backend(backend)
        {
            unsafe { (*kept).seen = now };
            return Some((backend, found));
        }
    }
    let (id, found) = choose::<F>(frontend, choice, client)?;
    service::set_affinity(
        &key,
        &Affinity {
            backend: id,
            seen: now,
        },
    );
    Some((id, found))
}

#[inline(always)]
fn choose<F: Services>(frontend: &Frontend, choice: &Choice, client: [u32; 4]) -> Option<Picked<F>> {
    let at = |number: u32| -> Option<Picked<F>> {
        let id = service::slot(choice.set, number.checked_rem(choice.slots)?)?;
        Some((id, F::backend(id)?))
    };
    let number = match frontend.strategy {
        strategy::ROUND_ROBIN => service::turn(choice.set),
        strategy::SOURCE_HASH => hash(client),
        _ => random(),
    };
    // A set that is being written may lack a slot that was its last.
    let first = at(number).or_else(|| at(0))?;
    if frontend.strategy != strategy::LEAST_CONNECTIONS {
        return Some(first);
    }
    // Another than the first, if there is one.
    let other = number.wrapping_add(1 + random().checked_rem(choice.slots - 1).unwrap_or(0));
    match at(other) {
        Some(second) if service::load(second.0) < service::load(first.0) => Some(second),
        _ => Some(first),
    }
}

#[inline(always)]
fn random() -> u32 {
    unsafe { bpf_get_prandom_u32() }
}

/// Seconds since the machine started.
#[inline(always)]
fn seconds() -> u32 {
    (unsafe { bpf_ktime_get_boot_ns() } / 1_000_000_000) as u32
}

/// A number that a client always gets, spread over all of them.
#[inline(always)]
fn hash(client: [u32; 4]) -> u32 {
    Mix::new(0x9e37_79b9).words(client).end()
}
