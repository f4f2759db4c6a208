//! Two upgraded connections, joined.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::metrics::Held;
use crate::server::ApiServer;

/// Passes bytes between both until one ends, or the server does. `held` is the hold on the request that began it.
pub(crate) fn join(server: &ApiServer, held: Option<Held>, near: OnUpgrade, far: OnUpgrade) {
    let stopping = server.stopping.clone();
    tokio::spawn(async move {
        let _held = held;
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
