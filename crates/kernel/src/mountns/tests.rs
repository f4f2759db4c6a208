//! These need root: mount namespaces are made for real, each test in a folder of its own.

use std::fs;
use std::process::Command;

use super::*;
use crate::process::{Place, prepare};

/// A folder whose mounts go with it.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn namespace(&self) -> PathBuf {
        self.0.path().join("mnt/node")
    }

    fn folder(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(&path).expect("a folder");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        unmount_below(self.0.path()).expect("what a test mounted can be unmounted");
    }
}

#[test]
fn what_is_mounted_inside_lasts_and_is_not_seen_outside() {
    let dir = Dir::new();
    let (source, target) = (dir.folder("source"), dir.folder("target"));
    fs::write(source.join("file"), "content").expect("a file");
    create(&dir.namespace(), || bind(&source, &target)).expect("a namespace");
    assert!(exists(&dir.namespace()));
    assert!(!target.join("file").exists());
    let inside = enter(&dir.namespace(), || fs::read_to_string(target.join("file")));
    assert_eq!(inside.expect("the file is there"), "content");
    assert!(!target.join("file").exists(), "entering leaves no trace");

    remove(&dir.namespace()).expect("removed");
    assert!(!dir.namespace().exists());
    remove(&dir.namespace()).expect("removing twice is fine");
}

#[test]
fn a_command_runs_inside() {
    let dir = Dir::new();
    let (source, target) = (dir.folder("source"), dir.folder("target"));
    fs::write(source.join("file"), "content").expect("a file");
    create(&dir.namespace(), || bind(&source, &target)).expect("a namespace");
    let mut command = Command::new("cat");
    command.arg(target.join("file"));
    let place = Place {
        mountns: Some(dir.namespace()),
        ..Place::default()
    };
    prepare(&mut command, &place).expect("prepared");
    assert_eq!(command.output().expect("cat runs").stdout, b"content");
}

#[test]
fn nothing_is_left_when_the_set_up_fails() {
    let dir = Dir::new();
    let error = create(&dir.namespace(), || Err(io::Error::other("no")));
    assert_eq!(error.expect_err("refused").to_string(), "no");
    assert!(!dir.namespace().exists());
}

#[test]
fn a_namespace_holds_no_copy_of_another_one() {
    let dir = Dir::new();
    let (first, second) = (dir.0.path().join("mnt/first"), dir.0.path().join("mnt/second"));
    let network = dir.0.path().join("network");
    File::create(&network).expect("a file");
    bind(Path::new("/proc/self/ns/net"), &network).expect("bound");
    create(&first, || Ok(())).expect("a namespace");
    create(&second, || {
        let handles = mountinfo::mounts()?;
        assert!(handles.iter().all(|mount| mount.fstype != "nsfs"), "{handles:?}");
        Ok(())
    })
    .expect("a namespace");
    assert!(exists(&network), "the machine's own handle stays");
}

#[test]
fn overlayfs_works_on_this_machine() {
    try_overlay().expect("overlay");
}

/// Handles of namespaces come and go on any machine: one that goes meanwhile is no reason to fail.
#[test]
fn others_may_let_go_of_their_namespaces_meanwhile() {
    let dir = Dir::new();
    let done = std::sync::atomic::AtomicBool::new(false);
    let handles: Vec<PathBuf> = (0..40)
        .map(|n| dir.0.path().join(format!("handle-{n}")))
        .collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for handle in &handles {
                    File::create(handle).expect("a file");
                    bind_one(Path::new("/proc/self/ns/net"), handle).expect("bound");
                }
                handles
                    .iter()
                    .for_each(|handle| detach(handle).expect("unmounted"));
            }
        });
        let made: Vec<io::Result<()>> = (0..60)
            .map(|n| {
                let path = dir.0.path().join(format!("mnt-{n}/node"));
                create(&path, || Ok(())).and_then(|()| remove(&path))
            })
            .collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        made.into_iter().for_each(|made| made.expect("a namespace"));
    });
}
