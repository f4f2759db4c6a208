//! A pod's volumes on the node.
//!
//! Each lives in `pods/UID/volumes/KIND/NAME`; containers get it mounted from
//! there. Setting up can be repeated at any time: it changes only what differs,
//! which is also how a changed ConfigMap reaches a running pod.

mod atomic;
mod host_path;
mod mount;
mod owner;
pub(crate) mod payload;
mod subpath;
pub(crate) mod token;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::message::{Mount, MountPropagation};
use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};

use self::atomic::Files;
use self::payload::Sources;
use self::token::Tokens;
use crate::downward::Surroundings;
use crate::expand::expand;
use crate::objects::PodObjects;
use crate::{pod, resources};

pub(crate) use self::mount::remove_unmounted;

/// A volume that can't be had, for now or at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeError {
    pub(crate) volume: String,
    pub(crate) message: String,
}

/// The volumes of one pod.
pub(crate) struct PodVolumes {
    dir: PathBuf,
    tokens: Tokens,
}

/// What it takes to set up one volume, worked out before the disk is touched.
enum Work {
    Files { files: Files, memory: bool },
    EmptyDir { memory: bool, size: Option<u64> },
    HostPath { path: String, kind: String },
}

impl PodVolumes {
    /// The volumes of the pod whose folder is `dir`.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            tokens: Tokens::default(),
        }
    }

    /// Sets up all volumes, or brings them up to date.
    pub(crate) async fn set_up(
        &mut self,
        pod: &Pod,
        client: &kube::Client,
        objects: &PodObjects,
        around: &Surroundings,
    ) -> Result<(), VolumeError> {
        let all = pod::spec(pod).volumes.as_deref().unwrap_or_default();
        if let Err(message) = self.tokens.refresh(client, pod).await {
            let volume = all.iter().find(|v| v.projected.is_some());
            let volume = volume.map(|v| v.name.clone()).unwrap_or_default();
            return Err(VolumeError { volume, message });
        }
        let sources = Sources {
            pod,
            objects,
            around,
            tokens: &self.tokens,
        };
        let context = pod::spec(pod).security_context.as_ref();
        let group = context
            .and_then(|c| c.fs_group)
            .and_then(|g| u32::try_from(g).ok());
        let lazy = context.is_some_and(|c| c.fs_group_change_policy.as_deref() == Some("OnRootMismatch"));
        let mut jobs = Vec::with_capacity(all.len());
        for volume in all {
            let failed = |message: String| VolumeError {
                volume: volume.name.clone(),
                message,
            };
            let work = work(volume, &sources).map_err(failed)?;
            jobs.push((volume.name.clone(), place(&self.dir, volume), work));
        }
        let dir = self.dir.clone();
        let done = tokio::task::spawn_blocking(move || {
            make_private(&dir).map_err(|error| VolumeError {
                volume: String::new(),
                message: format!("cannot make {}: {error}", dir.display()),
            })?;
            for (volume, place, work) in jobs {
                carry_out(&place, work, group, lazy).map_err(|message| VolumeError { volume, message })?;
            }
            Ok(())
        });
        done.await.unwrap_or_else(|panic| {
            Err(VolumeError {
                volume: String::new(),
                message: format!("setting up volumes failed: {panic}"),
            })
        })
    }

    /// When a volume wants renewing although no object changes.
    pub(crate) fn renew_in(&self) -> Option<Duration> {
        self.tokens.renew_in()
    }
}

/// What the container sees of the pod's volumes. `env` is for `subPathExpr`.
/// The error is Kubernetes' wording.
pub(crate) fn container_mounts(
    dir: &Path,
    pod: &Pod,
    container: &Container,
    env: &[(String, String)],
) -> Result<Vec<Mount>, String> {
    if container.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
        return Err("block volumes (volumeDevices) are not supported".to_owned());
    }
    let mounts = container.volume_mounts.iter().flatten().enumerate();
    mounts
        .map(|(index, wanted)| {
            let volumes = pod::spec(pod).volumes.iter().flatten();
            let volume = volumes
                .into_iter()
                .find(|v| v.name == wanted.name)
                .ok_or_else(|| {
                    format!(
                        "cannot find volume {:?} to mount into container {:?}",
                        wanted.name, container.name
                    )
                })?;
            if wanted.recursive_read_only.as_deref() == Some("Enabled") {
                return Err(format!(
                    "volume {:?} requested recursive read-only mount, but it is not supported by the runtime",
                    wanted.name
                ));
            }
            let source = source(dir, volume, wanted, container, index, env)?;
            Ok(Mount {
                container_path: absolute(&wanted.mount_path),
                host_path: source.to_string_lossy().into_owned(),
                readonly: wanted.read_only.unwrap_or(false),
                selinux_relabel: false,
                propagation: match wanted.mount_propagation.as_deref() {
                    Some("HostToContainer") => MountPropagation::HostToContainer,
                    Some("Bidirectional") => MountPropagation::Bidirectional,
                    _ => MountPropagation::Private,
                } as i32,
            })
        })
        .collect()
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

/// The node's path behind one mount.
fn source(
    dir: &Path,
    volume: &Volume,
    wanted: &VolumeMount,
    container: &Container,
    index: usize,
    env: &[(String, String)],
) -> Result<PathBuf, String> {
    let whole = place(dir, volume);
    let lookup = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let sub = match (&wanted.sub_path, &wanted.sub_path_expr) {
        (Some(sub), _) if !sub.is_empty() => sub.clone(),
        (_, Some(expression)) if !expression.is_empty() => {
            let sub = expand(expression, lookup);
            if sub.contains("$(") {
                return Err(format!("missing value for subPathExpr {expression:?}"));
            }
            sub
        }
        _ => return Ok(whole),
    };
    let target = dir
        .join("volume-subpaths")
        .join(&volume.name)
        .join(&container.name)
        .join(index.to_string());
    subpath::show(&whole, &sub, &target).map_err(|error| {
        format!(
            "failed to prepare subPath for volumeMount {:?} of container {:?}: {error}",
            wanted.name, container.name
        )
    })?;
    Ok(target)
}

/// Where a volume lives.
pub(crate) fn place(dir: &Path, volume: &Volume) -> PathBuf {
    if let Some(it) = &volume.host_path {
        return PathBuf::from(&it.path);
    }
    let kind = if volume.config_map.is_some() {
        "kubernetes.io~configmap"
    } else if volume.secret.is_some() {
        "kubernetes.io~secret"
    } else if volume.downward_api.is_some() {
        "kubernetes.io~downward-api"
    } else if volume.projected.is_some() {
        "kubernetes.io~projected"
    } else {
        "kubernetes.io~empty-dir"
    };
    dir.join("volumes").join(kind).join(&volume.name)
}

fn work(volume: &Volume, sources: &Sources<'_>) -> Result<Work, String> {
    if let Some(files) = payload::files(volume, sources) {
        // Secrets and tokens never touch the disk.
        let memory = volume.secret.is_some() || volume.projected.is_some();
        return Ok(Work::Files {
            files: files?,
            memory,
        });
    }
    if let Some(it) = &volume.host_path {
        let kind = it.type_.clone().unwrap_or_default();
        return Ok(Work::HostPath {
            path: it.path.clone(),
            kind,
        });
    }
    if let Some(it) = &volume.empty_dir {
        let size = it.size_limit.as_ref().and_then(resources::units);
        let size = size.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
        return match it.medium.as_deref().unwrap_or_default() {
            "" => Ok(Work::EmptyDir { memory: false, size }),
            "Memory" => Ok(Work::EmptyDir { memory: true, size }),
            other => Err(format!(
                "emptyDir medium {other:?} is not supported: use \"\" or \"Memory\""
            )),
        };
    }
    Err(format!(
        "{} volumes are not supported on this node",
        kind_of(volume)
    ))
}

/// What kind of volume it is, by the name of the one field that is set.
fn kind_of(volume: &Volume) -> String {
    let fields = serde_json::to_value(volume).ok();
    let fields = fields.as_ref().and_then(|v| v.as_object());
    let kind = fields.and_then(|f| f.keys().find(|k| *k != "name").cloned());
    kind.unwrap_or_else(|| "unknown".to_owned())
}

fn carry_out(place: &Path, work: Work, group: Option<u32>, lazy: bool) -> Result<(), String> {
    let plain = |error: io::Error| error.to_string();
    match work {
        Work::HostPath { path, kind } => host_path::prepare(&path, &kind),
        Work::EmptyDir { memory, size } => empty_dir(place, memory, size, group, lazy).map_err(plain),
        Work::Files { files, memory } => write_files(place, &files, memory, group).map_err(plain),
    }
}

fn empty_dir(
    place: &Path,
    memory: bool,
    size: Option<u64>,
    group: Option<u32>,
    lazy: bool,
) -> io::Result<()> {
    let fresh = !place.exists();
    fs::create_dir_all(place)?;
    if memory && !mount::is_mounted(place)? {
        mount::tmpfs(place, size, 0o777)?;
    }
    if fresh {
        // Any user of the pod writes here.
        fs::set_permissions(place, fs::Permissions::from_mode(0o777))?;
    }
    match group {
        Some(group) if fresh || !lazy => owner::give_to_group(place, group, false, lazy || !fresh),
        _ => Ok(()),
    }
}

fn write_files(place: &Path, files: &Files, memory: bool, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(place)?;
    if memory && !mount::is_mounted(place)? {
        mount::tmpfs(place, None, 0o755)?;
    }
    atomic::write(place, files, |generation| match group {
        Some(group) => owner::give_to_group(generation, group, true, false),
        None => Ok(()),
    })?;
    Ok(())
}

/// Makes the pod's folder, which nobody but root needs to look into.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o750))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_that_is_not_supported_is_named() {
        let volume: Volume =
            serde_json::from_value(json!({"name": "v", "nfs": {"server": "s", "path": "/"}})).unwrap();
        assert_eq!(kind_of(&volume), "nfs");
    }

    #[test]
    fn mounts_follow_the_pod() {
        let it = pod::tests::pod(json!({"spec": {
            "volumes": [{"name": "c", "configMap": {"name": "x"}}, {"name": "h", "hostPath": {"path": "/srv"}}],
            "containers": [{"name": "a", "volumeMounts": [
                {"name": "c", "mountPath": "/etc/c", "readOnly": true},
                {"name": "h", "mountPath": "srv", "mountPropagation": "Bidirectional"}]},
                {"name": "b", "volumeMounts": [{"name": "none", "mountPath": "/x"}]},
                {"name": "c", "volumeMounts": [
                    {"name": "h", "mountPath": "/x", "readOnly": true, "recursiveReadOnly": "Enabled"}]}]}}));
        let containers = &it.spec.as_ref().unwrap().containers;
        let mounts = container_mounts(Path::new("/pods/u"), &it, &containers[0], &[]).unwrap();
        let lines: Vec<_> = mounts
            .iter()
            .map(|m| {
                format!(
                    "{} <- {} {} {}",
                    m.container_path, m.host_path, m.readonly, m.propagation
                )
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        /etc/c <- /pods/u/volumes/kubernetes.io~configmap/c true 0
        /srv <- /srv false 2
        ");
        assert_eq!(
            container_mounts(Path::new("/pods/u"), &it, &containers[1], &[]).unwrap_err(),
            "cannot find volume \"none\" to mount into container \"b\""
        );
        assert_eq!(
            container_mounts(Path::new("/pods/u"), &it, &containers[2], &[]).unwrap_err(),
            "volume \"h\" requested recursive read-only mount, but it is not supported by the runtime"
        );
    }
}
