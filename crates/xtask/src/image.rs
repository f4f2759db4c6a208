//! The images that come with Ripstop, as one docker-archive: what `docker save`
//! writes, and what containerd of every version and `docker load` read.
//!
//! ```text
//! manifest.json            which configuration and layers make up which image
//! SHA256.json              a configuration: command, environment, architecture
//! SHA256/layer.tar         a layer, uncompressed
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::elf;
use crate::layer::Layer;

const TOOLBOX: &str = "localhost/ripstop/toolbox:1";
const PAUSE: &str = "localhost/ripstop/pause:1";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where everything comes from, and where the archive goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The archive to write
    #[arg(long)]
    out: PathBuf,
    /// The static program `toolbox`
    #[arg(long)]
    toolbox: PathBuf,
    /// The static program `pause`
    #[arg(long)]
    pause: PathBuf,
    /// A static busybox, as in Debian's package busybox-static
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
}

struct Image {
    name: &'static str,
    layer: Layer,
    config: Value,
}

/// Builds the archive; leaves it alone if it is there with the same content.
pub(crate) fn build(options: &Options) -> Result<()> {
    let (toolbox, machine) = program(&options.toolbox, "see `make build`")?;
    let (pause, pause_machine) = program(&options.pause, "see `make build`")?;
    let (busybox, busybox_machine) = program(&options.busybox, "install the package busybox-static")?;
    if [pause_machine, busybox_machine] != [machine; 2] {
        bail!("the programs are for different machines: {machine}, {pause_machine}, {busybox_machine}");
    }
    let applets = applets(&options.busybox)?;
    let images = [toolbox_image(toolbox, busybox, &applets), pause_image(pause)];
    let archive = archive(&images, machine)?;
    if fs::read(&options.out).is_ok_and(|before| before == archive) {
        return Ok(());
    }
    let partial = options.out.with_extension("partial");
    fs::write(&partial, archive)
        .and_then(|()| fs::rename(&partial, &options.out))
        .with_context(|| format!("write {}", options.out.display()))
}

fn program(path: &Path, cure: &str) -> Result<(Vec<u8>, &'static str)> {
    let what = || format!("{} ({cure})", path.display());
    let bytes = fs::read(path).with_context(what)?;
    let machine = elf::architecture(&bytes).with_context(what)?;
    Ok((bytes, machine))
}

/// The paths at which busybox wants to be found. Builds without the long list
/// have the short one, whose names then all go to /bin.
fn applets(busybox: &Path) -> Result<BTreeSet<String>> {
    for (option, folder) in [("--list-full", ""), ("--list", "bin/")] {
        let output = Command::new(busybox)
            .arg(option)
            .output()
            .with_context(|| format!("run {}", busybox.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let paths: BTreeSet<String> = text
            .lines()
            .map(|line| format!("{folder}{}", line.trim_start_matches('/')))
            .filter(|path| path.contains('/'))
            .collect();
        if output.status.success() && paths.iter().any(|path| path == "bin/sh") {
            return Ok(paths);
        }
    }
    bail!("{} doesn't list a shell among what it can do", busybox.display())
}

fn toolbox_image(toolbox: Vec<u8>, busybox: Vec<u8>, applets: &BTreeSet<String>) -> Image {
    let mut layer = Layer::default();
    layer.file("bin/busybox", 0o755, busybox);
    layer.file("bin/toolbox", 0o755, toolbox);
    for path in applets {
        layer.link(path, "/bin/busybox");
    }
    layer.file(
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    );
    layer.file("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n");
    layer.file("etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n");
    layer.file("etc/nsswitch.conf", 0o644, "hosts: files dns\n");
    layer.folder("root", 0o700);
    layer.folder("tmp", 0o1777);
    for folder in ["dev", "proc", "run", "sys", "var"] {
        layer.folder(folder, 0o755);
    }
    Image {
        name: TOOLBOX,
        layer,
        config: json!({
            "Cmd": ["toolbox", "serve"],
            "Env": [PATH],
            "ExposedPorts": {"8080/tcp": {}, "9000/tcp": {}, "9000/udp": {}},
            "WorkingDir": "/",
        }),
    }
}

fn pause_image(pause: Vec<u8>) -> Image {
    let mut layer = Layer::default();
    layer.file("pause", 0o755, pause);
    let config = json!({"Entrypoint": ["/pause"], "Env": [PATH], "WorkingDir": "/"});
    Image {
        name: PAUSE,
        layer,
        config,
    }
}

fn archive(images: &[Image], machine: &str) -> Result<Vec<u8>> {
    let mut archive = Layer::default();
    let mut manifest = Vec::new();
    for image in images {
        let layer = image.layer.tar()?;
        let layer_digest = digest(&layer);
        let config = json!({
            "architecture": machine,
            "config": image.config,
            // No time: the same programs give the same image.
            "created": "1970-01-01T00:00:00Z",
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "ripstop xtask image"}],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        });
        let config = config.to_string();
        let config_path = format!("{}.json", digest(config.as_bytes()));
        let layer_path = format!("{layer_digest}/layer.tar");
        manifest.push(json!({
            "Config": config_path,
            "RepoTags": [image.name],
            "Layers": [layer_path],
        }));
        archive.file(&config_path, 0o644, config);
        archive.file(&layer_path, 0o644, layer);
    }
    archive.file("manifest.json", 0o644, Value::Array(manifest).to_string());
    archive.tar()
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> [Image; 2] {
        let applets = BTreeSet::from(["bin/sh".to_owned(), "usr/bin/[".to_owned()]);
        let toolbox = toolbox_image(b"toolbox".to_vec(), b"busybox".to_vec(), &applets);
        [toolbox, pause_image(b"pause".to_vec())]
    }

    #[test]
    fn the_archive_is_the_same_every_time() {
        let one = archive(&images(), "amd64").unwrap();
        assert_eq!(one, archive(&images(), "amd64").unwrap());
    }

    #[test]
    fn the_manifest_names_what_the_archive_holds() {
        let bytes = archive(&images(), "arm64").unwrap();
        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            files.insert(path, content);
        }
        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let names: Vec<_> = manifest
            .as_array()
            .unwrap()
            .iter()
            .map(|m| &m["RepoTags"][0])
            .collect();
        assert_eq!(names, [TOOLBOX, PAUSE]);
        for image in manifest.as_array().unwrap() {
            let config = &files[image["Config"].as_str().unwrap()];
            let layer = &files[image["Layers"][0].as_str().unwrap()];
            let config: Value = serde_json::from_slice(config).unwrap();
            assert_eq!(
                config["rootfs"]["diff_ids"][0],
                format!("sha256:{}", digest(layer))
            );
            assert_eq!(config["architecture"], "arm64");
        }
    }
}
