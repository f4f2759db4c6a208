//! Reading and following a container's log.

use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::line::{Line, Stream, parse};

/// How much is read at once.
const CHUNK: usize = 64 << 10;
/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(100);
/// Every how many looks the container is asked for.
const ASK_EVERY: u32 = 5;

/// What of a log is wanted, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) follow: bool,
    pub(crate) timestamps: bool,
    /// The last so many lines only.
    pub(crate) tail: Option<u64>,
    /// Lines from then on only.
    pub(crate) since: Option<Timestamp>,
    /// So many bytes at most.
    pub(crate) limit: Option<u64>,
    /// One stream only.
    pub(crate) stream: Option<Stream>,
}

/// Whether the container may still write.
pub(crate) type Alive = Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// A log being read.
pub(crate) struct Reader {
    path: PathBuf,
    file: File,
    inode: u64,
    options: Options,
    alive: Alive,
    /// The beginning of a line whose end isn't written yet.
    rest: Vec<u8>,
    /// The line before was partial: this one goes on with it.
    inside_line: bool,
    sent: u64,
}

impl Reader {
    /// Opens the log and finds where to begin.
    pub(crate) async fn open(path: &Path, options: Options, alive: Alive) -> io::Result<Self> {
        let mut file = File::open(path).await?;
        let inode = file.metadata().await?.ino();
        if let Some(lines) = options.tail {
            let start = tail_start(&mut file, lines).await?;
            file.seek(SeekFrom::Start(start)).await?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            inode,
            options,
            alive,
            rest: Vec::new(),
            inside_line: false,
            sent: 0,
        })
    }

    /// Sends what is wanted, until the end of the log or, following, of the
    /// container, or until nobody listens any more.
    pub(crate) async fn run(mut self, out: mpsc::Sender<Bytes>) -> io::Result<()> {
        let mut idle = 0u32;
        let mut last_look = false;
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = self.file.read(&mut chunk).await?;
            if read > 0 {
                idle = 0;
                chunk.truncate(read);
                let wanted = self.take(&chunk);
                let done = self.options.limit.is_some_and(|limit| self.sent >= limit);
                if !wanted.is_empty() && out.send(wanted.into()).await.is_err() || done {
                    return Ok(());
                }
                continue;
            }
            if !self.options.follow || (last_look && !self.reopen().await?) {
                return Ok(());
            }
            if self.reopen().await? {
                continue;
            }
            idle += 1;
            if idle.is_multiple_of(ASK_EVERY) && !(self.alive)().await {
                // What it wrote last may have come since we looked.
                last_look = true;
                continue;
            }
            tokio::select! {
                () = out.closed() => return Ok(()),
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Goes on with a new file where the log was rotated.
    async fn reopen(&mut self) -> io::Result<bool> {
        match tokio::fs::metadata(&self.path).await {
            Ok(meta) if meta.ino() != self.inode => {
                self.file = File::open(&self.path).await?;
                self.inode = self.file.metadata().await?.ino();
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// What of a chunk is wanted, in the form that is.
    fn take(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.rest);
        text.extend_from_slice(chunk);
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        self.rest = text.split_off(whole);
        let mut out = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|&b| b == b'\n') {
            if let Some(line) = parse(line).filter(|line| self.is_wanted(line)) {
                self.write(&line, &mut out);
            }
        }
        if let Some(limit) = self.options.limit {
            let left = usize::try_from(limit - self.sent).unwrap_or(usize::MAX);
            out.truncate(left);
        }
        self.sent += out.len() as u64;
        out
    }

    fn is_wanted(&self, line: &Line<'_>) -> bool {
        let time_ok = self
            .options
            .since
            .is_none_or(|since| line.time.parse::<Timestamp>().is_ok_and(|time| time >= since));
        time_ok && self.options.stream.is_none_or(|stream| stream == line.stream)
    }

    fn write(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        if self.options.timestamps && !self.inside_line {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.content);
        if !line.partial {
            out.push(b'\n');
        }
        self.inside_line = line.partial;
    }
}

/// Where the last `lines` lines begin, found from the end.
async fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut seen = 0;
    let mut block = vec![0; CHUNK];
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let size = usize::try_from(end - start).unwrap_or(CHUNK);
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block[..size]).await?;
        for at in (0..size).rev().filter(|&at| block[at] == b'\n') {
            let position = start + at as u64;
            // The newline at the very end closes the last line; it opens none.
            if position + 1 == length {
                continue;
            }
            seen += 1;
            if seen == lines {
                return Ok(position + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const LOG: &str = "2026-11-21T11:00:00Z stdout F one\n2026-11-21T11:00:01Z stderr F two\n\
                       2026-11-21T11:00:02Z stdout P thr\n2026-11-21T11:00:02Z stdout F ee\n";

    async fn read(options: Options) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        collect(&path, options, Box::new(|| Box::pin(async { false }))).await
    }

    async fn collect(path: &Path, options: Options, alive: Alive) -> String {
        let reader = Reader::open(path, options, alive).await.unwrap();
        let (sender, mut receiver) = mpsc::channel(4);
        let reading = tokio::spawn(reader.run(sender));
        let mut text = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            text.extend_from_slice(&bytes);
        }
        reading.await.unwrap().unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn options_choose_what_is_read() {
        let all = Options::default();
        assert_eq!(read(all.clone()).await, "one\ntwo\nthree\n");
        assert_eq!(
            read(Options {
                tail: Some(2),
                ..all.clone()
            })
            .await,
            "three\n"
        );
        assert_eq!(
            read(Options {
                tail: Some(3),
                ..all.clone()
            })
            .await,
            "two\nthree\n"
        );
        assert_eq!(
            read(Options {
                tail: Some(0),
                ..all.clone()
            })
            .await,
            ""
        );
        assert_eq!(
            read(Options {
                tail: Some(99),
                ..all.clone()
            })
            .await,
            "one\ntwo\nthree\n"
        );
        assert_eq!(
            read(Options {
                limit: Some(5),
                ..all.clone()
            })
            .await,
            "one\nt"
        );
        assert_eq!(
            read(Options {
                stream: Some(Stream::Stderr),
                ..all.clone()
            })
            .await,
            "two\n"
        );
        let since = Some("2026-11-21T11:00:01Z".parse().unwrap());
        assert_eq!(read(Options { since, ..all.clone() }).await, "two\nthree\n");
        assert_eq!(
            read(Options {
                timestamps: true,
                tail: Some(3),
                ..all
            })
            .await,
            "2026-11-21T11:00:01Z two\n2026-11-21T11:00:02Z three\n"
        );
    }

    #[tokio::test]
    async fn following_goes_through_rotations_and_ends_with_the_container() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let alive = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&alive);
        let asks: Alive = Box::new(move || {
            let alive = flag.load(Ordering::SeqCst);
            Box::pin(async move { alive })
        });
        let options = Options {
            follow: true,
            tail: Some(0),
            ..Options::default()
        };
        let reader = Reader::open(&path, options, asks).await.unwrap();
        let (sender, mut receiver) = mpsc::channel(4);
        let reading = tokio::spawn(reader.run(sender));
        std::fs::rename(&path, folder.path().join("0.log.old")).unwrap();
        std::fs::write(&path, "2026-11-21T11:00:03Z stdout F after\n").unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "after\n");
        alive.store(false, Ordering::SeqCst);
        assert_eq!(receiver.recv().await, None);
        reading.await.unwrap().unwrap();
    }
}
