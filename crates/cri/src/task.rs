//! containerd's own view of what runs: a task is a container's process.
//!
//! containerd keeps a task whose making was interrupted (the caller of StartContainer went away)
//! although its CRI takes that container for one that has ended, and from then on refuses to
//! remove it, with "cannot delete running task". Only the service below ends such a task, short of
//! a restart of containerd. Other runtimes don't have it.

use std::time::{Duration, Instant};

use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::{Client, Error};

/// The namespace that containerd's CRI keeps everything in.
const NAMESPACE: &str = "k8s.io";
/// One call: the shim does the work at once.
const CALL: Duration = Duration::from_secs(30);
/// How long a killed process may take to be gone.
const END: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
const SIGKILL: u32 = 9;

macro_rules! path {
    ($method:literal) => {
        concat!("/containerd.services.tasks.v1.Tasks/", $method)
    };
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct KillRequest {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(uint32, tag = "3")]
    signal: u32,
    #[prost(bool, tag = "4")]
    all: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct DeleteTaskRequest {
    #[prost(string, tag = "1")]
    container_id: String,
}

impl Client {
    /// Removes a container or sandbox by the call `path`. Where the runtime refuses because a task is left
    /// that it takes for ended, ends that task first and asks again.
    pub(crate) async fn remove<Q>(
        &self,
        path: &'static str,
        limit: Duration,
        request: Q,
        id: &str,
    ) -> Result<(), Error>
    where
        Q: prost::Message + Clone + 'static,
    {
        let refusal = match self.call::<Q, ()>(path, limit, request.clone()).await {
            Err(error @ Error::Refused { .. }) if !error.is_not_found() => error,
            other => return other,
        };
        match self.end_task(id).await {
            Ok(()) => self.call::<Q, ()>(path, limit, request).await,
            // No task, or no containerd: the refusal was about something else.
            Err(error) if error.is_not_found() || error.is_unimplemented() => Err(refusal),
            Err(error) => Err(refusal.and_then(&format!("ending its task: {error}"))),
        }
    }

    /// Kills a container's processes and makes containerd forget its task.
    async fn end_task(&self, id: &str) -> Result<(), Error> {
        let container_id = id.to_owned();
        let kill = KillRequest {
            container_id: container_id.clone(),
            signal: SIGKILL,
            all: true,
        };
        // Refused for processes that are gone already; what matters is whether the task can be deleted.
        let killed = self.task_call(path!("Kill"), kill).await;
        let end = Instant::now() + END;
        loop {
            let delete = DeleteTaskRequest {
                container_id: container_id.clone(),
            };
            match self.task_call(path!("Delete"), delete).await {
                Ok(()) => return Ok(()),
                // Whoever else noticed its end was quicker.
                Err(error) if error.is_not_found() && killed.is_ok() => return Ok(()),
                Err(error) if error.is_not_found() || error.is_unimplemented() => return Err(error),
                // Its end takes a moment, and until it is over deleting fails in more than one way.
                Err(Error::Refused { .. }) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(killed.err().unwrap_or(error)),
            }
        }
    }

    async fn task_call<Q: prost::Message + 'static>(
        &self,
        path: &'static str,
        message: Q,
    ) -> Result<(), Error> {
        let mut request = Request::new(message);
        let namespace = MetadataValue::from_static(NAMESPACE);
        request.metadata_mut().insert("containerd-namespace", namespace);
        self.call::<Q, ()>(path, CALL, request).await
    }
}
