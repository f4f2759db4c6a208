//! Two upgraded connections, joined.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::server::ApiServer;

/// Passes bytes between both until one ends, or the server does.
pub(crate) fn join(server: &ApiServer, near: OnUpgrade, far: OnUpgrade) {
    let stopping = server.stopping.clone();
    tokio::spawn(async move {
        let tunnel = async {
            let (near, far) = tokio::try_join!(near, far).map_err(std::io::Error::other)?;
            let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
            tokio::io::copy_bidirectional(&mut near, &mut far).await
        };
        tokio::select! {
            outcome = tunnel => if let Err(error) = outcome {
                tracing::debug!(%error, "upgraded connection");
            },
            () = stopping.cancelled() => {}
        }
    });
}
