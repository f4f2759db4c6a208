//! Whom people mean: `pod/web`, `svc/db`, `other/pod/web`, `node/node-1`, an address, a name of the
//! cluster's DNS.

use std::net::IpAddr;
use std::str::FromStr;

use model::{NamespacedName, Protocol, Transport};

use super::{World, nearest};
use crate::failure::Failure;

/// A place that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// What it's called.
    pub(crate) name: String,
    pub(crate) what: What,
    /// Its addresses, the preferred family's first.
    pub(crate) addresses: Vec<IpAddr>,
}

/// What a place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Pod(NamespacedName),
    Service(NamespacedName),
    Other,
}

/// What a packet is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Port {
    /// An echo request.
    Icmp,
    Number(u16, Protocol),
    /// The receiver's port of that name.
    Named(String, Protocol),
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Port, String> {
        let odd = || format!("{text:?} is no port: as in 80, 80/tcp, 53/udp, http, 9/sctp or icmp");
        if text.eq_ignore_ascii_case("icmp") {
            return Ok(Port::Icmp);
        }
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let mut protocols = Protocol::ALL.into_iter();
        let protocol = protocols
            .find(|one| one.name().eq_ignore_ascii_case(protocol))
            .ok_or_else(odd)?;
        match port.parse::<u16>() {
            Ok(0) => Err(odd()),
            Ok(number) => Ok(Port::Number(number, protocol)),
            Err(_) if port.starts_with(|letter: char| letter.is_ascii_alphabetic()) => {
                Ok(Port::Named(port.to_owned(), protocol))
            }
            Err(_) => Err(odd()),
        }
    }
}

/// How names are found.
pub(crate) struct Names<'a> {
    pub(crate) world: &'a World,
    /// Where names without a namespace are.
    pub(crate) namespace: &'a str,
}

impl Names<'_> {
    /// The place of that name.
    pub(crate) fn find(&self, text: &str) -> Result<Place, Failure> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(self.address(address));
        }
        let words: Vec<&str> = text.split('/').collect();
        match words.as_slice() {
            ["pod" | "pods" | "po", name] => self.pod(self.namespace, name),
            [namespace, "pod" | "pods" | "po", name] => self.pod(namespace, name),
            ["svc" | "service" | "services", name] => self.service(self.namespace, name),
            [namespace, "svc" | "service" | "services", name] => self.service(namespace, name),
            ["node" | "nodes" | "no", name] => self.node(name),
            [name] => self.dns(name),
            _ => Err(Failure::usage(
                format!("{text:?} names nothing"),
                "as in pod/web, svc/db, other/pod/web, node/node-1, 10.244.1.5 or db.default.svc",
            )),
        }
    }

    fn address(&self, address: IpAddr) -> Place {
        let what = self
            .world
            .pod_of(address)
            .map_or(What::Other, |name| What::Pod(name.clone()));
        Place {
            name: address.to_string(),
            what,
            addresses: vec![address],
        }
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Place, Failure> {
        let id = NamespacedName::new(namespace, name);
        let Some(view) = self.world.pods.get(&id) else {
            return Err(self.missing("pod", &id, self.world.pods.keys()));
        };
        let pod = &view.pod;
        if pod.addresses.is_empty() {
            let what = format!("pod {id} has no address: it is {}", view.phase);
            return Err(Failure::usage(
                what,
                format!("`kubectl describe pod -n {namespace} {name}` says why"),
            ));
        }
        Ok(Place {
            name: format!("pod {id}"),
            what: What::Pod(id),
            addresses: pod.addresses.clone(),
        })
    }

    fn service(&self, namespace: &str, name: &str) -> Result<Place, Failure> {
        let id = NamespacedName::new(namespace, name);
        if !self.world.services.contains_key(&id) {
            return Err(self.missing("Service", &id, self.world.services.keys()));
        }
        let planned = self.world.snapshot.services.iter();
        let mut planned = planned.filter(|(one, _)| one.namespace == namespace && one.name == name);
        match planned.next() {
            Some((_, service)) => Ok(Place {
                name: format!("Service {id}"),
                what: What::Service(id),
                addresses: service.cluster_ips.clone(),
            }),
            None => Err(Failure::usage(
                format!("Service {id} has no address of its own"),
                "name one of its pods instead: clients get their addresses",
            )),
        }
    }

    fn node(&self, name: &str) -> Result<Place, Failure> {
        match self.world.snapshot.nodes.get(name) {
            Some(node) => Ok(Place {
                name: format!("node {name}"),
                what: What::Other,
                addresses: node.addresses.clone(),
            }),
            None => {
                let near = nearest(name, self.world.snapshot.nodes.keys().map(String::as_str));
                Err(Failure::usage(format!("there is no node {name}"), perhaps(&near)))
            }
        }
    }

    /// A name as a pod would ask for it, or a pod's own.
    fn dns(&self, text: &str) -> Result<Place, Failure> {
        let labels: Vec<&str> = text.trim_end_matches('.').split('.').collect();
        let (name, namespace) = match labels.as_slice() {
            [name] => (*name, self.namespace),
            [name, namespace] | [name, namespace, "svc"] => (*name, *namespace),
            [name, namespace, "svc", "cluster", "local"] => (*name, *namespace),
            [address, _, "pod", "cluster", "local"] => {
                let address = [address.replace('-', "."), address.replace('-', ":")];
                let parsed = address.iter().find_map(|text| text.parse().ok());
                return parsed
                    .map(|address| self.address(address))
                    .ok_or_else(|| Failure::usage(format!("{text:?} has no address in it"), ""));
            }
            _ => return Err(outside(text)),
        };
        let id = NamespacedName::new(namespace, name);
        if self.world.services.contains_key(&id) {
            return self.service(namespace, name);
        }
        if labels.len() == 1 && self.world.pods.contains_key(&id) {
            return self.pod(namespace, name);
        }
        if labels.len() > 1 && !self.world.namespaces.contains_key(namespace) {
            return Err(outside(text));
        }
        let all = self.world.services.keys().chain(self.world.pods.keys());
        Err(self.missing("Service or pod", &id, all))
    }

    fn missing<'a>(
        &self,
        what: &str,
        id: &NamespacedName,
        all: impl Iterator<Item = &'a NamespacedName>,
    ) -> Failure {
        let all: Vec<&NamespacedName> = all.collect();
        let elsewhere = all.iter().filter(|one| one.name == id.name);
        let elsewhere: Vec<String> = elsewhere.map(|one| one.namespace.clone()).collect();
        let cure = if elsewhere.is_empty() {
            let here = all.iter().filter(|one| one.namespace == id.namespace);
            perhaps(&nearest(&id.name, here.map(|one| one.name.as_str())))
        } else {
            format!(
                "there is one of that name in the namespace {}: -n says which",
                elsewhere.join(" and ")
            )
        };
        Failure::usage(format!("there is no {what} {id}"), cure)
    }

    /// What a packet to a place carries.
    pub(crate) fn transport(&self, to: &Place, port: Option<&Port>) -> Result<Transport, Failure> {
        match port {
            Some(Port::Icmp) => Ok(Transport::Icmp),
            Some(Port::Number(number, protocol)) => Ok(transport(*protocol, *number)),
            Some(Port::Named(name, protocol)) => self.named(to, name, *protocol),
            None => self.only_port(to),
        }
    }

    fn named(&self, to: &Place, name: &str, protocol: Protocol) -> Result<Transport, Failure> {
        let ports: Vec<(String, Protocol, u16)> = self.ports(to);
        let mut found = ports.iter().filter(|(one, of, _)| one == name && *of == protocol);
        match found.next() {
            Some((_, protocol, number)) => Ok(transport(*protocol, *number)),
            None => {
                let known = ports.iter().map(|(name, protocol, number)| match name.as_str() {
                    "" => format!("{number}/{protocol}"),
                    name => format!("{name} ({number}/{protocol})"),
                });
                let known: Vec<String> = known.collect();
                Err(Failure::usage(
                    format!("{} has no port {name}/{protocol}", to.name),
                    if known.is_empty() {
                        "give a number".to_owned()
                    } else {
                        format!("it has {}", known.join(", "))
                    },
                ))
            }
        }
    }

    /// A Service's only port; else it's asked whether it's there at all.
    fn only_port(&self, to: &Place) -> Result<Transport, Failure> {
        match (&to.what, self.ports(to).as_slice()) {
            (What::Service(_), [(_, protocol, number)]) => Ok(transport(*protocol, *number)),
            (What::Service(_), ports) if ports.len() > 1 => {
                let known = ports
                    .iter()
                    .map(|(_, protocol, number)| format!("{number}/{protocol}"));
                let known: Vec<String> = known.collect();
                Err(Failure::usage(
                    format!("{} has several ports", to.name),
                    format!("--port says which: {}", known.join(", ")),
                ))
            }
            _ => Err(Failure::usage(
                "which port is it about?",
                "--port 80, --port 53/udp, --port http, or --port icmp for a ping",
            )),
        }
    }

    fn ports(&self, to: &Place) -> Vec<(String, Protocol, u16)> {
        match &to.what {
            What::Pod(name) => {
                let ports = self
                    .world
                    .pods
                    .get(name)
                    .into_iter()
                    .flat_map(|view| &view.pod.ports);
                ports
                    .map(|port| (port.name.clone(), port.protocol, port.port))
                    .collect()
            }
            What::Service(name) => {
                let services = self.world.snapshot.services.iter();
                let own = services.filter(|(id, _)| id.namespace == name.namespace && id.name == name.name);
                let ports = own.flat_map(|(_, service)| &service.ports);
                ports
                    .map(|port| (port.name.clone(), port.protocol, port.port))
                    .collect()
            }
            What::Other => Vec::new(),
        }
    }
}

fn outside(text: &str) -> Failure {
    Failure::usage(
        format!("{text:?} is no name of the cluster"),
        "of what is outside it give the address",
    )
}

fn perhaps(near: &[String]) -> String {
    if near.is_empty() {
        "`kubectl get pods,services -A` lists what there is".to_owned()
    } else {
        format!("perhaps {}", near.join(", "))
    }
}

pub(crate) const fn transport(protocol: Protocol, number: u16) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp(number),
        Protocol::Udp => Transport::Udp(number),
        Protocol::Sctp => Transport::Sctp(number),
    }
}
