//! What a container said when it ended: from its message file or, if it asked
//! for that and failed, from the end of its log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::logs::line::parse;
use crate::runtime::Run;

/// How much of the message file counts.
const MAX_FILE: u64 = 4096;
/// How much of the log counts.
const MAX_LOG: u64 = 2048;
const MAX_LINES: usize = 80;

/// The last words of a run that has exited; empty if there are none.
pub(crate) fn read(run: &Run) -> String {
    let from_file = run
        .message_file
        .as_deref()
        .map(|file| tail(Path::new(file), MAX_FILE));
    let message = from_file.and_then(Result::ok).unwrap_or_default();
    let message = String::from_utf8_lossy(&message).into_owned();
    if message.is_empty() && run.message_from_log && run.exit_code != 0 {
        return from_log(Path::new(&run.log_path));
    }
    message
}

/// The last bytes of a file.
fn tail(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn from_log(path: &Path) -> String {
    // Each line of the log carries a time and a stream, about 50 bytes.
    let bytes = tail(path, MAX_LOG * 2).unwrap_or_default();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|&b| b == b'\n').collect();
    // The first may have lost its beginning; parsing tells.
    let parsed: Vec<_> = lines.iter().filter_map(|line| parse(line)).collect();
    let first = parsed.len().saturating_sub(MAX_LINES);
    let mut text = Vec::new();
    for line in &parsed[first..] {
        text.extend_from_slice(line.content);
        if !line.partial {
            text.push(b'\n');
        }
    }
    let most = usize::try_from(MAX_LOG).unwrap_or(usize::MAX);
    let start = text.len().saturating_sub(most);
    String::from_utf8_lossy(&text[start..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tests::exited;

    #[test]
    fn the_file_comes_before_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("message");
        let log = folder.path().join("0.log");
        std::fs::write(&log, "2026-11-21T11:00:00Z stdout F one\n2026-11-21T11:00:01Z stderr P tw\n2026-11-21T11:00:01Z stderr F o\n").unwrap();
        std::fs::write(&file, "").unwrap();
        let mut run = exited("a", "s", 0, 1);
        run.message_file = Some(file.to_string_lossy().into_owned());
        run.log_path = log.to_string_lossy().into_owned();
        assert_eq!(read(&run), "");
        run.message_from_log = true;
        assert_eq!(read(&run), "one\ntwo\n");
        std::fs::write(&file, "out of cheese").unwrap();
        assert_eq!(read(&run), "out of cheese");
    }
}
