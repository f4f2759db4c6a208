//! The Services of one run: one of each kind, made before the pods that they lead to.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::pods::{KIND, NAME, POD_PORTS};
use crate::shell::plain;

/// Where the HTTP server is reached by a Service.
pub(crate) const PORT: u16 = 80;
/// How soon a load balancer's address is given, where anybody gives some.
const PATIENCE: Duration = Duration::from_secs(3);

/// The Services of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Services {
    pub(crate) namespace: String,
    /// Leads to every pod, in every way.
    pub(crate) all: Made,
    /// Leads to the first pod alone.
    pub(crate) first: Made,
    /// Leads to every pod, on the node that was asked alone.
    pub(crate) local: Made,
    /// Leads nowhere.
    pub(crate) nowhere: Made,
}

/// How a Service is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) node_port: Option<u16>,
    /// Load balancers' addresses.
    pub(crate) balancers: Vec<IpAddr>,
}

/// A Service without addresses of its own, and one that is another's name.
pub(crate) const HEADLESS: &str = "headless";
pub(crate) const EXTERNAL: &str = "external";
pub(crate) const ALL: &str = "all";

impl Services {
    /// Makes them, and waits a little for load balancers' addresses.
    pub(crate) async fn make(client: &Client, namespace: &str) -> Result<Self, String> {
        let api: Api<Service> = Api::namespaced(client.clone(), namespace);
        let refused =
            |name: &str, error: &kube::Error| format!("the API refuses the Service {name}: {}", plain(error));
        let objects = objects(namespace);
        let create = async |object: &Service| {
            let name = object.metadata.name.clone().unwrap_or_default();
            let made = api.create(&PostParams::default(), object).await;
            made.map_err(|error| refused(&name, &error))
        };
        try_join_all(objects.iter().map(create)).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let read = async |name: &'static str| {
                let service = api.get(name).await.map_err(|error| refused(name, &error))?;
                Ok::<_, String>(Made::read(&service))
            };
            let (all, first, local, nowhere) =
                tokio::try_join!(read(ALL), read("first"), read("local"), read("nowhere"))?;
            let given = [&all, &first].iter().all(|made| !made.balancers.is_empty());
            if given || Instant::now() > deadline {
                let namespace = namespace.to_owned();
                return Ok(Self {
                    namespace,
                    all,
                    first,
                    local,
                    nowhere,
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Made {
    fn read(service: &Service) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let texts = spec.cluster_ips.unwrap_or_default();
        let status = service.status.clone().unwrap_or_default();
        let ingress = status
            .load_balancer
            .and_then(|status| status.ingress)
            .unwrap_or_default();
        let port = spec
            .ports
            .iter()
            .flatten()
            .find(|port| port.port == i32::from(PORT));
        Self {
            addresses: texts.iter().filter_map(|text| text.parse().ok()).collect(),
            node_port: port.and_then(|port| u16::try_from(port.node_port?).ok()),
            balancers: ingress
                .iter()
                .filter_map(|one| one.ip.as_ref()?.parse().ok())
                .collect(),
        }
    }
}

fn objects(namespace: &str) -> Vec<Service> {
    let ports = json!([
        // By its name, which pods may give to any port.
        {"name": "http", "port": PORT, "targetPort": "http"},
        {"name": "echo", "port": POD_PORTS.echo},
        {"name": "echo-udp", "port": POD_PORTS.echo, "protocol": "UDP"},
    ]);
    let pods = json!({KIND: "pod"});
    let service = |name: &str, spec: Value| {
        let mut spec = spec;
        if spec["type"] != "ExternalName" {
            spec["ipFamilyPolicy"] = "PreferDualStack".into();
            spec["ports"] = ports.clone();
        }
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
        serde_json::from_value(object).expect("the literal is a Service")
    };
    vec![
        service(ALL, json!({"type": "LoadBalancer", "selector": pods})),
        service(
            "first",
            json!({"type": "LoadBalancer", "selector": {NAME: "pod-0"}}),
        ),
        service(
            "local",
            json!({"type": "NodePort", "externalTrafficPolicy": "Local", "selector": pods}),
        ),
        service("nowhere", json!({"selector": {NAME: "nobody"}})),
        service(HEADLESS, json!({"clusterIP": "None", "selector": pods})),
        service(
            EXTERNAL,
            json!({"type": "ExternalName", "externalName": format!("{ALL}.{namespace}.svc.cluster.local")}),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_service_is_made() {
        let objects = objects("n");
        let types: Vec<String> = objects
            .iter()
            .map(|object| {
                let spec = object.spec.clone().unwrap();
                spec.type_.or(spec.cluster_ip).unwrap_or_default()
            })
            .collect();
        assert_eq!(
            types,
            [
                "LoadBalancer",
                "LoadBalancer",
                "NodePort",
                "",
                "None",
                "ExternalName"
            ]
        );
    }

    #[test]
    fn what_a_service_was_given_is_read() {
        let service = json!({
            "spec": {"clusterIPs": ["10.96.0.7", "fd00::7"],
                     "ports": [{"port": 9000, "nodePort": 30001}, {"port": 80, "nodePort": 30002}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "172.30.0.200"}, {"hostname": "a"}]}},
        });
        let made = Made::read(&serde_json::from_value(service).unwrap());
        assert_eq!(made.addresses.len(), 2);
        assert_eq!((made.node_port, made.balancers.len()), (Some(30002), 1));
        assert_eq!(Made::read(&Service::default()), Made::default());
    }
}
