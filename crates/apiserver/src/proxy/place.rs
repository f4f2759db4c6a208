//! Where a proxied request goes: the names of pods, Services and nodes with a scheme and a port, as Kubernetes
//! reads them.

use std::net::{IpAddr, SocketAddr};

use rand::seq::IndexedRandom;
use serde_json::Value;

use crate::kubelet;
use crate::object::{self, list, text};
use crate::path::ResourcePath;
use crate::server::ApiServer;
use crate::status::{Failure, Subject};

/// What listens, and how it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    pub(super) speaks: Speaks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Http,
    /// With a certificate that nobody vouches for.
    Https,
    /// As a kubelet, which knows us by our certificate.
    Kubelet,
}

impl Place {
    /// As a URL has it.
    pub(super) fn authority(&self) -> String {
        self.address.to_string()
    }
}

/// `NAME`, `NAME:PORT`, `SCHEME:NAME:` or `SCHEME:NAME:PORT`.
#[derive(Debug, PartialEq, Eq)]
struct Id<'a> {
    https: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Id<'a> {
    fn parse(text: &'a str) -> Option<Id<'a>> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let https = match scheme {
            "" | "http" => false,
            "https" => true,
            _ => return None,
        };
        (!name.is_empty()).then_some(Id { https, name, port })
    }

    fn speaks(&self) -> Speaks {
        if self.https { Speaks::Https } else { Speaks::Http }
    }
}

pub(super) fn find(server: &ApiServer, path: &ResourcePath) -> Result<Place, Failure> {
    let text = path.name.as_deref().unwrap_or_default();
    let namespace = path.namespace.as_deref();
    match (path.resource.as_str(), namespace) {
        ("pods", Some(_)) => pod(server, namespace, parse("pod", text)?),
        ("services", Some(namespace)) => service(server, namespace, text, &parse("service", text)?),
        ("nodes", None) => node(server, parse("node", text)?),
        _ => Err(Failure::no_such_path()),
    }
}

fn parse<'a>(what: &str, text: &'a str) -> Result<Id<'a>, Failure> {
    Id::parse(text).ok_or_else(|| Failure::bad_request(format!("invalid {what} request {text:?}")))
}

fn get(server: &ApiServer, plural: &str, namespace: Option<&str>, name: &str) -> Result<Value, Failure> {
    let kind = kinds::find("", "v1", plural).expect("the table has pods, services and nodes");
    let entry = server.store.get(&object::key(kind, namespace, name))?;
    let entry = entry.ok_or_else(|| Failure::not_found(Subject::of(kind, name)))?;
    object::parse(&entry.value)
}

/// The port is the one that is asked for, the first that a container names, or the scheme's.
fn pod(server: &ApiServer, namespace: Option<&str>, id: Id<'_>) -> Result<Place, Failure> {
    let pod = get(server, "pods", namespace, id.name)?;
    let mut named = list(&pod, "/spec/containers")
        .iter()
        .filter_map(|it| it.pointer("/ports/0/containerPort"));
    let port = match (id.port, named.next().and_then(Value::as_u64)) {
        ("", None) if id.https => 443,
        ("", None) => 80,
        ("", Some(port)) => checked(port)?,
        (port, _) => number(port)?,
    };
    let address = text(&pod, "/status/podIP").parse().ok();
    let address = address.ok_or_else(|| Failure::bad_request("address not allowed: the pod has none yet"))?;
    place(address, port, id.speaks())
}

/// One of the Service's endpoints that are ready.
fn service(server: &ApiServer, namespace: &str, text: &str, id: &Id<'_>) -> Result<Place, Failure> {
    let service = get(server, "services", Some(namespace), id.name)?;
    let name = id.name;
    let port = match id.port.parse::<u64>() {
        Ok(number) => {
            let found = list(&service, "/spec/ports")
                .iter()
                .find(|port| port["port"] == number);
            let found = found.ok_or_else(|| {
                Failure::unavailable(format!("no service port {number} found for service {name:?}"))
            })?;
            object::text(found, "/name")
        }
        Err(_) => id.port,
    };
    let slices =
        kinds::find("discovery.k8s.io", "v1", "endpointslices").expect("the table has EndpointSlice");
    let prefix = object::prefix(slices, Some(namespace));
    let range = store::Range {
        prefix: &prefix,
        ..store::Range::default()
    };
    let mut ready = Vec::new();
    for entry in server.store.list(&range, |_| true)?.entries {
        let slice = object::parse(&entry.value)?;
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] == name {
            ready.extend(endpoints(&slice, port));
        }
    }
    let chosen = ready.choose(&mut rand::rng());
    let (address, port) =
        chosen.ok_or_else(|| Failure::unavailable(format!("no endpoints available for service {text:?}")))?;
    place(*address, *port, id.speaks())
}

/// The addresses of a slice that are ready, with the port of that name.
fn endpoints(slice: &Value, name: &str) -> Vec<(IpAddr, u16)> {
    let port = list(slice, "/ports")
        .iter()
        .find(|port| text(port, "/name") == name);
    let port = port.and_then(|port| u16::try_from(port["port"].as_u64()?).ok());
    let Some(port) = port else { return Vec::new() };
    let ready = |endpoint: &&Value| endpoint["conditions"]["ready"] != false;
    list(slice, "/endpoints")
        .iter()
        .filter(ready)
        .filter_map(|endpoint| Some((text(endpoint, "/addresses/0").parse().ok()?, port)))
        .collect()
}

/// The node's kubelet, or another port of the node.
fn node(server: &ApiServer, id: Id<'_>) -> Result<Place, Failure> {
    let node = get(server, "nodes", None, id.name)?;
    let (address, kubelet) = kubelet::address(&node, id.name)?;
    let port = if id.port.is_empty() {
        kubelet
    } else {
        number(id.port)?
    };
    if port == kubelet {
        let address = SocketAddr::new(address, port);
        return Ok(Place {
            address,
            speaks: Speaks::Kubelet,
        });
    }
    place(address, port, id.speaks())
}

/// Nothing on the server's own machine or link is reached by way of an object that says it is there.
fn place(address: IpAddr, port: u16, speaks: Speaks) -> Result<Place, Failure> {
    let refused = address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || match address {
            IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
            IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
        };
    if refused {
        return Err(Failure::bad_request("address not allowed"));
    }
    let address = SocketAddr::new(address, port);
    Ok(Place { address, speaks })
}

fn number(text: &str) -> Result<u16, Failure> {
    let number = text.parse().ok().filter(|port| *port != 0);
    number.ok_or_else(|| Failure::bad_request(format!("{text:?} is not the number of a port")))
}

fn checked(port: u64) -> Result<u16, Failure> {
    u16::try_from(port).map_err(|_| Failure::bad_request(format!("{port} is not the number of a port")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_have_a_scheme_and_a_port_if_they_like() {
        let id = |https, name, port| Some(Id { https, name, port });
        assert_eq!(Id::parse("web"), id(false, "web", ""));
        assert_eq!(Id::parse("web:80"), id(false, "web", "80"));
        assert_eq!(Id::parse("https:web:"), id(true, "web", ""));
        assert_eq!(Id::parse("http:web:metrics"), id(false, "web", "metrics"));
        for wrong in ["", ":80", "ftp:web:", "https:web:1:2", "https::1"] {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_not_ready_or_has_no_such_port_is_no_endpoint() {
        let slice = json!({
            "endpoints": [
                { "addresses": ["10.0.0.1"], "conditions": { "ready": true } },
                { "addresses": ["10.0.0.2"], "conditions": { "ready": false } },
                { "addresses": ["10.0.0.3"] },
            ],
            "ports": [{ "name": "web", "port": 8080 }, { "name": "", "port": 9 }],
        });
        let address = |last| IpAddr::from([10, 0, 0, last]);
        assert_eq!(endpoints(&slice, "web"), [(address(1), 8080), (address(3), 8080)]);
        assert_eq!(endpoints(&slice, "")[0], (address(1), 9));
        assert!(endpoints(&slice, "none").is_empty());
    }

    #[test]
    fn the_servers_own_machine_is_not_reached() {
        for address in [
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "224.0.0.1",
            "::ffff:127.0.0.1",
        ] {
            assert!(
                place(address.parse().unwrap(), 80, Speaks::Http).is_err(),
                "{address}"
            );
        }
        for address in ["10.244.1.2", "fd00:10:244::2"] {
            assert!(
                place(address.parse().unwrap(), 80, Speaks::Http).is_ok(),
                "{address}"
            );
        }
    }
}
