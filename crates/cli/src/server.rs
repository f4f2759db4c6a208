//! `ripstop server`: API, controllers and scheduler in one process.
//!
//! Controllers and scheduler are clients of the API that happen to live beside it: their requests
//! take the same way as everybody's, under names of their own, and skip only the network.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use apiserver::{ApiServer, ClientTls, Identity, LossToleration, ServerTls, ServiceConfig, TokenConfig};
use supervisor::network::Family;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::Server;
use crate::failure::Failure;
use crate::routes;

/// The issuer of ServiceAccount tokens, as Kubernetes' installers call it.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub(crate) async fn run(args: Server) -> Result<(), Failure> {
    Ok(serve(args).await?)
}

async fn serve(args: Server) -> anyhow::Result<()> {
    let shutdown = until_signalled()?;
    let pem = |name: &str| read(&args.pki, name);
    let ca_pem = pem("ca.crt")?;
    let tls = ServerTls {
        ca_pem: ca_pem.clone(),
        cert_pem: pem("server.crt")?,
        key_pem: pem("server.key")?,
    };
    let kubelet_client = ClientTls {
        ca_pem: ca_pem.clone(),
        cert_pem: pem("kubelet-client.crt")?,
        key_pem: pem("kubelet-client.key")?,
    };
    let config = apiserver::Config {
        store: args.store.clone(),
        kubelet_client: Some(kubelet_client),
        tokens: Some(tokens(&args)?),
        services: ServiceConfig {
            ranges: args.service_cidr.clone(),
            node_ports: args.service_node_port_range.range(),
            endpoints: args.listen.clone(),
        },
        loss_toleration: LossToleration {
            not_ready: args.default_not_ready_toleration_seconds.into(),
            unreachable: args.default_unreachable_toleration_seconds.into(),
        },
    };
    let api = ApiServer::open(config)?;
    // Before anything else runs: a second server must not touch objects that the first one serves.
    let mut listeners = Vec::new();
    for socket in &args.listen {
        let listener = TcpListener::bind(socket).await;
        listeners.push(listener.with_context(|| format!("can't listen on {socket}"))?);
    }
    // Namespaces and roles are there before the controllers look.
    api.bootstrap().await?;
    tracing::info!(listen = ?args.listen, store = %args.store.display(), "serving");
    let controllers = controllers::Config {
        cluster_cidrs: args.pod_cidr,
        node_mask_v4: Family::V4.node_mask(),
        node_mask_v6: Family::V6.node_mask(),
        ca_pem,
        load_balancer_pool: args.load_balancer_pool,
        reserved_addresses: args.reserved_address,
        node_monitor_grace: Duration::from_secs(args.node_monitor_grace_period.into()),
        ..controllers::Config::default()
    };
    run_all(api, listeners, tls, controllers, shutdown).await
}

/// Runs until told to end, or a part fails: then the whole process ends, and is started again.
async fn run_all(
    api: Arc<ApiServer>,
    listeners: Vec<TcpListener>,
    tls: ServerTls,
    config: controllers::Config,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // Clients end first, so that their last requests are answered.
    let (clients, server) = (CancellationToken::new(), CancellationToken::new());
    let mut parts = JoinSet::new();
    let (own, shared) = (api.clone(), identity("system:kube-controller-manager"));
    let controllers = controllers::Clients::new(api.client(shared), move |name| {
        own.client(Identity::service_account("kube-system", name))
    });
    let token = clients.clone();
    parts.spawn(async move {
        controllers::run(controllers, config, token)
            .await
            .context("the controllers failed")
    });
    let client = api.client(identity("system:kube-scheduler"));
    let token = clients.clone();
    parts.spawn(async move {
        scheduler::run(client, token)
            .await
            .context("the scheduler failed")
    });
    let (own, token) = (api.clone(), clients.clone());
    parts.spawn(async move {
        own.look_after_services(token.clone()).await;
        Ok(())
    });
    let client = api.client(Identity::service_account("kube-system", "route-controller"));
    let token = clients.clone();
    parts.spawn(async move {
        routes::keep(client, token)
            .await
            .context("the routes to pods failed")
    });
    let token = server.clone();
    let mut serving = tokio::spawn(serve_all(api, listeners, tls, token));

    let first = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        ended = parts.join_next() => flatten(ended.unwrap_or(Ok(Ok(())))),
        ended = &mut serving => {
            clients.cancel();
            return ended.context("the API server broke off")?.context("the API server failed");
        }
    };
    clients.cancel();
    while parts.join_next().await.is_some() {}
    server.cancel();
    serving.await.context("the API server broke off")??;
    tracing::info!("ended");
    first
}

/// Serves each address until `shutdown`; the end of one is the end of all.
async fn serve_all(
    api: Arc<ApiServer>,
    listeners: Vec<TcpListener>,
    tls: ServerTls,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut all = JoinSet::new();
    for listener in listeners {
        all.spawn(api.clone().serve(listener, tls.clone(), shutdown.clone()));
    }
    while let Some(ended) = all.join_next().await {
        ended.context("a listener of the API server broke off")??;
    }
    Ok(())
}

/// What ServiceAccount tokens are signed and checked with. Clusters of older versions get their keys here.
fn tokens(args: &Server) -> anyhow::Result<TokenConfig> {
    let keys = pki::TokenKeys::load_or_create(&args.pki)?;
    let listen = args.listen.first().context("--listen names no address")?;
    Ok(TokenConfig {
        issuer: ISSUER.to_owned(),
        public_url: format!("https://{listen}"),
        signing_pem: keys.signing,
        verification_pem: keys.verification,
    })
}

/// One of the server's own; its roles are bound to its name.
fn identity(user: &str) -> Identity {
    Identity::new(user, [""; 0])
}

/// A part that ends by itself is as bad as one that fails.
fn flatten(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    ended.context("a part of the control plane broke off")??;
    anyhow::bail!("a part of the control plane ended by itself")
}

fn read(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))
}

/// Is cancelled when the process is asked to end.
pub(crate) fn until_signalled() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("can't listen to signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen to signals")?;
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    Ok(token)
}
