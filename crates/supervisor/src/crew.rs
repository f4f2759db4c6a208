//! Processes that are started and ended together: those of a node, or the control plane's.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::state::State;
use crate::unit::{Unit, Wanted};

/// Looks after some units until it is dismissed, for good.
#[derive(Debug)]
pub(crate) struct Crew {
    state: Arc<State>,
    wanted: watch::Sender<Wanted>,
    tasks: TaskTracker,
}

impl Crew {
    pub(crate) fn new(state: &Arc<State>) -> Arc<Self> {
        Arc::new(Self {
            state: Arc::clone(state),
            wanted: watch::Sender::new(Wanted::Running),
            tasks: TaskTracker::new(),
        })
    }

    /// Keeps a process running from now on.
    pub(crate) fn look_after(&self, unit: Unit) {
        let state = Arc::clone(&self.state);
        self.tasks.spawn(unit.supervise(state, self.wanted.subscribe()));
    }

    /// Tells what is to become of the processes.
    pub(crate) fn dismiss(&self, wish: Wanted) {
        self.wanted.send_replace(wish);
        self.tasks.close();
    }

    /// Waits until nobody looks after any of them: nothing is started again from then on.
    pub(crate) async fn dismissed(&self) {
        self.tasks.wait().await;
    }
}
