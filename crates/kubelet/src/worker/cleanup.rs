//! Giving back what a pod holds, and removing what is left of it. Everything
//! here can be done again after it broke off half way.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use crate::context::Context;
use crate::pod::PodKey;
use crate::{sandbox, volumes};

/// How long the kernel may take to let go of a cgroup whose processes ended.
const CGROUP_LIMIT: Duration = Duration::from_secs(10);

/// What is left of a pod.
pub(super) struct Cleanup {
    pub(super) ctx: Arc<Context>,
    pub(super) key: PodKey,
    pub(super) sandboxes: Vec<String>,
    pub(super) runs: Vec<String>,
    /// The API still has the pod.
    pub(super) delete_object: bool,
}

impl Cleanup {
    /// For a pod that is over and stays to be looked at: its address, its
    /// volumes.
    pub(super) async fn release(&self) -> Result<(), String> {
        for id in &self.sandboxes {
            self.ctx
                .cri
                .stop_pod_sandbox(id)
                .await
                .map_err(|e| e.to_string())?;
        }
        let dir = self.ctx.pod_dir(&self.key.uid);
        remove_folders(vec![dir.join("volume-subpaths"), dir.join("volumes")]).await
    }

    /// For a pod that goes: everything, and its object last, so that as long
    /// as anything is left somebody knows of it.
    pub(super) async fn remove(&self) -> Result<(), String> {
        self.remove_from_runtime().await.map_err(|e| e.to_string())?;
        let logs = self.ctx.config.logs_dir().join(self.key.log_dir_name());
        remove_folders(vec![self.ctx.pod_dir(&self.key.uid), logs]).await?;
        self.remove_cgroup().await?;
        if self.delete_object {
            self.delete()
                .await
                .map_err(|e| format!("cannot delete the pod's object: {e}"))?;
        }
        Ok(())
    }

    async fn remove_from_runtime(&self) -> Result<(), cri::Error> {
        for id in &self.sandboxes {
            self.ctx.cri.stop_pod_sandbox(id).await?;
        }
        for id in &self.runs {
            self.ctx.cri.remove_container(id).await?;
        }
        for id in &self.sandboxes {
            self.ctx.cri.remove_pod_sandbox(id).await?;
        }
        Ok(())
    }

    /// The pod's cgroup, which the runtime leaves alone, and in it what the runtime has lost.
    async fn remove_cgroup(&self) -> Result<(), String> {
        let group = self
            .ctx
            .hierarchies
            .group(&sandbox::cgroup(&self.ctx.config, &self.key.uid));
        blocking(move || {
            group.kill_all(CGROUP_LIMIT)?;
            group.remove(CGROUP_LIMIT)
        })
        .await
    }

    async fn delete(&self) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.ctx.client.clone(), &self.key.namespace);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(self.key.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(&self.key.name, &params).await {
            Ok(_) => Ok(()),
            // Gone already, or another pod has the name by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

async fn remove_folders(folders: Vec<PathBuf>) -> Result<(), String> {
    blocking(move || {
        folders
            .iter()
            .try_for_each(|folder| volumes::remove_unmounted(folder))
    })
    .await
}

async fn blocking(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => Err(panic.to_string()),
    }
}
