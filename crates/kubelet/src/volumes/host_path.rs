//! `hostPath`: a path of the node itself.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Checks that the path is what the volume says it is, and makes it where the
/// volume asks for that. The error is Kubernetes' wording.
pub(crate) fn prepare(path: &str, kind: &str) -> Result<(), String> {
    let place = Path::new(path);
    if path.is_empty() || path.split('/').any(|part| part == "..") {
        return Err(format!("invalid host path {path:?}"));
    }
    let made = |result: io::Result<()>| result.map_err(|e| format!("cannot make {path}: {e}"));
    match kind {
        "DirectoryOrCreate" if !place.exists() => {
            made(make_dir(place))?;
        }
        "FileOrCreate" if !place.exists() => {
            // The folder isn't made: Kubernetes wants it to be there.
            let file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(place);
            made(file.map(drop))?;
        }
        _ => {}
    }
    let good = |test: fn(&fs::FileType) -> bool| fs::metadata(place).is_ok_and(|m| test(&m.file_type()));
    let (is_right, noun) = match kind {
        "" => return Ok(()),
        "Directory" | "DirectoryOrCreate" => (good(fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (good(fs::FileType::is_file), "a file"),
        "Socket" => (good(FileTypeExt::is_socket), "a socket file"),
        "CharDevice" => (good(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => (good(FileTypeExt::is_block_device), "a block device"),
        other => return Err(format!("{other} is an invalid hostPath type")),
    };
    if is_right {
        Ok(())
    } else {
        Err(format!("hostPath type check failed: {path} is not {noun}"))
    }
}

fn make_dir(place: &Path) -> io::Result<()> {
    fs::create_dir_all(place)?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_must_be_what_it_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        assert_eq!(prepare(&at("new/dir"), "DirectoryOrCreate"), Ok(()));
        assert_eq!(prepare(&at("new/file"), "FileOrCreate"), Ok(()));
        assert_eq!(prepare(&at("new/dir"), "Directory"), Ok(()));
        assert_eq!(prepare("/dev/null", "CharDevice"), Ok(()));
        assert_eq!(prepare(&at("anything"), ""), Ok(()));
        let error = prepare(&at("new/file"), "Directory").unwrap_err();
        assert!(error.ends_with("/new/file is not a directory"), "{error}");
        assert!(prepare("/a/../b", "").is_err());
    }
}
