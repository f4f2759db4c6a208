//! A container image made on the spot: the machine's static busybox and
//! nothing else. Its own command sleeps, so it serves as the pause image too.

use std::fs;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

pub(crate) const IMAGE: &str = "localhost/kubelet-test/busybox:1";

const APPLETS: [&str; 25] = [
    "sh", "sleep", "echo", "cat", "ls", "id", "env", "hostname", "true", "false", "kill", "touch", "mkdir",
    "nc", "httpd", "stat", "printf", "test", "seq", "yes", "head", "date", "rm", "wc", "grep",
];

/// Writes the image as a docker-archive.
pub(crate) fn write(path: &Path) {
    let layer = layer();
    let digest: String = Sha256::digest(&layer)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "2147483647"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    file(&mut archive, "layer.tar", &layer, 0o644);
    file(&mut archive, "config.json", config.to_string().as_bytes(), 0o644);
    file(
        &mut archive,
        "manifest.json",
        manifest.to_string().as_bytes(),
        0o644,
    );
    archive.finish().unwrap();
}

fn layer() -> Vec<u8> {
    let busybox = fs::read("/bin/busybox").expect("a static busybox (Debian: busybox-static)");
    let mut layer = tar::Builder::new(Vec::new());
    for folder in ["bin/", "etc/", "tmp/", "proc/", "sys/", "dev/"] {
        let mode = if folder == "tmp/" { 0o1777 } else { 0o755 };
        let mut header = header(tar::EntryType::Directory, 0, mode);
        layer.append_data(&mut header, folder, &b""[..]).unwrap();
    }
    file(&mut layer, "bin/busybox", &busybox, 0o755);
    for applet in APPLETS {
        let mut header = header(tar::EntryType::Symlink, 0, 0o777);
        layer
            .append_link(&mut header, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    file(&mut layer, "etc/passwd", b"root:x:0:0::/:/bin/sh\n", 0o644);
    layer.into_inner().unwrap()
}

fn header(kind: tar::EntryType, size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header
}

fn file<W: std::io::Write>(archive: &mut tar::Builder<W>, path: &str, data: &[u8], mode: u32) {
    let mut header = header(tar::EntryType::Regular, data.len() as u64, mode);
    archive.append_data(&mut header, path, data).unwrap();
}
