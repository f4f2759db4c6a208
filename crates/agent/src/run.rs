//! Puts the parts together and keeps them going.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::HeaderValue;
use http::header::USER_AGENT;
use kernel::NetNs;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::announce::Announcer;
use crate::cluster::{self, Latest, Memory};
use crate::complaints::{self, Complaints};
use crate::config::AgentConfig;
use crate::conflist::Conflist;
use crate::flows::{self, FlowSocket, Names};
use crate::network::{Network, NodeKernel, Server};
use crate::opt_out;
use crate::policies::{self, Policies};
use crate::services::{self, Catalogue};

/// How long the network may be unready before the runtime is told. A restart of the agent is
/// shorter.
const UNREADY_GRACE: Duration = Duration::from_secs(5);

/// How long the kubelet part waits for a network that was there before the agent's restart, so that
/// the Node doesn't become NotReady in between.
const READY_AGAIN: Duration = Duration::from_secs(2);

/// How many drops wait for their Events.
const DROPS: usize = 64;

/// Runs one node's agent until `shutdown`, in the network namespace of the calling process.
///
/// Pods and their traffic are left as they are at the end.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    config.validate()?;
    let client = connect(&config).await?;
    let (pins, cgroup) = (config.bpf_dir.clone(), Some(config.cgroup()));
    let kernel = NetNs::current().and_then(|netns| NodeKernel::open(netns, pins, cgroup));
    let kernel = kernel.context("cannot reach the kernel's network")?;
    run_with(config, client, kernel, shutdown).await
}

/// As [`run`], with a client and a network namespace of the caller's.
pub async fn run_with(
    config: AgentConfig,
    client: Client,
    kernel: NodeKernel,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let announcer = Announcer {
        netlink: kernel.netlink(),
        node: config.node_name.clone(),
        addresses: config.node_ips.clone(),
    };
    let node_local = &config.network.node_local;
    let policies = Arc::new(Policies::new(client.clone(), &config.node_name, node_local));
    let network = Arc::new(Network::start((&config).into(), policies.clone(), kernel).await?);
    let server = Server::bind(&config.socket())?;
    let socket = config.flows_socket();
    let listening = FlowSocket::bind(&socket);
    let listening = listening.with_context(|| format!("cannot listen at {}", socket.display()))?;

    let memory = Memory::new(&config.cni_dir(), &config.node_name);
    let remembered = memory.recall();
    let was_here = remembered.is_some();
    let known = remembered.as_ref();
    let latest = Latest::new(known.map(|cluster| Arc::new(cluster.snapshot(config.network.blank()))));
    let snapshots = latest.subscribe();
    let latest_nodes = latest.subscribe();
    info!(
        node = config.node_name,
        attachments = network.attachments().len(),
        remembered = was_here,
        "the agent starts"
    );

    // The end of any part is the end of all.
    let all = shutdown.child_token();
    let _cancel_all = all.clone().drop_guard();
    let mut parts: JoinSet<(&'static str, anyhow::Result<()>)> = JoinSet::new();
    let watch = cluster::follow(
        client.clone(),
        config.network.blank(),
        remembered.unwrap_or_default(),
        memory,
        latest,
        all.clone(),
    );
    parts.spawn(async {
        ("the watch of the API", {
            watch.await;
            Ok(())
        })
    });
    let (complaints, written) = Complaints::with_writer();
    let catalogue = Arc::new(Catalogue::with(complaints));
    let write = complaints::write(client.clone(), config.node_name.clone(), written, all.clone());
    parts.spawn(async {
        ("Events about Services", {
            write.await;
            Ok(())
        })
    });
    let names = Names {
        node: config.node_name.clone(),
        policies: policies.clone(),
        services: catalogue.clone(),
        nodes: latest_nodes.clone(),
    };
    let (drops, dropped) = mpsc::channel(DROPS);
    let (reader, token) = (network.clone(), all.clone());
    parts.spawn(async move {
        ("the reader of flows", {
            reader.follow_flows(names, drops, token).await;
            Ok(())
        })
    });
    let serve = listening.serve(network.told(), all.clone());
    parts.spawn(async {
        ("the socket for flows", {
            serve.await;
            Ok(())
        })
    });
    let warn = flows::warn_pods(client.clone(), dropped, all.clone());
    parts.spawn(async {
        ("Events about drops", {
            warn.await;
            Ok(())
        })
    });
    let watch = services::follow(client.clone(), catalogue.clone(), all.clone());
    parts.spawn(async {
        ("the watch of Services", {
            watch.await;
            Ok(())
        })
    });
    let (follower, token) = (network.clone(), all.clone());
    parts.spawn(async move {
        ("Services", {
            follower.follow_services(catalogue, token).await;
            Ok(())
        })
    });
    let (listener, nodes, token) = (network.clone(), latest_nodes.clone(), all.clone());
    parts.spawn(async move {
        ("the answers of other nodes", {
            listener.listen_to_nodes(nodes, token).await;
            Ok(())
        })
    });
    let (counter, token) = (network.clone(), all.clone());
    parts.spawn(async move {
        ("the count of translated connections", {
            counter.recount_connections(token).await;
            Ok(())
        })
    });
    let (sweeper, token) = (network.clone(), all.clone());
    parts.spawn(async move {
        ("connections that nobody answers", {
            sweeper.forget_unanswered(token).await;
            Ok(())
        })
    });
    let watch = opt_out::follow(
        client.clone(),
        config.node_name.clone(),
        network.opt_outs(),
        all.clone(),
    );
    parts.spawn(async {
        ("the watch of pods and Namespaces", {
            watch.await;
            Ok(())
        })
    });
    let (follower, token) = (network.clone(), all.clone());
    parts.spawn(async move {
        ("pods that see Services' addresses", {
            follower.follow_opt_outs(token).await;
            Ok(())
        })
    });
    let watch = policies::follow(policies, all.clone());
    parts.spawn(async {
        ("the watch of NetworkPolicies", {
            watch.await;
            Ok(())
        })
    });
    let (follower, token) = (network.clone(), all.clone());
    parts.spawn(async move {
        ("NetworkPolicies", {
            follower.follow_policies(token).await;
            Ok(())
        })
    });
    let (follower, token) = (network.clone(), all.clone());
    parts.spawn(async move {
        ("the network", {
            follower.follow(snapshots, token).await;
            Ok(())
        })
    });
    let serve = server.serve(network.clone(), all.clone());
    parts.spawn(async {
        ("the CNI server", {
            serve.await;
            Ok(())
        })
    });
    let (wanted, held) = watch::channel(None);
    let settings = ::announce::Settings {
        node: config.node_name.clone(),
    };
    let answering = network.answering();
    let elect = ::announce::run(settings, client.clone(), wanted, answering, all.clone());
    parts.spawn(async {
        ("the election of announcers", {
            elect.await;
            Ok(())
        })
    });
    let hold = announcer.run(held, latest_nodes, all.clone());
    parts.spawn(async {
        ("the announcer", {
            hold.await;
            Ok(())
        })
    });
    let conflist = Conflist::new(&config.cni.conf_dir, &config.socket());
    let announce = announce(conflist, network.readiness(), all.clone());
    parts.spawn(async {
        ("the runtime's network configuration", {
            announce.await;
            Ok(())
        })
    });
    if let Some(kubelet) = config.kubelet {
        let runtime = cri::Client::new(&kubelet.cri_socket);
        let patience = Duration::from_secs(config.cni.orphan_after_seconds);
        let reconcile = network.clone().reconcile(runtime, patience, all.clone());
        parts.spawn(async {
            ("the comparison with the container runtime", {
                reconcile.await;
                Ok(())
            })
        });
        let (network, token) = (network.clone(), all.clone());
        parts.spawn(async move {
            if was_here {
                wait_ready(network.readiness(), READY_AGAIN).await;
            }
            let ended = kubelet::run(kubelet, client, network, token).await;
            ("the kubelet part", ended.map_err(anyhow::Error::from))
        });
    }
    supervise(parts, &shutdown, &all).await
}

/// Waits for the first part to end, then ends the others.
async fn supervise(
    mut parts: JoinSet<(&'static str, anyhow::Result<()>)>,
    shutdown: &CancellationToken,
    all: &CancellationToken,
) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = parts.join_next().await {
        let failed = match ended {
            Ok((_, Ok(()))) if shutdown.is_cancelled() || all.is_cancelled() => continue,
            Ok((name, Ok(()))) => anyhow::anyhow!("{name} ended by itself"),
            Ok((name, Err(failure))) => failure.context(format!("{name} failed")),
            Err(panic) => anyhow::Error::from(panic).context("a part of the agent broke off"),
        };
        error!(error = format!("{failed:#}"), "the agent ends");
        all.cancel();
        if outcome.is_ok() {
            outcome = Err(failed);
        }
    }
    info!("the agent has ended: pods and their traffic are as they were");
    outcome
}

async fn connect(config: &AgentConfig) -> anyhow::Result<Client> {
    let mut api = match &config.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("kubeconfig {} leads to no API", path.display()))?
        }
        None => Config::incluster()
            .context("no kubeconfig is configured, and this isn't a pod with a service account either")?,
    };
    // By this name it owns the fields that it writes.
    let name = HeaderValue::from_static("ripstop-agent");
    api.headers.push((USER_AGENT, name));
    Client::try_from(api).context("cannot make a client of the API")
}

/// Keeps the runtime's network configuration in place while the network is ready, and takes it away
/// when it has been unready for [`UNREADY_GRACE`].
async fn announce(
    conflist: Conflist,
    mut ready: watch::Receiver<Result<(), String>>,
    shutdown: CancellationToken,
) {
    let mut unready_since: Option<Instant> = None;
    loop {
        let is_ready = ready.borrow_and_update().is_ok();
        let outcome = if is_ready {
            unready_since = None;
            conflist.place()
        } else if unready_since.get_or_insert_with(Instant::now).elapsed() >= UNREADY_GRACE {
            conflist.remove()
        } else {
            Ok(false)
        };
        let path = conflist.path();
        match outcome {
            Ok(true) if is_ready => info!(path = %path.display(), "the container runtime may attach pods"),
            Ok(true) => {
                warn!(path = %path.display(), "the container runtime may attach no pods until the network is ready")
            }
            Ok(false) => {}
            Err(error) => warn!(%error, "trying again"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = ready.changed() => if changed.is_err() { return },
            // Somebody else may have removed or written it, too.
            () = tokio::time::sleep(UNREADY_GRACE) => {}
        }
    }
}

async fn wait_ready(mut ready: watch::Receiver<Result<(), String>>, patience: Duration) {
    if tokio::time::timeout(patience, ready.wait_for(Result::is_ok))
        .await
        .is_err()
    {
        warn!("the network isn't ready again yet: the Node will show it");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn running(conflist: &Conflist) -> (watch::Sender<Result<(), String>>, impl Drop + use<>) {
        let ready = watch::Sender::new(Ok(()));
        let stop = CancellationToken::new();
        tokio::spawn(announce(conflist.clone(), ready.subscribe(), stop.clone()));
        (ready, stop.drop_guard())
    }

    async fn after(time: Duration) {
        tokio::time::sleep(time).await;
        tokio::task::yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_runtime_is_told_when_the_network_was_unready_for_longer_than_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let conflist = Conflist::new(dir.path(), Path::new("/cni.sock"));
        let (ready, _stop) = running(&conflist);
        after(Duration::from_millis(1)).await;
        assert!(conflist.path().exists());

        ready.send(Err("a moment".to_owned())).expect("it is watched");
        after(UNREADY_GRACE / 2).await;
        assert!(conflist.path().exists(), "a short trouble isn't told");
        ready
            .send(Err("another reason".to_owned()))
            .expect("it is watched");
        after(UNREADY_GRACE * 2).await;
        assert!(!conflist.path().exists(), "a long one is, whatever its reasons");

        ready.send(Ok(())).expect("it is watched");
        after(Duration::from_millis(1)).await;
        assert!(conflist.path().exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_somebody_removed_comes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let conflist = Conflist::new(dir.path(), Path::new("/cni.sock"));
        let (_ready, _stop) = running(&conflist);
        after(Duration::from_millis(1)).await;
        conflist.remove().expect("removed");
        after(UNREADY_GRACE * 2).await;
        assert!(conflist.path().exists());
    }
}
