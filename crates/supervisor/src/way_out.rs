//! The nodes' way out through the machine: forwarding, masquerade, and what firewalls must let pass.
//!
//! Firewalls that are reloaded throw away what others added, so it is looked after for as long as
//! the supervisor lives.

use std::time::Duration;

use kernel::machine::{Changed, Machine, NodeNetwork};

use crate::cluster::Cluster;
use crate::network::Family;
use crate::state::State;
use crate::{ClusterName, Error};

/// How long a firewall's reload may cut the nodes off.
const INTERVAL: Duration = Duration::from_secs(10);

/// Opens the way, and says what stays in it.
pub(crate) async fn open(cluster: &Cluster, state: &State) -> Result<(), Error> {
    let (v4, v6) = (cluster.ranges.has(Family::V4), cluster.ranges.has(Family::V6));
    let changed = on_machine(move |machine| machine.forward(v4, v6)).await?;
    let changed = changed.iter().map(|Changed { key, before, now }| {
        let name = key.replace('/', ".");
        format!("{name} was {before} and is {now} now")
    });
    let changed: Vec<String> = changed.collect();
    if !changed.is_empty() {
        let list = changed.join(", ");
        state.note(format!("sysctl {list}; it stays so when the cluster is gone"));
    }
    ensure(cluster, state).await
}

/// Opens it again whenever somebody has closed it, until dropped.
pub(crate) async fn keep_open(cluster: &Cluster, state: &State) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Err(error) = ensure(cluster, state).await {
            tracing::warn!(%error, "the nodes' way out can't be looked after");
        }
    }
}

async fn ensure(cluster: &Cluster, state: &State) -> Result<(), Error> {
    let (name, link) = (cluster.name.clone(), cluster.name.machine_link());
    let nets = cluster.ranges.node_networks();
    let (changes, allowed) = on_machine(move |machine| {
        let network = NodeNetwork {
            cluster: name.as_str(),
            link: &link,
            nets: &nets,
        };
        Ok((machine.masquerade(network)?, machine.allow_forwarding(network)?))
    })
    .await?;
    if changes + allowed.rules > 0 {
        tracing::info!(changes, rules = allowed.rules, "opened the nodes' way out");
    }
    state.set_firewalls(allowed.problems);
    Ok(())
}

/// Takes back what was added on the machine.
pub(crate) async fn close(name: &ClusterName) -> Result<(), Error> {
    let name = name.to_string();
    on_machine(move |machine| machine.remove(&name)).await?;
    Ok(())
}

/// Talks to the machine's packet filter on a thread that may wait.
async fn on_machine<T: Send + 'static>(
    work: impl FnOnce(&Machine) -> kernel::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let run = move || work(&Machine::current()?);
    let result = tokio::task::spawn_blocking(run)
        .await
        .expect("talking to the kernel doesn't panic");
    Ok(result?)
}
