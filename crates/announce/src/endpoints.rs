//! On which nodes a Service has ready endpoints. Only Services whose traffic stays local are asked about: they are
//! few, and the slices of all others are many.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::state::Name;

/// Ready endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Their nodes.
    pub(crate) nodes: BTreeSet<String>,
    /// How many are on this one.
    pub(crate) local: usize,
}

/// Tells of a Service's ready endpoints whenever they change.
pub(crate) async fn follow(
    client: Client,
    node: String,
    service: Name,
    news: mpsc::UnboundedSender<(Name, Ready)>,
    shutdown: CancellationToken,
) {
    let api: Api<EndpointSlice> = Api::namespaced(client, &service.0);
    let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={}", service.1));
    let mut events = pin!(watcher::watcher(api, config).default_backoff());
    let (mut slices, mut listing) = (BTreeMap::new(), BTreeMap::new());
    let mut last = None;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(Event::Init)) => {
                listing.clear();
                continue;
            }
            Some(Ok(Event::InitApply(slice))) => {
                listing.insert(name(&slice), slice);
                continue;
            }
            Some(Ok(Event::InitDone)) => slices = std::mem::take(&mut listing),
            Some(Ok(Event::Apply(slice))) => {
                slices.insert(name(&slice), slice);
            }
            Some(Ok(Event::Delete(slice))) => {
                slices.remove(&name(&slice));
            }
            Some(Err(error)) => {
                debug!(%error, "watching EndpointSlices");
                continue;
            }
            None => return,
        }
        let now = ready(slices.values(), &node);
        if last.as_ref() != Some(&now) {
            last = Some(now.clone());
            // Nobody listens any more when everything ends.
            let _ = news.send((service.clone(), now));
        }
    }
}

fn name(slice: &EndpointSlice) -> String {
    slice.metadata.name.clone().unwrap_or_default()
}

/// One endpoint may be told in several slices: of two families, or with two sets of ports.
fn ready<'a>(slices: impl Iterator<Item = &'a EndpointSlice>, node: &str) -> Ready {
    let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = endpoints.filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready).unwrap_or(true)
    });
    let mut nodes = BTreeSet::new();
    let mut local = BTreeSet::new();
    for endpoint in ready {
        let Some(name) = &endpoint.node_name else { continue };
        nodes.insert(name.clone());
        if name == node {
            let target = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
            local.insert(target.or_else(|| endpoint.addresses.first().cloned()));
        }
    }
    Ready {
        nodes,
        local: local.len(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_counts_once_and_only_ready() {
        let endpoint = |uid: &str, node: &str, ready: bool| {
            json!({ "addresses": [format!("10.0.0.{uid}")], "nodeName": node, "conditions": { "ready": ready },
                "targetRef": { "kind": "Pod", "uid": uid } })
        };
        let slice = |family: &str, endpoints: serde_json::Value| -> EndpointSlice {
            serde_json::from_value(json!({ "addressType": family, "metadata": {}, "endpoints": endpoints }))
                .unwrap()
        };
        let slices = [
            slice(
                "IPv4",
                json!([
                    endpoint("1", "a", true),
                    endpoint("2", "a", false),
                    endpoint("3", "b", true)
                ]),
            ),
            slice("IPv6", json!([endpoint("1", "a", true)])),
        ];
        let found = ready(slices.iter(), "a");
        assert_eq!(found.local, 1);
        assert_eq!(found.nodes, ["a".to_owned(), "b".to_owned()].into());
    }
}
