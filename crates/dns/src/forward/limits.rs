//! Bounds on what waits for others: a flood of questions must not take memory and sockets from the
//! rest, nor one client from the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Failed;

/// How much there may be at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Questions that wait for others.
    pub waiting: usize,
    /// Of those, one client's.
    pub waiting_of_one: usize,
    /// Bytes of remembered answers.
    pub cache_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            waiting: 4096,
            waiting_of_one: 512,
            cache_bytes: 16 << 20,
        }
    }
}

#[derive(Debug)]
pub(super) struct Limits {
    bounds: Bounds,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    total: usize,
    of: HashMap<IpAddr, usize>,
}

impl Limits {
    pub(super) fn new(bounds: Bounds) -> Limits {
        Limits {
            bounds,
            waiting: Mutex::default(),
        }
    }

    /// A place among those who wait, until it's dropped.
    pub(super) fn enter(&self, client: IpAddr) -> Result<Place<'_>, Failed> {
        let mut waiting = self.waiting();
        let own = waiting.of.get(&client).copied().unwrap_or(0);
        if waiting.total >= self.bounds.waiting || own >= self.bounds.waiting_of_one {
            return Err(Failed::Busy);
        }
        waiting.total += 1;
        waiting.of.insert(client, own + 1);
        Ok(Place { limits: self, client })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Place<'a> {
    limits: &'a Limits,
    client: IpAddr,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.limits.waiting();
        waiting.total -= 1;
        match waiting.of.get_mut(&self.client) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                waiting.of.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_room_for_others_and_all_leave_room_again() {
        let limits = Limits::new(Bounds {
            waiting: 3,
            waiting_of_one: 2,
            ..Bounds::default()
        });
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().expect("one"), "10.0.0.2".parse().expect("one"));
        let first = limits.enter(a).expect("room");
        let _second = limits.enter(a).expect("room");
        assert!(limits.enter(a).is_err(), "one client's limit");
        let _third = limits.enter(b).expect("room for others");
        assert!(limits.enter(b).is_err(), "everybody's limit");
        drop(first);
        assert!(limits.enter(b).is_ok());
        assert_eq!(limits.waiting().total, 2);
    }
}
