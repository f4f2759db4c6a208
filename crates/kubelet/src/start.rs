//! Starting one container: image, environment, mounts, create, start, hook.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri::message::{Mount, PodSandboxConfig};
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio_util::sync::CancellationToken;

use crate::container_config::{self, MESSAGE_PATH, Prepared, container_config};
use crate::context::Context;
use crate::decide::{Start, Waiting};
use crate::env;
use crate::events::About;
use crate::handler::{Outcome, Target};
use crate::metrics::count;
use crate::objects::PodObjects;
use crate::pod::{self, PodKey};
use crate::runtime::Sandbox;
use crate::{hosts, security, volumes};

/// How long a postStart hook may take; Kubernetes sets no limit, which would
/// let one hook hold a pod's start for ever.
const HOOK_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Why a container didn't start, as its status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartError {
    pub(crate) waiting: Waiting,
    /// It was about getting the image.
    pub(crate) is_image: bool,
}

impl StartError {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            waiting: Waiting {
                reason: reason.to_owned(),
                message: message.into(),
            },
            is_image: false,
        }
    }
}

/// One container to start.
pub(crate) struct Starter {
    pub(crate) ctx: Arc<Context>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) sandbox: Sandbox,
    pub(crate) start: Start,
    pub(crate) objects: PodObjects,
    /// An earlier attempt that was created and never ran.
    pub(crate) leftover: Option<String>,
    /// The pod is going: don't begin anything any more.
    pub(crate) cancel: CancellationToken,
}

impl Starter {
    /// Starts it. `Ok(false)` if the pod began to go meanwhile.
    pub(crate) async fn run(self) -> Result<bool, StartError> {
        let cancel = self.cancel.clone();
        let started = self.begin(&cancel).await;
        match &started {
            Ok(true) => count(&self.ctx.metrics.containers_started),
            Ok(false) => {}
            Err(error) => {
                count(&self.ctx.metrics.container_failures);
                let message = match error.waiting.reason.as_str() {
                    // The image's own event has the long story.
                    reason if error.is_image => format!("Error: {reason}"),
                    _ => format!("Error: {}", error.waiting.message),
                };
                self.ctx.events.warning(&self.about(), "Failed", message);
            }
        }
        started
    }

    fn about(&self) -> About {
        About::container(&self.pod, &self.start.name)
    }

    async fn begin(&self, cancel: &CancellationToken) -> Result<bool, StartError> {
        let Some(container) = pod::container(&self.pod, &self.start.name) else {
            return Ok(false);
        };
        let resolv_conf = self.ctx.resolv_conf().await;
        let sandbox =
            crate::sandbox::sandbox_config(&self.pod, self.sandbox.attempt, &self.ctx.config, &resolv_conf);
        let prepared = tokio::select! {
            // Waiting for images and objects is given up at once; what the
            // runtime has begun is not, or it would be left half done.
            () = cancel.cancelled() => return Ok(false),
            prepared = self.prepare(&container, &sandbox) => prepared?,
        };
        let slot = self.ctx.slots.acquire().await;
        if cancel.is_cancelled() {
            return Ok(false);
        }
        if let Some(id) = &self.leftover {
            self.ctx.cri.remove_container(id).await.ok();
        }
        let config = container_config(&self.pod, &container, prepared);
        let id = self.create(&container, config, sandbox).await?;
        self.launch(&container, &id).await?;
        drop(slot);
        self.post_start(&container, &id).await?;
        Ok(true)
    }

    /// All that can be found out beforehand.
    async fn prepare(
        &self,
        container: &Container,
        sandbox: &PodSandboxConfig,
    ) -> Result<Prepared, StartError> {
        let ctx = &self.ctx;
        self.objects.first_answers().await;
        let image = ctx
            .images
            .ensure(&self.pod, container, &self.objects, sandbox)
            .await;
        let image = image.map_err(|error| StartError {
            is_image: true,
            ..StartError::new(error.reason, error.message)
        })?;
        let config_error = |message: String| StartError::new("CreateContainerConfigError", message);
        security::verify_non_root(&self.pod, container, &image.user).map_err(config_error)?;
        let services = ctx.services.variables(&self.pod).await.map_err(config_error)?;
        let mut ips = self.sandbox.ips.clone();
        if self.sandbox.host_network {
            ips.clone_from(&ctx.config.node_ips);
        }
        let around = ctx.surroundings(ips.clone());
        let env =
            env::environment(&self.pod, container, services, &self.objects, &around).map_err(config_error)?;
        let mounts = self.mounts(container, &env, ips).await.map_err(config_error)?;
        Ok(Prepared {
            target: self.start.target.clone(),
            seccomp_dir: ctx.config.seccomp_dir(),
            restart_count: self.start.restart_count,
            image_ref: image.id,
            image_user: image.user,
            env,
            mounts,
            machine_memory: ctx.machine.memory,
        })
    }

    /// Everything that the container sees besides its image.
    async fn mounts(
        &self,
        container: &Container,
        env: &env::Env,
        ips: Vec<std::net::IpAddr>,
    ) -> Result<Vec<Mount>, String> {
        let key = PodKey::of(&self.pod);
        let dir = self.ctx.pod_dir(&key.uid);
        let logs = self.ctx.config.logs_dir().join(key.log_dir_name());
        let domain = self.ctx.config.cluster_domain.clone();
        let (pod, container, env) = (Arc::clone(&self.pod), container.clone(), env.clone());
        let restart_count = self.start.restart_count;
        let work = move || {
            let mut mounts = volumes::container_mounts(&dir, &pod, &container, &env)?;
            let hosts = hosts::mount(&dir, &pod, &container, &ips, &domain);
            mounts.extend(hosts.map_err(|e| format!("cannot write the hosts file: {e}"))?);
            let words = message_mount(&dir, &container, restart_count);
            mounts.push(words.map_err(|e| format!("cannot make the termination message file: {e}"))?);
            let log = logs.join(container_config::log_path(&container.name, restart_count));
            if let Some(parent) = log.parent() {
                std::fs::create_dir_all(parent)
                    .map_err(|e| format!("cannot make {}: {e}", parent.display()))?;
            }
            Ok(mounts)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|panic| Err(format!("preparing mounts failed: {panic}")))
    }

    async fn create(
        &self,
        container: &Container,
        config: cri::message::ContainerConfig,
        sandbox: PodSandboxConfig,
    ) -> Result<String, StartError> {
        let created = self
            .ctx
            .cri
            .create_container(&self.sandbox.id, config, sandbox)
            .await;
        let id = created.map_err(|e| StartError::new("CreateContainerError", e.to_string()))?;
        self.ctx.events.normal(
            &self.about(),
            "Created",
            format!("Created container: {}", container.name),
        );
        Ok(id)
    }

    async fn launch(&self, container: &Container, id: &str) -> Result<(), StartError> {
        let started = self.ctx.cri.start_container(id).await;
        started.map_err(|e| StartError::new("RunContainerError", e.to_string()))?;
        self.ctx.events.normal(
            &self.about(),
            "Started",
            format!("Started container {}", container.name),
        );
        Ok(())
    }

    /// The container's own hook. If it fails the container must go.
    async fn post_start(&self, container: &Container, id: &str) -> Result<(), StartError> {
        let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let target = Target {
            cri: self.ctx.cri.clone(),
            run_id: id.to_owned(),
            container: container.clone(),
            pod_ip: self.sandbox.ips.first().copied().or_else(|| {
                self.sandbox
                    .host_network
                    .then(|| self.ctx.config.node_ips.first().copied())
                    .flatten()
            }),
        };
        let outcome = tokio::select! {
            // Whoever ends the pod ends the container too.
            () = self.cancel.cancelled() => return Ok(()),
            outcome = target.hook(hook, HOOK_LIMIT) => outcome,
        };
        let (Outcome::Failure(why) | Outcome::Broken(why)) = outcome else {
            return Ok(());
        };
        let message = format!("PostStartHook failed: {why}");
        self.ctx
            .events
            .warning(&self.about(), "FailedPostStartHook", message.clone());
        let why = format!(
            "Container {} failed its PostStart hook and will be killed",
            container.name
        );
        self.ctx.events.normal(&self.about(), "Killing", why);
        self.ctx.cri.stop_container(id, pod::grace(&self.pod)).await.ok();
        Err(StartError::new("PostStartHookError", message))
    }
}

/// The file that the container may leave its last words in.
fn message_mount(dir: &Path, container: &Container, restart_count: u32) -> std::io::Result<Mount> {
    use std::os::unix::fs::PermissionsExt;
    let folder = dir.join("containers").join(&container.name);
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{restart_count}.message"));
    std::fs::write(&file, "")?;
    // The container may run as any user.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666))?;
    Ok(Mount {
        container_path: container
            .termination_message_path
            .clone()
            .unwrap_or_else(|| MESSAGE_PATH.to_owned()),
        host_path: file.to_string_lossy().into_owned(),
        ..Mount::default()
    })
}
