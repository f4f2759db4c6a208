//! Objects of manifests on disk, as if they were applied to an empty cluster.
//!
//! What a cluster would add is taken for granted, and said: nodes, addresses, one pod for each workload,
//! endpoints of Services, namespaces, the cluster's DNS.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, Service};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Objects;
use crate::failure::Failure;
use crate::manifests::{documents, find};

/// The one node that there is if the manifests have none.
const NODE: &str = "node-1";

pub(super) fn read(folder: &Path, namespace: &str) -> Result<Objects, Failure> {
    let mut files = Vec::new();
    find(folder, &mut files)?;
    if files.is_empty() {
        return Err(Failure::usage(
            format!("{} has no manifests", folder.display()),
            "files that end in .yaml, .yml or .json are read",
        ));
    }
    let mut reader = Reader {
        namespace: namespace.to_owned(),
        ..Reader::default()
    };
    for file in files {
        reader.file(&file)?;
    }
    Ok(reader.finish())
}

/// The objects of one file's text.
pub(crate) fn of_text(text: &str, namespace: &str) -> Result<Objects, String> {
    let mut reader = Reader {
        namespace: namespace.to_owned(),
        ..Reader::default()
    };
    reader.text(text)?;
    Ok(reader.finish())
}

#[derive(Default)]
struct Reader {
    namespace: String,
    objects: Objects,
    templates: Vec<String>,
    ignored: BTreeSet<String>,
}

impl Reader {
    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::usage(
                format!("{}: {error}", path.display()),
                "`kubectl apply --dry-run=client -f` says more",
            )
        };
        let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
        self.text(&text).map_err(|error| failed(&error))
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        for document in documents(text) {
            let value = serde_saphyr::from_str(&document).map_err(|error| error.to_string())?;
            self.object(value)?;
        }
        Ok(())
    }

    fn object(&mut self, mut value: Value) -> Result<(), String> {
        if value.is_null() {
            return Ok(());
        }
        let kind = value["kind"]
            .as_str()
            .ok_or("an object without a kind")?
            .to_owned();
        if let Some(items) = value.get_mut("items").map(Value::take) {
            let items: Vec<Value> = serde_json::from_value(items).map_err(|error| error.to_string())?;
            return items.into_iter().try_for_each(|item| self.object(item));
        }
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if !matches!(kind.as_str(), "Namespace" | "Node") && value["metadata"]["namespace"].is_null() {
            let metadata = metadata(&mut value).map_err(|error| format!("{kind} {name}: {error}"))?;
            metadata.insert("namespace".to_owned(), self.namespace.as_str().into());
        }
        let objects = &mut self.objects;
        match kind.as_str() {
            "Node" => objects.nodes.push(parse(&kind, &name, value)?),
            "Namespace" => objects.namespaces.push(parse(&kind, &name, value)?),
            "Pod" => objects.pods.push(parse(&kind, &name, value)?),
            "Service" => objects.services.push(parse(&kind, &name, value)?),
            "EndpointSlice" => objects.slices.push(parse(&kind, &name, value)?),
            "NetworkPolicy" => objects.policies.push(parse(&kind, &name, value)?),
            "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "ReplicationController" | "Job" => {
                self.template(
                    &kind,
                    &name,
                    &value["spec"]["template"],
                    &value["metadata"]["namespace"],
                )?;
            }
            "CronJob" => {
                let template = &value["spec"]["jobTemplate"]["spec"]["template"];
                self.template(&kind, &name, template, &value["metadata"]["namespace"])?;
            }
            _ => drop(self.ignored.insert(kind)),
        }
        Ok(())
    }

    /// A pod of a workload, under its name.
    fn template(
        &mut self,
        kind: &str,
        name: &str,
        template: &Value,
        namespace: &Value,
    ) -> Result<(), String> {
        let mut pod = template.clone();
        let metadata = metadata(&mut pod).map_err(|error| format!("{kind} {name}: its template: {error}"))?;
        metadata.insert("name".to_owned(), name.into());
        metadata.insert("namespace".to_owned(), namespace.clone());
        self.objects.pods.push(parse(kind, name, pod)?);
        self.templates.push(format!("pod/{name}"));
        Ok(())
    }

    fn finish(mut self) -> Objects {
        if !self.templates.is_empty() {
            let names = self.templates.join(", ");
            self.assume(format!("each workload has one pod, of its own name: {names}"));
        }
        self.nodes();
        self.namespaces();
        self.dns();
        self.pods();
        self.services();
        if !self.ignored.is_empty() {
            let kinds: Vec<String> = std::mem::take(&mut self.ignored).into_iter().collect();
            self.assume(format!("of no matter to packets: {}", kinds.join(", ")));
        }
        self.objects
    }

    fn assume(&mut self, what: impl Into<String>) {
        self.objects.assumed.push(what.into());
    }

    fn nodes(&mut self) {
        if !self.objects.nodes.is_empty() {
            return;
        }
        let node = json!({
            "metadata": {"name": NODE}, "spec": {"podCIDRs": ["10.244.0.0/16"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.11"}]},
        });
        self.objects.nodes.extend(serde_json::from_value(node));
        self.assume(format!("all pods are on one node, {NODE}, 172.30.0.11"));
    }

    fn namespaces(&mut self) {
        let metas = self.objects.pods.iter().map(|pod| &pod.metadata);
        let metas = metas.chain(self.objects.services.iter().map(|service| &service.metadata));
        let metas = metas.chain(self.objects.policies.iter().map(|policy| &policy.metadata));
        let used = metas.filter_map(|meta| meta.namespace.clone());
        let used: BTreeSet<String> = used.chain(["kube-system".to_owned()]).collect();
        let known = self
            .objects
            .namespaces
            .iter()
            .filter_map(|one| one.metadata.name.clone());
        let known: BTreeSet<String> = known.collect();
        let missing: Vec<&String> = used.difference(&known).collect();
        for name in &missing {
            let namespace = json!({"metadata": {"name": name}});
            self.objects.namespaces.extend(serde_json::from_value(namespace));
        }
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|name| name.as_str()).collect();
            let text = format!("namespaces without labels but their names: {}", names.join(", "));
            self.assume(text);
        }
    }

    fn dns(&mut self) {
        let is_there = self.objects.services.iter().any(super::world::is_dns);
        if !is_there {
            let service = json!({
                "metadata": {"name": "kube-dns", "namespace": "kube-system"},
                "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"]},
            });
            self.objects.services.extend(serde_json::from_value(service));
            self.assume("the cluster's DNS is at 10.96.0.10");
        }
    }

    fn pods(&mut self) {
        let node = self
            .objects
            .nodes
            .first()
            .and_then(|node| node.metadata.name.clone());
        let mut given = false;
        for (i, pod) in self.objects.pods.iter_mut().enumerate() {
            if let Some(spec) = &mut pod.spec {
                spec.node_name = spec.node_name.clone().or_else(|| node.clone());
            }
            let is_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
            let status = pod.status.get_or_insert_default();
            if status.pod_ip.is_none() && !is_host {
                let number = i + 10;
                status.pod_ip = Some(format!("10.244.{}.{}", number / 250, number % 250 + 1));
                given = true;
            }
        }
        if given {
            self.assume("pods have addresses of 10.244.0.0/16");
        }
    }

    fn services(&mut self) {
        let mut given = false;
        let mut slices = Vec::new();
        for (i, service) in self.objects.services.iter_mut().enumerate() {
            let meta = service.metadata.clone();
            let Some(spec) = &mut service.spec else {
                continue;
            };
            if spec.cluster_ip.as_deref().unwrap_or_default().is_empty()
                && spec.type_.as_deref() != Some("ExternalName")
            {
                let address = format!("10.96.{}.{}", 1 + i / 250, i % 250 + 1);
                spec.cluster_ip = Some(address.clone());
                spec.cluster_ips = Some(vec![address]);
                given = true;
            }
            let has_selector = spec.selector.as_ref().is_some_and(|labels| !labels.is_empty());
            if has_selector {
                slices.extend(slices_of(service, &meta.namespace, &self.objects.pods));
            }
        }
        self.objects.slices.extend(
            slices
                .into_iter()
                .filter_map(|slice| serde_json::from_value(slice).ok()),
        );
        if given {
            self.assume("Services have addresses of 10.96.0.0/16");
        }
    }
}

/// The endpoints that a Service's selector finds: a slice for each pod, whose ports may be its own.
fn slices_of(service: &Service, namespace: &Option<String>, pods: &[Pod]) -> Vec<Value> {
    let spec = service.spec.clone().unwrap_or_default();
    let selector = spec.selector.unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    let selected = pods.iter().filter(|pod| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        pod.metadata.namespace == *namespace
            && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    });
    let slice = |(i, pod): (usize, &Pod)| {
        let address = pod.status.as_ref()?.pod_ip.clone()?;
        let (own, _) = kube_objects::pod(pod);
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let number = match &port.target_port {
                None => port.port,
                Some(IntOrString::Int(number)) => *number,
                Some(IntOrString::String(name)) => own
                    .ports
                    .iter()
                    .find(|one| one.name == *name && one.protocol.name().eq_ignore_ascii_case(&protocol))
                    .map(|one| i32::from(one.port))?,
            };
            Some(json!({"name": port.name.clone().unwrap_or_default(), "protocol": protocol, "port": number}))
        });
        Some(json!({
            "metadata": {"name": format!("{name}-{i}"), "namespace": namespace,
                         "labels": {"kubernetes.io/service-name": name}},
            "addressType": if address.contains(':') { "IPv6" } else { "IPv4" },
            "ports": ports.collect::<Vec<Value>>(),
            "endpoints": [{"addresses": [address], "conditions": {"ready": true},
                           "nodeName": pod.spec.as_ref().and_then(|spec| spec.node_name.clone())}],
        }))
    };
    selected.enumerate().filter_map(slice).collect()
}

/// An object's metadata, to be completed.
fn metadata(object: &mut Value) -> Result<&mut Map<String, Value>, &'static str> {
    let fields = |value: &mut Value| {
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
    };
    fields(object);
    let object = object
        .as_object_mut()
        .ok_or("it has no fields, as in `metadata:`")?;
    let metadata = object.entry("metadata").or_insert(Value::Null);
    fields(metadata);
    metadata
        .as_object_mut()
        .ok_or("metadata has no fields, as in `name:`")
}

fn parse<T: DeserializeOwned>(kind: &str, name: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| format!("{kind} {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_told_with_its_place() {
        for (text, says) in [
            ("kind: Pod\nmetadata: web\n", "Pod : metadata has no fields"),
            (
                "kind: Job\nmetadata: {name: a}\nspec: {template: [a]}\n",
                "Job a: its template: it has no fields",
            ),
            (
                "kind: Job\nmetadata: {name: a}\nspec: {template: {metadata: b}}\n",
                "Job a: its template: metadata has",
            ),
            ("- a\n", "an object without a kind"),
            ("kind: List\nitems: 1\n", "invalid type"),
        ] {
            let error = of_text(text, "default").expect_err("refused");
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
