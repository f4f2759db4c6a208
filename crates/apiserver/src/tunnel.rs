//! Upgraded connections: what goes on after its request was answered.

use std::future::Future;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::metrics::Held;
use crate::server::ApiServer;

/// Passes bytes between both until one ends, or the server does. `held` is the hold on the request that began it.
pub(crate) fn join(server: &ApiServer, held: Option<Held>, near: OnUpgrade, far: OnUpgrade) {
    keep(server, held, async {
        let (near, far) = tokio::try_join!(near, far).map_err(std::io::Error::other)?;
        let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    });
}

/// Runs a connection until it ends, or the server does.
pub(crate) fn keep<T, E>(
    server: &ApiServer,
    held: Option<Held>,
    connection: impl Future<Output = Result<T, E>> + Send + 'static,
) where
    E: std::fmt::Display + Send,
    T: Send,
{
    let stopping = server.stopping.clone();
    tokio::spawn(async move {
        let _held = held;
        tokio::select! {
            outcome = connection => if let Err(error) = outcome {
                tracing::debug!(%error, "upgraded connection");
            },
            () = stopping.cancelled() => {}
        }
    });
}
