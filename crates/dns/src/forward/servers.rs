//! Some servers that know the same names: in which order they are asked.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A single lost datagram says nothing of the server.
const ALLOWED: u32 = 2;
/// How long a server that doesn't answer is asked after the others.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Servers in the order of preference.
#[derive(Debug)]
pub(super) struct Servers {
    list: Vec<SocketAddr>,
    health: Mutex<Vec<Health>>,
}

#[derive(Debug, Clone, Default)]
struct Health {
    /// Failures since the last answer.
    failures: u32,
    until: Option<Instant>,
}

impl Servers {
    pub(super) fn new(list: &[SocketAddr]) -> Servers {
        Servers {
            list: list.to_vec(),
            health: Mutex::new(vec![Health::default(); list.len()]),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those to ask, in order: who has answered before who hasn't lately. Never whoever asks.
    pub(super) fn order(&self, client: IpAddr) -> Vec<SocketAddr> {
        let (now, health) = (Instant::now(), self.health());
        let resting = |index: usize| health[index].until.is_some_and(|until| now < until);
        let mut order: Vec<usize> = (0..self.list.len()).collect();
        order.retain(|index| self.list[*index].ip() != client);
        order.sort_by_key(|index| resting(*index));
        order.into_iter().map(|index| self.list[index]).collect()
    }

    /// It answered.
    pub(super) fn answered(&self, server: SocketAddr) {
        self.change(server, |health| *health = Health::default());
    }

    /// It didn't.
    pub(super) fn failed(&self, server: SocketAddr) {
        self.change(server, |health| {
            health.failures = health.failures.saturating_add(1);
            if let Some(beyond) = health.failures.checked_sub(ALLOWED) {
                let pause = FIRST_PAUSE.saturating_mul(1 << beyond.min(8)).min(LAST_PAUSE);
                health.until = Some(Instant::now() + pause);
            }
        });
    }

    fn change(&self, server: SocketAddr, change: impl FnOnce(&mut Health)) {
        if let Some(index) = self.list.iter().position(|known| *known == server) {
            change(&mut self.health()[index]);
        }
    }

    fn health(&self) -> MutexGuard<'_, Vec<Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_fails_is_asked_last_until_it_answers() {
        let list = ["192.0.2.1:53", "192.0.2.2:53"].map(|text| text.parse().expect("an address"));
        let servers = Servers::new(&list);
        let nobody: IpAddr = "10.0.0.1".parse().expect("an address");
        servers.failed(list[0]);
        assert_eq!(servers.order(nobody), list, "one failure is nothing");
        servers.failed(list[0]);
        assert_eq!(servers.order(nobody), [list[1], list[0]]);
        servers.answered(list[0]);
        assert_eq!(servers.order(nobody), list);
        assert_eq!(servers.order(list[0].ip()), [list[1]], "who asks isn't asked");
    }
}
