//! A Service's address in place of a pod's: what a Service costs beside the pod that it leads to.
//!
//! The Service and its endpoint are objects like anybody's.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::pair::{ECHO, SINK};

/// What the toolbox listens on, by name.
const PORTS: [(&str, &str, u16); 4] = [
    ("http", "TCP", 8080),
    ("echo", "TCP", ECHO),
    ("sink", "TCP", SINK),
    ("sink-udp", "UDP", SINK),
];

/// How soon an address that was made is known on its node.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Service that leads to one pod.
#[derive(Debug)]
pub(crate) struct ByService {
    pub(crate) address: IpAddr,
}

impl ByService {
    /// Makes the Service.
    pub(crate) async fn make(cluster: &Cluster, name: &str, pod: IpAddr) -> Result<Self> {
        let client = cluster.client().await?;
        let services: Api<Service> = Api::default_namespaced(client.clone());
        let object = serde_json::from_value(service(name, pod))?;
        let made = services.create(&PostParams::default(), &object).await?;
        let address = made.spec.and_then(|spec| spec.cluster_ip);
        let address = address.context("the Service has no address")?.parse()?;
        let slices: Api<EndpointSlice> = Api::default_namespaced(client);
        let object = serde_json::from_value(slice(name, pod))?;
        slices.create(&PostParams::default(), &object).await?;
        Ok(Self { address })
    }

    /// Tries until it works.
    pub(crate) fn wait(&self, mut works: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !works()? {
            if Instant::now() > deadline {
                bail!("the Service's address {} leads nowhere", self.address);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Takes the Service of that name out again, and what belongs to it.
    pub(crate) async fn remove(client: &Client, name: &str) -> Result<()> {
        let services: Api<Service> = Api::default_namespaced(client.clone());
        services.delete(name, &Default::default()).await?;
        let slices: Api<EndpointSlice> = Api::default_namespaced(client.clone());
        slices.delete(name, &Default::default()).await?;
        Ok(())
    }
}

/// As both kinds of object write them.
fn ports() -> [Value; 4] {
    PORTS.map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}))
}

fn service(name: &str, pod: IpAddr) -> Value {
    let family = if pod.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": [family], "ports": ports()},
    })
}

fn slice(name: &str, pod: IpAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": if pod.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [pod], "conditions": {"ready": true}}],
        "ports": ports(),
    })
}
