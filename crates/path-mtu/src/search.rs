//! The largest packet that arrives.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::probe::{Heard, Probe};
use crate::{Error, Fate, Patience};

/// Sizes that are tried at once: a loss is only known by waiting, so one wait is to tell much.
const AT_ONCE: u32 = 32;

/// What arrives, and what becomes of one byte more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Largest {
    pub(crate) carries: Option<u32>,
    pub(crate) larger: Fate,
}

/// Looks for it, from what the link takes downwards.
pub(crate) fn largest(probe: &Probe, link_mtu: u32, patience: Patience) -> Result<Largest, Error> {
    let least = probe.least().min(link_mtu);
    match send(probe, least, patience)? {
        Fate::Arrived => {}
        larger => {
            return Ok(Largest {
                carries: None,
                larger,
            });
        }
    }
    let mut size = link_mtu;
    let mut refused = None;
    loop {
        match send(probe, size, patience)? {
            Fate::Arrived => break,
            // By a link or router that takes less than was thought; it said how much.
            Fate::Refused if size > least => {
                refused = Some(size);
                let told = probe.told().unwrap_or(size);
                size = told.min(size - 1).max(least);
            }
            // The least has arrived a moment ago: it is this one that is lost.
            Fate::Refused | Fate::Lost if size <= least => break,
            Fate::Refused | Fate::Lost => {
                let carries = Some(largest_between(probe, least, size, patience)?);
                let larger = Fate::Lost;
                return Ok(Largest { carries, larger });
            }
        }
    }
    let larger = match refused {
        Some(refused) if refused == size + 1 => Fate::Refused,
        _ => send(probe, size + 1, patience)?,
    };
    let carries = Some(size);
    Ok(Largest { carries, larger })
}

/// The largest that arrives although larger ones are lost without a word.
fn largest_between(probe: &Probe, good: u32, lost: u32, patience: Patience) -> Result<u32, Error> {
    let (mut good, mut bad) = (good, lost);
    while bad > good + 1 {
        let sizes = steps(good, bad);
        let arrived = send_all(probe, &sizes, patience)?;
        // What is smaller than one that arrives would, too, if it were sent often enough.
        good = arrived.last().copied().unwrap_or(good);
        bad = sizes.range(good + 1..).next().copied().unwrap_or(bad);
    }
    Ok(good)
}

/// Sizes between two, evenly apart.
fn steps(good: u32, bad: u32) -> BTreeSet<u32> {
    let between = bad - good - 1;
    let count = between.min(AT_ONCE);
    let at = |step: u32| good + (u64::from(between + 1) * u64::from(step) / u64::from(count + 1)) as u32;
    let sizes = (1..=count).map(at);
    sizes.filter(|size| (good + 1..bad).contains(size)).collect()
}

/// Sends all of these until each has been answered, or been sent often enough; those that arrived.
fn send_all(probe: &Probe, sizes: &BTreeSet<u32>, patience: Patience) -> Result<BTreeSet<u32>, Error> {
    let mut arrived = BTreeSet::new();
    for _ in 0..patience.tries {
        for size in sizes.difference(&arrived) {
            probe.send(*size)?;
        }
        let deadline = Instant::now() + patience.limit;
        while arrived.len() < sizes.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if let Heard::Arrived(size) = probe.hear(left)?
                && sizes.contains(&size)
            {
                arrived.insert(size);
            }
        }
    }
    Ok(arrived)
}

/// Sends one packet until something comes back, or it has been sent often enough.
fn send(probe: &Probe, size: u32, patience: Patience) -> Result<Fate, Error> {
    for _ in 0..patience.tries {
        if !probe.send(size)? {
            return Ok(Fate::Refused);
        }
        let deadline = Instant::now() + patience.limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match probe.hear(left)? {
                Heard::Arrived(heard) if heard == size => return Ok(Fate::Arrived),
                Heard::TooBig => return Ok(Fate::Refused),
                // Answers to earlier packets may be late.
                Heard::Arrived(_) | Heard::Nothing => {}
            }
        }
    }
    Ok(Fate::Lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lie_between_and_the_last_round_has_them_all() {
        for (good, bad) in [(576, 1500), (576, 65536), (1299, 1301), (100, 134), (100, 130)] {
            let sizes = steps(good, bad);
            assert!(!sizes.is_empty() && sizes.len() <= AT_ONCE as usize);
            assert!(sizes.iter().all(|size| *size > good && *size < bad), "{sizes:?}");
            if bad - good - 1 <= AT_ONCE {
                assert_eq!(sizes.len() as u32, bad - good - 1);
            }
        }
    }
}
