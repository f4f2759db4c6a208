//! The calls of `runtime.v1.RuntimeService`.

use std::time::Duration;

use crate::message::*;
use crate::{Client, Error};

/// Calls that only look: a healthy runtime answers in milliseconds.
const LOOK: Duration = Duration::from_secs(30);
/// Calls that set something up or take it down, network plugins included.
const CHANGE: Duration = Duration::from_secs(4 * 60);
/// What a call that waits on a container's own time limit gets on top.
const MARGIN: Duration = Duration::from_secs(30);

macro_rules! path {
    ($method:literal) => {
        concat!("/runtime.v1.RuntimeService/", $method)
    };
}

impl Client {
    /// Name and version of the runtime.
    pub async fn version(&self) -> Result<VersionResponse, Error> {
        self.call(path!("Version"), LOOK, VersionRequest::default()).await
    }

    /// Whether the runtime and its network are ready.
    pub async fn status(&self) -> Result<RuntimeStatus, Error> {
        let request = StatusRequest { verbose: false };
        let answer: StatusResponse = self.call(path!("Status"), LOOK, request).await?;
        Ok(answer.status.unwrap_or_default())
    }

    /// Makes a pod's namespaces, runs the network plugins, and starts its
    /// pause process. Returns the sandbox's id.
    pub async fn run_pod_sandbox(
        &self,
        config: PodSandboxConfig,
        runtime_handler: String,
    ) -> Result<String, Error> {
        let request = RunPodSandboxRequest {
            config: Some(config),
            runtime_handler,
        };
        let answer: RunPodSandboxResponse = self.call(path!("RunPodSandbox"), CHANGE, request).await?;
        Ok(answer.pod_sandbox_id)
    }

    /// Ends a sandbox's processes and gives its network back. Idempotent.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let _: Empty = self.call(path!("StopPodSandbox"), CHANGE, request).await?;
        Ok(())
    }

    /// Forgets a sandbox and every container in it. Idempotent.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.remove(path!("RemovePodSandbox"), CHANGE, request, id).await
    }

    /// A sandbox in detail, its addresses included.
    pub async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus, Error> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let answer: PodSandboxStatusResponse = self.call(path!("PodSandboxStatus"), LOOK, request).await?;
        Ok(answer.status.unwrap_or_default())
    }

    /// The sandboxes that match a filter; the default filter matches all.
    pub async fn list_pod_sandbox(&self, filter: PodSandboxFilter) -> Result<Vec<PodSandbox>, Error> {
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let answer: ListPodSandboxResponse = self.call(path!("ListPodSandbox"), LOOK, request).await?;
        Ok(answer.items)
    }

    /// Prepares a container in a sandbox. Returns its id.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<String, Error> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let answer: CreateContainerResponse = self.call(path!("CreateContainer"), CHANGE, request).await?;
        Ok(answer.container_id)
    }

    /// Starts a container that was created.
    pub async fn start_container(&self, id: &str) -> Result<(), Error> {
        let request = StartContainerRequest {
            container_id: id.to_owned(),
        };
        let _: Empty = self.call(path!("StartContainer"), CHANGE, request).await?;
        Ok(())
    }

    /// Asks a container to end and kills it when `grace` is over; returns once
    /// it has ended. Idempotent.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout: whole_seconds(grace),
        };
        let _: Empty = self.call(path!("StopContainer"), grace + CHANGE, request).await?;
        Ok(())
    }

    /// Forgets a container, killing it if it runs. Idempotent.
    pub async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let request = RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        self.remove(path!("RemoveContainer"), CHANGE, request, id).await
    }

    /// The containers that match a filter; the default filter matches all.
    pub async fn list_containers(&self, filter: ContainerFilter) -> Result<Vec<Container>, Error> {
        let request = ListContainersRequest { filter: Some(filter) };
        let answer: ListContainersResponse = self.call(path!("ListContainers"), LOOK, request).await?;
        Ok(answer.containers)
    }

    /// A container in detail: when it started and how it ended.
    pub async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error> {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let answer: ContainerStatusResponse = self.call(path!("ContainerStatus"), LOOK, request).await?;
        Ok(answer.status.unwrap_or_default())
    }

    /// Changes the limits of a container that exists.
    pub async fn update_container_resources(
        &self,
        id: &str,
        linux: LinuxContainerResources,
    ) -> Result<(), Error> {
        let request = UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
        };
        let _: Empty = self
            .call(path!("UpdateContainerResources"), CHANGE, request)
            .await?;
        Ok(())
    }

    /// Makes the runtime open a container's log file anew, after a rotation.
    pub async fn reopen_container_log(&self, id: &str) -> Result<(), Error> {
        let request = ReopenContainerLogRequest {
            container_id: id.to_owned(),
        };
        let _: Empty = self.call(path!("ReopenContainerLog"), LOOK, request).await?;
        Ok(())
    }

    /// Runs a command in a container and collects its output. A command that
    /// outlives `limit` is killed and reported as [`Error::is_timeout`].
    pub async fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        limit: Duration,
    ) -> Result<ExecSyncResponse, Error> {
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.to_vec(),
            timeout: whole_seconds(limit),
        };
        self.call(path!("ExecSync"), limit + MARGIN, request).await
    }

    /// Prepares a streamed command; returns the URL to stream it from.
    pub async fn exec(&self, request: ExecRequest) -> Result<String, Error> {
        let answer: StreamResponse = self.call(path!("Exec"), LOOK, request).await?;
        Ok(answer.url)
    }

    /// Prepares a stream to a container's own process; returns its URL.
    pub async fn attach(&self, request: AttachRequest) -> Result<String, Error> {
        let answer: StreamResponse = self.call(path!("Attach"), LOOK, request).await?;
        Ok(answer.url)
    }

    /// Prepares streams to ports in a sandbox; returns their URL.
    pub async fn port_forward(&self, sandbox: &str, ports: Vec<i32>) -> Result<String, Error> {
        let request = PortForwardRequest {
            pod_sandbox_id: sandbox.to_owned(),
            port: ports,
        };
        let answer: StreamResponse = self.call(path!("PortForward"), LOOK, request).await?;
        Ok(answer.url)
    }

    /// What one container uses.
    pub async fn container_stats(&self, id: &str) -> Result<ContainerStats, Error> {
        let request = ContainerStatsRequest {
            container_id: id.to_owned(),
        };
        let answer: ContainerStatsResponse = self.call(path!("ContainerStats"), LOOK, request).await?;
        Ok(answer.stats.unwrap_or_default())
    }

    /// What the containers that match a filter use.
    pub async fn list_container_stats(
        &self,
        filter: ContainerStatsFilter,
    ) -> Result<Vec<ContainerStats>, Error> {
        let request = ListContainerStatsRequest { filter: Some(filter) };
        let answer: ListContainerStatsResponse =
            self.call(path!("ListContainerStats"), LOOK, request).await?;
        Ok(answer.stats)
    }
}

impl Client {
    /// What the pods that match a filter use. Older runtimes refuse it.
    pub async fn list_pod_sandbox_stats(
        &self,
        filter: PodSandboxStatsFilter,
    ) -> Result<Vec<PodSandboxStats>, Error> {
        let request = ListPodSandboxStatsRequest { filter: Some(filter) };
        let answer: ListPodSandboxStatsResponse =
            self.call(path!("ListPodSandboxStats"), LOOK, request).await?;
        Ok(answer.stats)
    }
}

/// CRI counts whole seconds, and 0 means "at once": round up.
fn whole_seconds(duration: Duration) -> i64 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_second_is_not_lost() {
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(30)), 30);
    }
}
