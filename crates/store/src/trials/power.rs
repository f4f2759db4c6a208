//! Power that fails at any moment, and disks that err.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::history::History;
use super::machine::Machine;
use super::{times, workload};
use crate::{Error, Options, Store};

/// After so many crashes a new machine is taken, so that histories stay short.
const LIFE: usize = 60;

/// A machine's life: its store is opened, worked with and cut off, again and again.
struct Life {
    machine: Machine,
    history: History,
    numbers: Arc<AtomicU64>,
    rng: StdRng,
    runtime: tokio::runtime::Runtime,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut rng = StdRng::seed_from_u64(seed);
        Life {
            machine: Machine::new(StdRng::from_rng(&mut rng)),
            history: History::default(),
            numbers: Arc::default(),
            rng,
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
        }
    }

    fn open(&self) -> Result<Store, Error> {
        Store::on(Box::new(self.machine.clone()), Options::default())
    }

    /// Works until the store fails or there is nothing to do.
    fn work(&mut self, store: Store, turns: u64) -> Arc<Store> {
        let (store, notes) = (Arc::new(store), Arc::new(Mutex::new(Vec::new())));
        let note = {
            let notes = notes.clone();
            move |note| notes.lock().unwrap().push(note)
        };
        let work = workload::run(store.clone(), turns, self.numbers.clone(), note);
        self.runtime.block_on(work);
        self.history.add(std::mem::take(&mut *notes.lock().unwrap()));
        store
    }

    /// What the log holds is taken down, and some of what was taken down is dropped from it.
    fn look(&mut self, store: &Store) {
        self.history.take(store);
        if self.rng.random_ratio(1, 4) {
            let revision = self.rng.random_range(0..=self.history.revision());
            // Where the power fails meanwhile, it isn't compacted, or is.
            let _ = self.runtime.block_on(store.compact(revision));
        }
    }

    /// The power fails in the middle of opening, of compacting, or of work.
    fn lose_power(&mut self) {
        let store = self.open().expect("what a crash left can be opened");
        self.look(&store);
        drop(store);
        let operations = self.rng.random_range(1..120);
        self.machine.power_for(operations);
        if let Ok(store) = self.open() {
            let turns = 40;
            drop(self.work(store, turns));
        }
        assert!(self.machine.is_off(), "there is more work than power");
        self.machine.restart();
    }
}

#[test]
fn no_write_that_was_acknowledged_or_seen_is_lost_when_the_power_fails() {
    let crashes = times("STORE_CRASHES", 900);
    for life in 0..crashes.div_ceil(LIFE) {
        let mut life = Life::new(life as u64);
        for _ in 0..LIFE {
            life.lose_power();
        }
        let store = life.open().unwrap();
        life.history.take(&store);
        assert!(life.history.revision() > LIFE as u64, "something was written");
        life.history.check();
    }
}

#[test]
fn a_disk_that_errs_now_and_then_costs_the_calls_of_that_moment_alone() {
    for life in 0..times("STORE_CRASHES", 900).div_ceil(10 * LIFE) {
        let mut life = Life::new(1_000_000 + life as u64);
        let mut store = life.open().unwrap();
        for _ in 0..LIFE {
            life.machine.fault_after(life.rng.random_range(0..150));
            let worked = life.work(store, 10);
            // The same store goes on.
            store = Arc::into_inner(worked).expect("all callers have ended");
            life.machine.fault_after(u64::MAX);
            let probe = crate::Value::plain("");
            assert!(matches!(
                life.runtime.block_on(store.update("/none", probe, 1)),
                Err(Error::NotFound | Error::File(_))
            ));
            life.history.take(&store);
        }
        life.history.check();
    }
}
