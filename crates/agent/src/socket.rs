//! Sockets of the node's own processes.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

/// Listens at `path`, for root alone. A socket that an earlier agent left is replaced in one step:
/// nobody finds none.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

/// The next caller. One that can't be accepted is tried again; `what` says what they call for.
pub(crate) async fn accept(listener: &UnixListener, what: &str) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                // Out of file descriptors, most likely: it passes as others end.
                warn!(%error, "cannot accept {what}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
