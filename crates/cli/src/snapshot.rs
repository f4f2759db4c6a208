//! `ripstop snapshot save|restore FILE`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use futures::AsyncReadExt;
use supervisor::{Cluster, ClusterName, Error, Paths, preflight, protocol};
use tokio::runtime::Handle;

use crate::api;
use crate::args::Snapshot;
use crate::failure::Failure;
use crate::lock::Lock;
use crate::output::out;
use crate::progress::Progress;

pub(crate) async fn run(command: Snapshot) -> Result<(), Failure> {
    if let Some(problem) = preflight::root() {
        return Err(Failure::several(vec![problem]));
    }
    match command {
        Snapshot::Save { named, file } => save(&named.name, &file).await,
        Snapshot::Restore { named, file } => restore(&named.name, &file).await,
    }
}

/// Asks the running server for all of its objects. The file is there when all of it is.
async fn save(name: &ClusterName, file: &Path) -> Result<(), Failure> {
    let paths = Paths::of(name);
    if protocol::status(&paths.supervisor_socket()).await?.is_none() {
        return Err(crate::node::absent(name).into());
    }
    let client = api::client(&paths).await?;
    let request = http::Request::get("/snapshot").body(Vec::new());
    let request = request.expect("the path is a path");
    let from = client.request_stream(request).await.map_err(|error| {
        let cure = format!("`ripstop status --name {name}` shows whether the server runs");
        Failure::new(format!("the server gives no snapshot: {error}"), cure)
    })?;
    let unwritable = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", file.display()), "");
    let part = beside(file, "part");
    let to = create(&part).map_err(|error| unwritable(&error))?;
    let mut progress = Progress::new();
    progress.begin("saving");
    let from = Blocking {
        from: Box::pin(from),
        handle: Handle::current(),
    };
    let saved = tokio::task::spawn_blocking(move || copy(from, to));
    let saved = saved.await.expect("copying doesn't panic");
    let summary = saved.and_then(|summary| Ok(fs::rename(&part, file).map(|()| summary)?));
    let summary = summary.map_err(|error| {
        // What there is of it would be taken for a snapshot.
        let _ = fs::remove_file(&part);
        unwritable(&error)
    })?;
    progress.done("saving");
    drop(progress);
    out!(
        "{} holds {} objects, as of revision {}",
        file.display(),
        summary.objects,
        summary.revision
    );
    Ok(())
}

/// Reads what is written once more, so that nothing is kept that couldn't be restored.
fn copy(from: impl Read, to: File) -> Result<store::Summary, store::Error> {
    let mut tee = Tee {
        from: BufReader::new(from),
        to: BufWriter::new(to),
    };
    let mut reader = store::Reader::new(&mut tee)?;
    let summary = reader.summary();
    while reader.next()?.is_some() {}
    let file = tee.to.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(summary)
}

/// Objects are secrets, among other things.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Puts a snapshot in the place of a stopped cluster's objects.
async fn restore(name: &ClusterName, file: &Path) -> Result<(), Failure> {
    let paths = Paths::of(name);
    let from = File::open(file).map_err(|error| {
        let cure = "`ripstop snapshot save FILE` makes one";
        Failure::new(format!("{}: {error}", file.display()), cure)
    })?;
    let _lock = Lock::of(name).await?;
    if Cluster::load(&paths)?.is_none() {
        return Err(Error::NoCluster(name.to_string()).into());
    }
    let stop = format!("`ripstop down --name {name} --keep-data` stops it");
    if protocol::status(&paths.supervisor_socket()).await?.is_some() {
        return Err(Failure::new(format!("cluster {name} runs"), stop));
    }
    let mut progress = Progress::new();
    progress.begin("restoring");
    let path = paths.store();
    let work = tokio::task::spawn_blocking(move || store::restore(BufReader::new(from), &path, |_| {}));
    let restored = work.await.expect("restoring doesn't panic").map_err(|error| {
        let cure = match error {
            store::Error::Busy => stop,
            _ => format!("cluster {name} is as it was"),
        };
        Failure::new(format!("{}: {error}", file.display()), cure)
    })?;
    progress.done("restoring");
    drop(progress);
    out!(
        "{} objects as of revision {} are restored; `ripstop up --name {name}` starts the cluster with them, at revision {}",
        restored.summary.objects,
        restored.summary.revision,
        restored.revision
    );
    if let Some(replaced) = restored.replaced {
        out!("what was there before is in {}", replaced.display());
    }
    Ok(())
}

/// A stream, read by a thread that may wait.
struct Blocking<S> {
    from: std::pin::Pin<Box<S>>,
    handle: Handle,
}

impl<S: futures::AsyncRead> Read for Blocking<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.handle.block_on(self.from.read(into))
    }
}

/// Writes down what is read.
struct Tee<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.to.write_all(&into[..count])?;
        Ok(count)
    }
}
