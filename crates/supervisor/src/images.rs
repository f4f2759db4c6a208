//! Puts image archives on nodes, through containerd's own client.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use kernel::process::prepare;
use sha2::{Digest, Sha256};

use crate::cluster::Cluster;
use crate::{Error, Paths, files, node};

/// The namespace of containerd in which Kubernetes' images live.
const NAMESPACE: &str = "k8s.io";
/// Beside the images, so that it goes with them: which archives were loaded, and what was in them.
const JOURNAL: &str = "ripstop-archives.json";

/// Archives by digest, and the names of their images.
type Journal = BTreeMap<String, Vec<String>>;

/// Loads a docker-archive or OCI tar on a node, and tells the names of the images in it, as far as
/// this version of containerd does.
///
/// # Errors
/// When the file can't be read, or containerd doesn't take it.
pub async fn load(
    cluster: &Cluster,
    paths: &Paths,
    node: &str,
    archive: &Path,
) -> Result<Vec<String>, Error> {
    let file = File::open(archive).map_err(|error| Error::file("open", archive, error))?;
    let output = ctr(
        cluster,
        paths,
        node,
        &["images", "import", "-"],
        Stdio::from(file),
    )
    .await?;
    let names: Vec<String> = output.stdout.lines().filter_map(imported_name).collect();
    if output.success {
        return Ok(names);
    }
    let reason = match last_line(&output.stderr) {
        "" => "ctr failed without a word".to_owned(),
        line => line.trim_start_matches("ctr: ").to_owned(),
    };
    Err(Error::Images {
        archive: archive.to_owned(),
        node: node.to_owned(),
        reason,
    })
}

/// Loads an archive unless the node has all that is in it.
pub(crate) async fn ensure(
    cluster: &Cluster,
    paths: &Paths,
    node: &str,
    archive: &Path,
    digest: &str,
) -> Result<(), Error> {
    let path = paths.node(node).containerd_root().join(JOURNAL);
    let mut journal: Journal = fs::read(&path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    if let Some(names) = journal.get(digest) {
        let output = ctr(cluster, paths, node, &["images", "list", "-q"], Stdio::null()).await?;
        if names
            .iter()
            .all(|name| output.stdout.lines().any(|line| line == name))
        {
            return Ok(());
        }
    }
    let names = load(cluster, paths, node, archive).await?;
    if names.is_empty() {
        // Nothing to look for the next time: it will be loaded again, which is no harm.
        return Ok(());
    }
    journal.insert(digest.to_owned(), names);
    let text = serde_json::to_string_pretty(&journal).expect("plain data becomes JSON");
    files::write(&path, &text, 0o644)?;
    Ok(())
}

/// The digest of an archive's bytes.
pub(crate) fn digest(archive: &Path) -> Result<String, Error> {
    let failed = |error| Error::file("read", archive, error);
    let mut file = File::open(archive).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match io::Read::read(&mut file, &mut buffer).map_err(failed)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{hex}"))
}

struct Output {
    success: bool,
    stdout: String,
    stderr: String,
}

async fn ctr(
    cluster: &Cluster,
    paths: &Paths,
    node: &str,
    args: &[&str],
    input: Stdio,
) -> Result<Output, Error> {
    let own = paths.node(node);
    let system = node::group(cluster, node)?.child("system");
    let failed = || Error::system(format!("can't run ctr on {node}"));
    let mut command = Command::new(&cluster.programs.ctr);
    command
        .arg("--address")
        .arg(own.containerd_socket())
        .args(["--namespace", NAMESPACE])
        .args(args)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    prepare(&mut command, &node::place(cluster, &own, node, &system)).map_err(failed())?;
    let mut command = tokio::process::Command::from(command);
    let output = command.kill_on_drop(true).output().await.map_err(failed())?;
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// `unpacking NAME (sha256:DIGEST)...done` of 1.x, `NAME saved` and similar of 2.x.
fn imported_name(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("unpacking ") {
        return rest.split_once(" (").map(|(name, _)| name.to_owned());
    }
    let mut words = line.split_ascii_whitespace();
    let name = words
        .next()
        .filter(|name| name.contains('/') && name.contains(':'))?;
    let known = ["saved", "done", "unpacked", "elapsed"];
    words
        .next()
        .filter(|word| known.contains(word))
        .map(|_| name.to_owned())
}

fn last_line(text: &str) -> &str {
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_imported_images_are_read() {
        let name = "localhost/ripstop/toolbox:1";
        let line = format!("unpacking {name} (sha256:0123)...done");
        assert_eq!(imported_name(&line).as_deref(), Some(name));
        assert_eq!(imported_name(&format!("{name}   saved")).as_deref(), Some(name));
        assert_eq!(imported_name("elapsed: 0.1 s total: 0.0 B"), None);
        assert_eq!(imported_name(""), None);
    }

    #[test]
    fn a_digest_is_of_the_bytes() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("archive");
        fs::write(&path, "abc").expect("written");
        assert_eq!(
            digest(&path).expect("read"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
