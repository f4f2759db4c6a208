//! What a pod's volumes and containers take of the node's disk, where the pod sets a limit: what takes more
//! is evicted, as Kubernetes does it (the `sizeLimit` of an `emptyDir`, limits of `ephemeral-storage`).
//!
//! An `emptyDir` in memory needs no watching: the kernel keeps its limit.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::context::Context;
use crate::pod::{self, PodKey};
use crate::runtime::{Observed, Observer};
use crate::{resources, volumes};

/// How often is looked, as in Kubernetes.
const PERIOD: Duration = Duration::from_secs(10);

/// Something that has a limit.
struct Limited {
    /// Folders that count together.
    folders: Vec<PathBuf>,
    /// The container whose own layer counts too.
    container: Option<String>,
    /// Bytes.
    limit: u64,
    /// What is said of it when it takes more.
    message: String,
}

/// Waits until the pod takes more of the disk than it may, and says of what; for ever if it has no limits.
pub(crate) async fn exceeded(ctx: Arc<Context>, pod: Arc<Pod>) -> String {
    let limited = Arc::new(limits(&ctx, &pod));
    if limited.is_empty() {
        return std::future::pending().await;
    }
    let mut observer = Observer::new(&ctx.config.node_ips);
    loop {
        tokio::time::sleep(PERIOD).await;
        let observed = observer.observe(&ctx.cri, &PodKey::of(&pod).uid).await;
        let Ok(observed) = observed else { continue };
        for limit in limited.iter() {
            let folders = limit.folders.clone();
            let used = tokio::task::spawn_blocking(move || folders.iter().map(|f| disk_use(f)).sum::<u64>());
            let used = used.await.unwrap_or(0) + own_layer(&ctx, &observed, limit).await;
            if used > limit.limit {
                return limit.message.clone();
            }
        }
    }
}

fn limits(ctx: &Context, pod: &Pod) -> Vec<Limited> {
    let key = PodKey::of(pod);
    let dir = ctx.pod_dir(&key.uid);
    let logs = ctx.config.logs_dir().join(key.log_dir_name());
    let volumes = pod::spec(pod).volumes.iter().flatten();
    let volumes = volumes.filter_map(|volume| of_volume(&dir, volume));
    let containers = pod::all_containers(pod).filter_map(|container| {
        let limit = resources::limit(container, "ephemeral-storage")?;
        let text = container
            .resources
            .as_ref()?
            .limits
            .as_ref()?
            .get("ephemeral-storage")?;
        let name = &container.name;
        Some(Limited {
            folders: vec![logs.join(name)],
            container: Some(name.clone()),
            limit: u64::try_from(limit).ok().filter(|limit| *limit > 0)?,
            message: format!(
                "Container {name} exceeded its local ephemeral storage limit {:?}. ",
                text.0
            ),
        })
    });
    volumes.chain(containers).collect()
}

fn of_volume(dir: &Path, volume: &Volume) -> Option<Limited> {
    let it = volume.empty_dir.as_ref()?;
    if it.medium.as_deref().is_some_and(|medium| !medium.is_empty()) {
        return None;
    }
    let text = it.size_limit.as_ref()?;
    let limit = u64::try_from(resources::units(text)?).ok()?;
    Some(Limited {
        folders: vec![volumes::place(dir, volume)],
        container: None,
        limit: Some(limit).filter(|limit| *limit > 0)?,
        message: format!(
            "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
            volume.name, text.0
        ),
    })
}

/// The bytes that the container wrote beside its volumes.
async fn own_layer(ctx: &Context, observed: &Observed, limit: &Limited) -> u64 {
    let run = limit.container.as_ref().and_then(|name| observed.latest(name));
    let Some(run) = run.filter(|run| run.is_running()) else {
        return 0;
    };
    let stats = ctx.cri.container_stats(&run.id).await.ok();
    let layer = stats.and_then(|stats| stats.writable_layer);
    layer
        .and_then(|layer| layer.used_bytes)
        .map_or(0, |used| used.value)
}

/// The bytes that a folder takes on disk. What can't be looked at, having gone meanwhile, takes none.
fn disk_use(folder: &Path) -> u64 {
    let Ok(top) = fs::symlink_metadata(folder) else {
        return 0;
    };
    let mut sum = top.blocks() * 512;
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != top.dev() {
                continue;
            }
            sum += meta.blocks() * 512;
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_folder_takes_what_is_in_it_and_not_what_links_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        let before = disk_use(folder.path());
        fs::write(folder.path().join("inner/file"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("/usr", folder.path().join("elsewhere")).unwrap();
        let grown = disk_use(folder.path()) - before;
        assert!((1 << 20..2 << 20).contains(&grown), "{grown}");
        assert_eq!(disk_use(&folder.path().join("none")), 0);
    }

    #[test]
    fn volumes_on_disk_with_a_limit_are_watched() {
        let volume = |empty_dir: serde_json::Value| {
            let volume = serde_json::from_value(json!({"name": "v", "emptyDir": empty_dir})).unwrap();
            of_volume(Path::new("/pods/u"), &volume).map(|limited| (limited.limit, limited.message))
        };
        assert_eq!(
            volume(json!({"sizeLimit": "1Mi"})),
            Some((
                1 << 20,
                "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ".into()
            ))
        );
        assert_eq!(volume(json!({})), None);
        assert_eq!(volume(json!({"medium": "Memory", "sizeLimit": "1Mi"})), None);
    }
}
