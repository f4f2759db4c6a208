use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures::stream::BoxStream;

use tokio::sync::watch;

/// What the kubelet wants to know about the node's network: pods start, and
/// the node becomes Ready, only once it is ready.
pub trait NetworkStatus: Send + Sync + 'static {
    /// Ready, or in one sentence why not; the sentence shows in the Node's
    /// Ready condition.
    fn ready(&self) -> Result<(), String>;

    /// Completes when [`Self::ready`] may have a new answer.
    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// What the network has to add to the kubelet's `/metrics`.
    fn metrics(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(std::future::ready(String::new()))
    }

    /// What `/flows` answers, as lines of JSON that come when they come; `None` where
    /// nobody tells of flows. A query that can't be understood is an error.
    fn flows(&self, _query: &str) -> Option<Result<BoxStream<'static, Bytes>, String>> {
        None
    }
}

/// A [`NetworkStatus`] that somebody else sets.
#[derive(Debug)]
pub struct NetworkGate {
    state: watch::Sender<Result<(), String>>,
}

impl NetworkGate {
    /// A gate that is closed for that reason.
    pub fn closed(reason: impl Into<String>) -> Self {
        Self {
            state: watch::Sender::new(Err(reason.into())),
        }
    }

    /// A gate that is open.
    pub fn open() -> Self {
        Self {
            state: watch::Sender::new(Ok(())),
        }
    }

    /// Opens or closes the gate; telling it what it knows wakes nobody.
    pub fn set(&self, state: Result<(), String>) {
        self.state.send_if_modified(|now| {
            let differs = *now != state;
            *now = state;
            differs
        });
    }
}

impl NetworkStatus for NetworkGate {
    fn ready(&self) -> Result<(), String> {
        self.state.borrow().clone()
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut receiver = self.state.subscribe();
        Box::pin(async move {
            // The sender is `self`, so it outlives this future.
            receiver.changed().await.ok();
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn opening_the_gate_wakes_who_waits() {
        let gate = NetworkGate::closed("the node has no pod range yet");
        assert_eq!(gate.ready(), Err("the node has no pod range yet".into()));
        let waiting = gate.changed();
        gate.set(Ok(()));
        waiting.await;
        assert_eq!(gate.ready(), Ok(()));
    }
}
