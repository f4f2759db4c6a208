//! Logs: one file a process, kept from growing for ever.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use crate::Error;

/// A log larger than this is put aside.
const LARGEST: u64 = 16 << 20;
/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(30);

/// Keeps the logs in a folder small, until dropped.
pub(crate) async fn keep_small(dir: &Path) {
    loop {
        if let Err(error) = trim_all(dir, LARGEST) {
            tracing::warn!(%error, "can't trim the logs");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn trim_all(dir: &Path, largest: u64) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            trim(&path, largest)?;
        }
    }
    Ok(())
}

/// Copies a large log aside and empties it. Its writer appends, and so goes on at the beginning; a
/// line that is written between the two steps is lost.
fn trim(path: &Path, largest: u64) -> io::Result<()> {
    if fs::metadata(path)?.len() <= largest {
        return Ok(());
    }
    fs::copy(path, path.with_extension("log.1"))?;
    OpenOptions::new().write(true).open(path)?.set_len(0)
}

/// The last `lines` lines of a log.
///
/// # Errors
/// When the file can't be read.
pub fn tail(path: &Path, lines: usize) -> Result<Vec<String>, Error> {
    const WINDOW: u64 = 64 << 10;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
        let mut bytes = Vec::new();
        file.take(WINDOW).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| Error::file("read", path, error))?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    Ok(all[from..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_large_log_is_put_aside_and_its_writer_goes_on() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("server.log");
        let mut writer = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .expect("opened");
        writer.write_all(b"one\ntwo\n").expect("written");
        trim_all(dir.path(), 100).expect("nothing to do");
        assert_eq!(tail(&path, 1).expect("read"), ["two"]);
        trim_all(dir.path(), 4).expect("trimmed");
        writer.write_all(b"three\n").expect("written");
        assert_eq!(tail(&path, 9).expect("read"), ["three"]);
        assert_eq!(
            tail(&dir.path().join("server.log.1"), 9).expect("read"),
            ["one", "two"]
        );
    }
}
