//! Keeping logs from filling the disk: a file that has grown too large is set
//! aside, the runtime opens a new one, and the oldest are deleted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::message::{ContainerFilter, ContainerState, ContainerStateValue};
use jiff::Timestamp;

use crate::container_config;
use crate::context::Context;
use crate::pod::{PodKey, label};

const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Watches the logs of running containers until it is dropped.
pub(crate) async fn run(ctx: Arc<Context>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let running = ContainerFilter {
            state: Some(ContainerStateValue {
                state: ContainerState::Running as i32,
            }),
            ..ContainerFilter::default()
        };
        // A runtime that is away writes no logs either.
        let Ok(containers) = ctx.cri.list_containers(running).await else {
            continue;
        };
        for container in containers {
            let Some(path) = path(&ctx, &container) else {
                continue;
            };
            if let Err(error) = rotate_if_large(&ctx, &container.id, &path).await {
                tracing::warn!(log = %path.display(), %error, "cannot rotate a log");
            }
        }
    }
}

fn path(ctx: &Context, container: &cri::message::Container) -> Option<PathBuf> {
    let text = |name: &str| container.labels.get(name).cloned();
    let key = PodKey {
        namespace: text(label::POD_NAMESPACE)?,
        name: text(label::POD_NAME)?,
        uid: text(label::POD_UID)?,
    };
    let metadata = container.metadata.as_ref()?;
    let file = container_config::log_path(&metadata.name, metadata.attempt);
    Some(ctx.config.logs_dir().join(key.log_dir_name()).join(file))
}

async fn rotate_if_large(ctx: &Context, id: &str, path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > ctx.config.log_max_bytes => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let aside = set_aside(path)?;
    if let Err(error) = ctx.cri.reopen_container_log(id).await {
        // The runtime still writes to the file: give it its name back.
        fs::rename(&aside, path)?;
        return Err(io::Error::other(error));
    }
    prune(path, ctx.config.log_max_files.saturating_sub(1))
}

fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{stamp}"));
    let aside = PathBuf::from(aside);
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Keeps the newest files that were set aside.
fn prune(path: &Path, keep: usize) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut old: Vec<PathBuf> = fs::read_dir(folder)?
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
        .map(|e| e.path())
        .collect();
    // Their names sort by time.
    old.sort();
    let surplus = old.len().saturating_sub(keep);
    old.iter().take(surplus).try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        for name in [
            "0.log",
            "0.log.20261121-110000",
            "0.log.20261121-110001",
            "0.log.20261121-110002",
            "1.log",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        prune(&path, 1).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["0.log", "0.log.20261121-110002", "1.log"]);
    }
}
