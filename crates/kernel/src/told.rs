//! Waiting for what the programs tell.

use bpf_abi::policy::Event;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{Error, PolicyEvents, Result};

/// What the programs tell, some of it at a time.
#[derive(Debug)]
pub struct ToldEvents(AsyncFd<PolicyEvents>);

impl ToldEvents {
    /// Waits for what that reader reads.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(events: PolicyEvents) -> Result<ToldEvents> {
        // SAFETY: the descriptor is the map's, which the reader holds open as long as it lives, and the
        // registration owns the reader.
        let events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) };
        let events = events.map_err(|error| failed(error.into()))?;
        Ok(ToldEvents(events))
    }

    /// The next ones, at most so many: as soon as there is one. Nothing is lost if it's dropped before.
    pub async fn next(&mut self, most: usize) -> Result<Vec<Event>> {
        loop {
            let mut ready = self.0.readable_mut().await.map_err(failed)?;
            let mut told = Vec::new();
            while told.len() < most
                && let Some(event) = ready.get_inner_mut().next_event()
            {
                told.push(event);
            }
            if told.len() < most {
                ready.clear_ready();
            }
            if !told.is_empty() {
                return Ok(told);
            }
        }
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::Io {
        action: "wait for what the programs tell",
        source,
    }
}
