//! One `up` or `down` of a cluster at a time.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use supervisor::paths::RUN_ROOT;
use supervisor::{ClusterName, Error};

use crate::output::note;

/// Held until dropped; the file goes with it.
#[derive(Debug)]
pub(crate) struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

impl Lock {
    /// For work on one cluster. Waits for whoever has it, and says so.
    pub(crate) async fn of(name: &ClusterName) -> Result<Self, Error> {
        Self::take(
            format!("{name}.lock"),
            &format!("another command works on cluster {name}"),
        )
        .await
    }

    /// For the choice of addresses, which concerns all clusters.
    pub(crate) async fn of_addresses() -> Result<Self, Error> {
        // A dot keeps it apart from clusters' names.
        Self::take(
            ".addresses.lock".to_owned(),
            "another cluster chooses its addresses",
        )
        .await
    }

    async fn take(name: String, busy: &str) -> Result<Self, Error> {
        let path = Path::new(RUN_ROOT).join(name);
        let failed = |path: &Path, error| Error::File {
            action: "lock",
            path: path.to_owned(),
            source: error,
        };
        if let Some(lock) =
            try_take(&path, FlockArg::LockExclusiveNonblock).map_err(|error| failed(&path, error))?
        {
            return Ok(lock);
        }
        note!("{busy}: waiting for it to end");
        let wait = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || {
                loop {
                    if let Some(lock) = try_take(&path, FlockArg::LockExclusive)? {
                        return Ok(lock);
                    }
                }
            })
        };
        wait.await
            .expect("locking doesn't panic")
            .map_err(|error| failed(&path, error))
    }
}

/// `None` when somebody else has it, or it was removed in the meantime.
fn try_take(path: &Path, how: FlockArg) -> io::Result<Option<Lock>> {
    fs::create_dir_all(RUN_ROOT)?;
    let file = match File::create(path) {
        // The folder was removed with the last cluster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let file = match Flock::lock(file, how) {
        Ok(file) => file,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, error)) => return Err(error.into()),
    };
    // Whoever had it before has removed the file, and the next one made another.
    let same = fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino()));
    let path = path.to_owned();
    Ok(same.then(|| Lock { file, path }))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked, so that nobody's file is removed but this one.
        let _ = fs::remove_file(&self.path);
        let _ = &self.file;
        // The last command leaves no empty folder.
        let _ = fs::remove_dir(RUN_ROOT);
    }
}
