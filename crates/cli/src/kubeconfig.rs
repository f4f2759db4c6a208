//! The kubeconfig of whoever runs `ripstop`: the cluster is added to it, and taken out again.
//!
//! Everything else in the file stays: other clusters, users and contexts, extensions, the file's
//! owner and mode. It is replaced in one step, under the lock that kubectl takes too.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use nix::unistd::{Gid, Uid, User};
use serde_json::Value;
use supervisor::{ClusterName, Error, Paths, files};

use crate::failure::Failure;
use crate::output::out;

pub(crate) mod document;
mod file;

use file::Target;

/// Where the cluster was added, so that `down` finds it whoever runs it.
const MERGED: &str = "kubeconfig-merged.json";

/// `ripstop kubeconfig`.
pub(crate) fn print(name: &ClusterName) -> Result<(), Failure> {
    let path = Paths::of(name).kubeconfig();
    match fs::read_to_string(&path) {
        Ok(text) => {
            out!("{}", text.trim_end());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NoCluster(name.to_string()).into())
        }
        Err(error) => Err(Error::file("read", &path, error).into()),
    }
}

/// Adds the cluster to the invoking user's kubeconfig and makes it the current one; tells where.
pub(crate) fn add(name: &ClusterName, paths: &Paths) -> Result<PathBuf, String> {
    let target = invoking_user()?;
    let own = fs::read_to_string(paths.kubeconfig()).map_err(|error| error.to_string())?;
    let own: Value = serde_saphyr::from_str(&own).map_err(|error| error.to_string())?;
    target.change(|old| document::merge(old, &own, &name.context()))?;
    remember(paths, &target.path);
    Ok(target.path)
}

/// Takes the cluster out of every kubeconfig that it was added to; returns what didn't work.
pub(crate) fn remove(name: &ClusterName, paths: &Paths) -> Vec<String> {
    let mut targets: Vec<Target> = remembered(paths).into_iter().map(Target::found).collect();
    if let Ok(own) = invoking_user()
        && !targets.iter().any(|target| target.path == own.path)
    {
        targets.push(own);
    }
    let context = name.context();
    let remove = |target: &Target| {
        if !target.path.exists() {
            return None;
        }
        target.change(|old| document::remove(old, &context)).err()
    };
    targets.iter().filter_map(remove).collect()
}

fn remembered(paths: &Paths) -> Vec<PathBuf> {
    let text = fs::read(paths.data.join(MERGED)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn remember(paths: &Paths, path: &Path) {
    let mut all = remembered(paths);
    if !all.iter().any(|known| known == path) {
        all.push(path.to_owned());
        let text = serde_json::to_string(&all).expect("paths become JSON");
        if let Err(error) = files::write(&paths.data.join(MERGED), &text, 0o644) {
            tracing::warn!(%error, "`down` will not find the kubeconfig");
        }
    }
}

/// The file that kubectl would use for the person at the keyboard.
fn invoking_user() -> Result<Target, String> {
    let sudo = |name: &str| env::var(name).ok();
    let user = if Uid::effective().is_root() {
        sudo("SUDO_USER").filter(|name| name != "root")
    } else {
        None
    };
    let user = match user {
        Some(name) => User::from_name(&name).map_err(|error| format!("can't look up {name}: {error}"))?,
        None => None,
    };
    let owner = user.as_ref().map(|user| (user.uid, user.gid));
    let home = match &user {
        Some(user) => Some(user.dir.clone()),
        None => env::var_os("HOME").map(PathBuf::from),
    };
    let path = choose(env::var("KUBECONFIG").ok().as_deref(), home.as_deref());
    let path = path.ok_or("neither KUBECONFIG nor HOME is set")?;
    Ok(Target { path, owner })
}

/// The first entry of `KUBECONFIG`, or `~/.kube/config`.
fn choose(variable: Option<&str>, home: Option<&Path>) -> Option<PathBuf> {
    let first = variable.and_then(|list| list.split(':').find(|entry| !entry.is_empty()));
    match first {
        Some(path) => std::path::absolute(path).ok(),
        None => home.map(|home| home.join(".kube/config")),
    }
}

/// Who shall own what is made.
type Owner = Option<(Uid, Gid)>;

#[cfg(test)]
mod tests;
