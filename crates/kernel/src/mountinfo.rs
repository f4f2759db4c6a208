//! Reads `/proc/PID/mountinfo`: what is mounted where, in the mount namespace of a process.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The part of the file system that is seen here; `/` for all of it.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// The file system's type, such as `tmpfs`, `cgroup2` or `nsfs`.
    pub fstype: String,
    /// The file system's own options, comma-separated; names the controllers of a cgroup v1 mount.
    pub options: String,
    /// Whether what is mounted below also appears elsewhere (propagation `shared`).
    pub shared: bool,
}

/// The mounts that the calling thread sees, in the order in which they were made.
///
/// # Errors
/// When `/proc` can't be read.
pub fn mounts() -> io::Result<Vec<Mount>> {
    // Not `/proc/self`: a thread can be in a mount namespace of its own.
    let text = fs::read("/proc/thread-self/mountinfo")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
}

/// Where something is mounted at `dir` or below it, deepest first: the order in which to unmount.
///
/// # Errors
/// When `/proc` can't be read.
pub fn targets_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let below = mounts()?.into_iter().rev().map(|mount| mount.target);
    Ok(below.filter(|target| target.starts_with(dir)).collect())
}

/// `ID PARENT MAJ:MIN ROOT TARGET OPTIONS [TAG…] - FSTYPE SOURCE SUPEROPTIONS`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = path(fields.nth(3)?);
    let target = path(fields.next()?);
    let _mount_options = fields.next()?;
    let mut shared = false;
    for tag in fields.by_ref() {
        if tag == b"-" {
            break;
        }
        shared |= tag.starts_with(b"shared:");
    }
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let fstype = text(fields.next()?);
    let _source = fields.next()?;
    let options = text(fields.next()?);
    Some(Mount {
        root,
        target,
        fstype,
        options,
        shared,
    })
}

/// The kernel writes blanks and backslashes as three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        };
        match tail.get(..3).and_then(octal) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line =
            b"41 31 0:38 / /sys/fs/cgroup/a\\040b rw,relatime shared:7 master:1 - cgroup2 none rw,nsdelegate";
        let mount = parse_line(line).expect("a mount");
        assert_eq!(mount.target, Path::new("/sys/fs/cgroup/a b"));
        assert_eq!(
            (mount.fstype.as_str(), mount.options.as_str(), mount.shared),
            ("cgroup2", "rw,nsdelegate", true)
        );
    }

    #[test]
    fn a_mount_without_tags_is_private() {
        let line = b"23 1 0:21 / /proc rw - proc proc rw";
        assert!(!parse_line(line).expect("a mount").shared);
    }

    #[test]
    fn lines_that_are_cut_off_are_left_out() {
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"23 1 0:21 / /proc rw -"), None);
    }

    #[test]
    fn this_machine_has_proc_mounted() {
        let mounts = mounts().expect("mountinfo");
        assert!(mounts.iter().any(|m| m.target == Path::new("/proc")));
    }
}
