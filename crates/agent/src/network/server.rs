//! The socket that the plugin calls.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cni::wire::{MESSAGE_MAX, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::attach::Answer;
use super::{DataPlane, Error, Network};
use crate::socket;

/// How long a plugin may take to say what it wants: it has it all in memory.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long calls under way may go on when the agent ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The listening socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
}

impl Server {
    /// Listens at `path`, for root alone. A socket that an earlier agent left is replaced in one
    /// step: a plugin never finds none.
    pub fn bind(path: &Path) -> Result<Server, Error> {
        let listener = socket::listen(path).map_err(|source| Error::Listen {
            path: path.to_owned(),
            source,
        })?;
        Ok(Server { listener })
    }

    /// Serves calls until `shutdown`, then finishes those under way. The socket's name stays for
    /// the next agent: a plugin that comes meanwhile waits for it.
    pub async fn serve<D: DataPlane>(self, network: Arc<Network<D>>, shutdown: CancellationToken) {
        let calls = TaskTracker::new();
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => break,
                stream = socket::accept(&self.listener, "a call of the CNI plugin") => stream,
            };
            let network = network.clone();
            calls.spawn(async move {
                if let Err(error) = serve_one(&network, stream).await {
                    debug!(%error, "a plugin went away");
                }
            });
        }
        drop(self.listener);
        calls.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, calls.wait()).await.is_err() {
            warn!(
                calls = calls.len(),
                "ending in the middle of calls of the CNI plugin: they are repeated or undone later"
            );
        }
    }
}

async fn serve_one<D: DataPlane>(network: &Network<D>, mut stream: UnixStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut request = (&mut stream).take(MESSAGE_MAX);
    tokio::time::timeout(REQUEST_TIMEOUT, request.read_to_end(&mut bytes)).await??;
    if bytes.is_empty() {
        // Somebody saw whether we listen.
        return Ok(());
    }
    let answer = match Request::parse(&bytes) {
        Ok(request) => {
            let caller = Some(&stream);
            network.serve(&request.call, &request.config, caller).await
        }
        Err(error) => Answer {
            outcome: Err(error),
            undo: None,
        },
    };
    let response = serde_json::to_vec(&Response::from(answer.outcome))?;
    let told = async {
        stream.write_all(&response).await?;
        stream.shutdown().await
    };
    let told = told.await;
    if let (Err(_), Some(id)) = (&told, answer.undo) {
        warn!(%id, "the plugin was ended before it had its answer: undoing its ADD");
        if let Err(error) = network.del(&id, None).await {
            warn!(%id, %error, "an ADD that nobody waits for couldn't be undone: its DEL or GC will");
        }
    }
    told
}
