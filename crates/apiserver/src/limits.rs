//! How much is done at once, and for whom: one noisy client doesn't keep the others from being served.
//!
//! A request takes a seat while it is answered (what streams on afterwards, as watches and logs do, needs
//! none). There are two rooms, so that nodes and the cluster's own controllers are served whatever others do.
//! In each room a user has only some of the seats, and so has others before it for a bounded time at most:
//!
//! ```text
//! request ─► user's queue ─► user's seats ─► the room's seats, in the order of arrival ─► answer
//!               └─ too long, or too slow: 429, and when to come back
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::status::Failure;

const PATIENCE: Duration = Duration::from_secs(15);

/// How many seats there are.
#[derive(Debug, Clone, Copy)]
struct Size {
    room: usize,
    user: usize,
    /// How many requests of a user may be there, waiting ones included.
    queue: usize,
    /// How long a request waits for a seat.
    patience: Duration,
}

/// For nodes and the cluster's own controllers.
const SYSTEM: Size = Size {
    room: 128,
    user: 64,
    queue: 1024,
    patience: PATIENCE,
};
/// For everybody else, administrators included.
const OTHERS: Size = Size {
    room: 64,
    user: 24,
    queue: 256,
    patience: PATIENCE,
};

/// Who nodes and the cluster's own controllers are, by their names' beginnings.
const CLUSTERS_OWN: [&str; 3] = [
    "system:node:",
    "system:kube-",
    "system:serviceaccount:kube-system:",
];

/// The seats of the server.
pub(crate) struct Limits {
    system: Room,
    others: Room,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            system: Room::new(SYSTEM),
            others: Room::new(OTHERS),
        }
    }
}

impl Limits {
    /// A seat for a request of a user; waits until one is free.
    pub(crate) async fn seat(&self, user: &str) -> Result<Seat, Failure> {
        let own = CLUSTERS_OWN.iter().any(|prefix| user.starts_with(prefix));
        let room = if own { &self.system } else { &self.others };
        room.seat(user).await
    }
}

struct Room {
    size: Size,
    seats: Arc<Semaphore>,
    users: Arc<Mutex<HashMap<String, Arc<User>>>>,
}

/// A user with requests.
struct User {
    seats: Arc<Semaphore>,
    requests: AtomicUsize,
}

impl Room {
    fn new(size: Size) -> Room {
        Room {
            size,
            seats: Arc::new(Semaphore::new(size.room)),
            users: Arc::default(),
        }
    }

    async fn seat(&self, user: &str) -> Result<Seat, Failure> {
        let place = self.enter(user)?;
        let seats = async {
            let own = place.user.seats.clone().acquire_owned().await;
            let room = self.seats.clone().acquire_owned().await;
            // Nobody closes these semaphores.
            own.ok().zip(room.ok())
        };
        match tokio::time::timeout(self.size.patience, seats).await {
            Ok(seats) => Ok(Seat {
                _seats: seats,
                _place: place,
            }),
            Err(_) => Err(Failure::too_many_requests()),
        }
    }

    /// A place in the user's queue.
    fn enter(&self, name: &str) -> Result<Place, Failure> {
        let user = lock(&self.users)
            .entry(name.to_owned())
            .or_insert_with(|| {
                Arc::new(User {
                    seats: Arc::new(Semaphore::new(self.size.user)),
                    requests: AtomicUsize::new(0),
                })
            })
            .clone();
        let before = user.requests.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            name: name.to_owned(),
            user,
            users: self.users.clone(),
        };
        if before >= self.size.queue {
            return Err(Failure::too_many_requests());
        }
        Ok(place)
    }
}

/// The right to be answered now.
pub(crate) struct Seat {
    _seats: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    _place: Place,
}

/// A request that is there, waiting or not.
struct Place {
    name: String,
    user: Arc<User>,
    users: Arc<Mutex<HashMap<String, Arc<User>>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = lock(&self.users);
        // A newcomer that has looked the user up already holds it as well.
        if self.user.requests.fetch_sub(1, Ordering::Relaxed) == 1 && Arc::strong_count(&self.user) == 2 {
            users.remove(&self.name);
        }
    }
}

fn lock(users: &Mutex<HashMap<String, Arc<User>>>) -> MutexGuard<'_, HashMap<String, Arc<User>>> {
    users.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn room() -> Room {
        Room::new(Size {
            room: 3,
            user: 2,
            queue: 4,
            patience: Duration::from_millis(20),
        })
    }

    #[tokio::test]
    async fn a_user_has_some_of_the_seats_and_waits_for_more() {
        let room = room();
        let first = room
            .seat("noisy")
            .await
            .unwrap_or_else(|_| panic!("a seat is free"));
        let _second = room.seat("noisy").await;
        let mut third = Box::pin(room.seat("noisy"));
        assert!((&mut third).now_or_never().is_none());
        assert!(room.seat("quiet").now_or_never().is_some_and(|seat| seat.is_ok()));
        drop(first);
        assert!((&mut third).now_or_never().is_some_and(|seat| seat.is_ok()));
    }

    #[tokio::test]
    async fn a_long_queue_turns_away_and_says_when_to_come_back() {
        let room = room();
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(room.seat("noisy"))).collect();
        let seats: Vec<_> = waiting.iter_mut().map(|seat| seat.now_or_never()).collect();
        assert_eq!(seats.iter().filter(|seat| seat.is_some()).count(), 2);
        let Some(Err(refused)) = room.seat("noisy").now_or_never() else {
            panic!("there is no place left");
        };
        assert_eq!((refused.code.as_u16(), refused.reason), (429, "TooManyRequests"));
        assert_eq!(refused.details["retryAfterSeconds"], 1);
        drop(seats);
        drop(waiting);
        assert!(lock(&room.users).is_empty());
        assert!(room.seat("noisy").await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_too_long_is_turned_away() {
        let room = room();
        let _seats = (room.seat("noisy").await, room.seat("noisy").await);
        assert!(room.seat("noisy").await.is_err());
    }

    #[tokio::test]
    async fn nodes_have_a_room_of_their_own() {
        let limits = Limits {
            system: room(),
            others: room(),
        };
        let sit = |user: &'static str| limits.seat(user).now_or_never().and_then(Result::ok);
        let seats = ["a", "a", "b", "b"].map(sit);
        assert_eq!(seats.iter().flatten().count(), 3);
        assert!(sit("system:node:n1").is_some() && sit("system:kube-scheduler").is_some());
    }
}
