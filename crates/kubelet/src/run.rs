use std::fs;
use std::path::Path;
use std::sync::Arc;

use kernel::cgroup::Hierarchies;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::context::{Context, Directory};
use crate::error::Error;
use crate::events::Recorder;
use crate::images::Images;
use crate::logs::rotate;
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::network::NetworkStatus;
use crate::objects::Objects;
use crate::server::{Answers, Server};
use crate::services::Services;
use crate::stats::Rates;
use crate::{image_gc, lease, node, pods};

/// Runs a node's kubelet until `shutdown`. Pods go on without it; the next
/// one picks them up.
///
/// The process must be in the node's network and mount namespaces, and
/// `client` must have the node's credentials (`system:node:NAME`).
///
/// # Errors
/// If it can't start: folders, certificates or the address are not to be had.
/// Everything later is retried and told in the Node, in events and in logs.
pub async fn run(
    config: Config,
    client: kube::Client,
    network: Arc<dyn NetworkStatus>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    for folder in [config.pods_dir(), config.logs_dir()] {
        make_folder(&folder)?;
    }
    let hierarchies = Hierarchies::detect().map_err(|source| Error::Folder {
        path: "/sys/fs/cgroup".into(),
        source,
    })?;
    let server = Server::bind(&config).await?;
    let cri = cri::Client::new(&config.cri_socket);
    let (events, writing) = Recorder::new(client.clone(), config.node_name.clone());
    let ctx = Arc::new(Context {
        machine: Machine::detect(&config.root_dir, &config.capacity),
        hierarchies,
        objects: Objects::new(client.clone()),
        images: Images::new(cri.clone(), events.clone(), config.pulled_file()),
        services: Services::new(client.clone()),
        slots: Semaphore::new(config.parallel_starts.max(1)),
        directory: Directory::default(),
        metrics: Metrics::default(),
        rates: Rates::default(),
        access: Answers::default(),
        config,
        client,
        cri,
        network,
        events,
    });
    let (uid, node_uid) = watch::channel(None);
    // Each of these runs for ever; dropping them, and so the workers and all
    // else that they own, is how the kubelet ends.
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = writing => {}
        () = server.run(Arc::clone(&ctx)) => {}
        () = node::run(Arc::clone(&ctx), uid) => {}
        () = lease::run(Arc::clone(&ctx), node_uid) => {}
        () = rotate::run(Arc::clone(&ctx)) => {}
        () = image_gc::run(Arc::clone(&ctx)) => {}
        () = pods::run(Arc::clone(&ctx)) => {}
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Folder {
        path: path.to_owned(),
        source,
    })
}
