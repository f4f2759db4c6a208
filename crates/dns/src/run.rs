//! Puts the parts together and keeps them going.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::DnsConfig;
use crate::control::Control;
use crate::forward::{Bounds, Forwarder, Routes, Way};
use crate::memory::{Memory, Remembered};
use crate::metrics::Metrics;
use crate::name;
use crate::record::Records;
use crate::resolver::Resolver;
use crate::server::{self, Sockets};
use crate::settings::{Settings, Surroundings};
use crate::silence;
use crate::table::{Table, Zone};
use crate::watch::Watches;

/// Changes within this time are remembered in one go.
const GATHER: Duration = Duration::from_secs(1);
/// How soon listening for health and numbers is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs one node's DNS until `shutdown`, on those sockets; other servers are asked as `way` leads.
///
/// # Errors
/// When the configuration can't work, or there is no way to the API.
pub async fn run(
    config: DnsConfig,
    sockets: Sockets,
    way: Way,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    config.validate()?;
    let client = connect(&config).await?;
    run_with(config, client, sockets, way, shutdown).await
}

/// As [`run`], with a client of the caller's.
///
/// # Errors
/// When the configuration can't work.
pub async fn run_with(
    config: DnsConfig,
    client: Client,
    sockets: Sockets,
    way: Way,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let resolver = Arc::new(resolver(&config, way)?);
    let around = Surroundings {
        domain: resolver.look(|table| table.domain().clone()),
        own: config.servers.clone(),
    };
    let control = Arc::new(Control::new(
        Arc::clone(&resolver),
        around,
        config.resolv_conf.clone(),
    ));
    let memory = Memory::new(&config.data_dir);
    let remembered = recall(&config, &memory, &resolver, &control);
    info!(
        node = config.node_name,
        remembered = resolver.is_known(),
        udp = sockets.udp.len(),
        "the DNS starts"
    );

    let all = shutdown.child_token();
    let _cancel_all = all.clone().drop_guard();
    let changed = Arc::new(Notify::new());
    let watches = Watches::new(
        client,
        config.node_name.clone(),
        config.cluster_domain.clone(),
        Arc::clone(&resolver),
        Arc::clone(&control),
        Arc::clone(&changed),
        remembered,
        all.clone(),
    );
    let serve = server::serve(Arc::clone(&resolver), sockets, all.clone());
    let (watch, look) = (watches.run(), control.run(all.clone()));
    let keep = keep(&config, &memory, &resolver, &control, &changed, &all);
    let tell = tell(&config, &resolver, &all);
    let listen = silence::follow(config.heard.clone(), &resolver, &all);
    let (served, (), (), (), (), ()) = tokio::join!(serve, watch, look, keep, tell, listen);
    served.context("cannot serve")?;
    info!("the DNS has ended");
    Ok(())
}

fn resolver(config: &DnsConfig, way: Way) -> anyhow::Result<Resolver> {
    let domain = name::parse(&config.cluster_domain).context("clusterDomain isn't a domain")?;
    let zone = Zone {
        domain,
        servers: config.servers.clone(),
        ranges: config.cluster_ranges.clone(),
    };
    // Larger than that of the process before.
    let serial = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let table = Table::new(
        zone,
        u32::try_from(serial & u64::from(u32::MAX)).unwrap_or_default(),
    );
    let metrics = Arc::new(Metrics::default());
    let settings = Settings::default();
    let routes = Routes {
        upstreams: Vec::new(),
        stubs: Vec::new(),
        keep: settings.keep,
        stale: settings.stale,
    };
    let forwarder = Forwarder::new(routes, Bounds::default(), Arc::clone(&metrics)).by(way);
    Ok(Resolver::new(table, forwarder, config.clients.clone(), metrics))
}

/// Goes on with what was known last.
fn recall(config: &DnsConfig, memory: &Memory, resolver: &Resolver, control: &Control) -> Records {
    let Some(found) = memory.recall(&config.cluster_domain) else {
        return Records::default();
    };
    let records = found.records.clone();
    resolver.change(|table| table.restore(found.records));
    control.set(found.settings);
    resolver.set_known();
    records
}

/// Remembers what changed, until the shutdown.
async fn keep(
    config: &DnsConfig,
    memory: &Memory,
    resolver: &Resolver,
    control: &Control,
    changed: &Notify,
    shutdown: &CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed.notified() => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(GATHER) => {}
        }
        // Half a list isn't worth remembering.
        if !resolver.is_known() {
            continue;
        }
        let what = Remembered {
            domain: config.cluster_domain.clone(),
            records: resolver.look(Table::records),
            settings: control.data(),
        };
        let memory = memory.clone();
        if tokio::task::spawn_blocking(move || memory.remember(&what))
            .await
            .is_err()
        {
            warn!("remembering the names broke off");
        }
    }
}

/// Tells health and numbers. An address that isn't there yet is tried until it is.
async fn tell(config: &DnsConfig, resolver: &Arc<Resolver>, shutdown: &CancellationToken) {
    let one = |address: std::net::SocketAddr| async move {
        let mut said = false;
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    return server::serve_http(Arc::clone(resolver), listener, shutdown.clone()).await;
                }
                Err(error) => {
                    if !said {
                        info!(%address, %error, "can't listen for health and numbers yet; trying until it works");
                    }
                    said = true;
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    };
    futures::future::join_all(config.metrics.iter().copied().map(one)).await;
}

async fn connect(config: &DnsConfig) -> anyhow::Result<Client> {
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
    let name = HeaderValue::from_static("ripstop-dns");
    api.headers.push((USER_AGENT, name));
    Client::try_from(api).context("cannot make a client of the API")
}
