//! Finding out what a change of a Service takes and gives back, as writes for the change's own transaction.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use kinds::Kind;
use patch::apply;
use serde_json::{Value, json};
use store::Write;

use super::families::{self, invalid};
use super::holds::{self, Held};
use super::is_service;
use super::range::{self, Band};
use crate::managed::{self, Writer};
use crate::object::{self, list, text};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::update::Part;

/// Writes that belong to a Service's change. One that fails means that somebody else was faster: try again.
pub(crate) type Claims = Vec<Write>;

/// Who manages the IPAddress objects, in the label that Kubernetes has for it.
pub(super) const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
/// Where node ports are claimed: they have no kind of their own.
pub(super) const PORTS: &str = "/claims/nodeports/";

/// Fills in what a new or changed Service doesn't choose itself, and says what else must be written with it.
pub(crate) fn claim(
    server: &ApiServer,
    kind: &Kind,
    old: Option<&Value>,
    new: &mut Value,
) -> Result<Claims, Failure> {
    if !is_service(kind) {
        return Ok(Claims::new());
    }
    let had = old.map(holds::of).unwrap_or_default();
    Change { server, had }.make(new)
}

/// What must be written when a Service goes.
pub(crate) fn release(server: &ApiServer, kind: &Kind, service: &Value) -> Result<Claims, Failure> {
    if !is_service(kind) {
        return Ok(Claims::new());
    }
    give_back(server, service, holds::of(service))
}

/// A change of what a Service holds.
struct Change<'a> {
    server: &'a ApiServer,
    had: BTreeSet<Held>,
}

impl Change<'_> {
    fn make(self, service: &mut Value) -> Result<Claims, Failure> {
        // What is chosen is checked first, so that nothing else takes it.
        let chosen = holds::of(service);
        self.check_addresses(service)?;
        self.check_ports(service)?;
        let mut held = chosen.clone();
        self.fill_addresses(service, &mut held)?;
        self.fill_ports(service, &mut held)?;
        let taken = held.difference(&self.had);
        let mut claims: Claims = taken.map(|held| claimed(service, *held)).collect();
        let free = self.had.difference(&held).copied();
        claims.extend(give_back(self.server, service, free.collect())?);
        Ok(claims)
    }

    fn check_addresses(&self, service: &Value) -> Result<(), Failure> {
        let spec = &service["spec"];
        if !holds::has_address(spec) {
            return Ok(());
        }
        let addresses = list(spec, "/clusterIPs");
        for text in addresses.iter().filter_map(Value::as_str) {
            let Ok(address) = text.parse() else { continue };
            if self.had.contains(&Held::Address(address)) {
                continue;
            }
            if let Err(why) = self.check_address(address)? {
                let detail = format!("failed to allocate IP {text}: {why}");
                let error = invalid("spec.clusterIPs".into(), &addresses.into(), &detail);
                return Err(refuse(service, error));
            }
        }
        Ok(())
    }

    fn check_address(&self, address: IpAddr) -> Result<Result<(), String>, Failure> {
        let ranges = ready_ranges(self.server)?;
        let mut fitting = ranges.iter().filter(|range| range.contains(&address));
        if !fitting.any(|range| Band::of_addresses(*range).contains(range::bits(address))) {
            let family = families::family_of(address);
            let same = ranges
                .iter()
                .filter(|range| families::family_of(range.addr()) == family);
            let valid: Vec<_> = same.map(ToString::to_string).collect();
            return Ok(Err(format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {}",
                valid.join(", ")
            )));
        }
        let taken = self.is_taken(Held::Address(address))?;
        Ok(if taken {
            Err("provided IP is already allocated".to_owned())
        } else {
            Ok(())
        })
    }

    fn check_ports(&self, service: &Value) -> Result<(), Failure> {
        let spec = &service["spec"];
        if holds::may_have_ports(spec) {
            for (index, port) in list(spec, "/ports").iter().enumerate() {
                let number = holds::number(port, "nodePort");
                if let Err(why) = self.check_port(number)? {
                    let field = format!("spec.ports[{index}].nodePort");
                    return Err(refuse(service, invalid(field, &number.into(), &why)));
                }
            }
        }
        let Some(number) = holds::health_port(spec) else {
            return Ok(());
        };
        let own = holds::node_ports(spec).contains(&number);
        let outcome = match self.check_port(number)? {
            Ok(()) if own => Err(ALLOCATED.to_owned()),
            outcome => outcome,
        };
        outcome.map_err(|why| {
            Failure::internal(format!(
                "failed to allocate requested HealthCheck NodePort {number}: {why}"
            ))
        })
    }

    fn check_port(&self, number: u16) -> Result<Result<(), String>, Failure> {
        let port = Held::Port(number);
        if number == 0 || self.had.contains(&port) {
            return Ok(Ok(()));
        }
        let range = &self.server.services.node_ports;
        if !range.contains(&number) {
            let (first, last) = (range.start(), range.end());
            return Ok(Err(format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            )));
        }
        Ok(if self.is_taken(port)? {
            Err(ALLOCATED.to_owned())
        } else {
            Ok(())
        })
    }

    fn fill_addresses(&self, service: &mut Value, held: &mut BTreeSet<Held>) -> Result<(), Failure> {
        let spec = &mut service["spec"];
        let families = list(spec, "/ipFamilies").len();
        if !holds::has_address(spec) || list(spec, "/clusterIPs").len() >= families {
            return Ok(());
        }
        let ranges = ready_ranges(self.server)?;
        let mut addresses = list(spec, "/clusterIPs").to_vec();
        for family in &list(spec, "/ipFamilies")[addresses.len()..] {
            let mut of_family = ranges
                .iter()
                .filter(|range| *family == families::family_of(range.addr()));
            let found = of_family.find_map(|range| self.free_address(*range, held).transpose());
            let address = found.transpose()?;
            let address =
                address.ok_or_else(|| Failure::internal("failed to allocate a serviceIP: range is full"))?;
            held.insert(Held::Address(address));
            addresses.push(address.to_string().into());
        }
        spec["clusterIP"] = addresses[0].clone();
        spec["clusterIPs"] = addresses.into();
        Ok(())
    }

    fn free_address(&self, range: IpNet, held: &BTreeSet<Held>) -> Result<Option<IpAddr>, Failure> {
        for number in Band::of_addresses(range).candidates() {
            let address = range::address(number, range.addr());
            if self.is_free(Held::Address(address), held)? {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }

    /// Ports of different protocols that have the same number get the same node port.
    fn fill_ports(&self, service: &mut Value, held: &mut BTreeSet<Held>) -> Result<(), Failure> {
        let spec = &service["spec"];
        let wanted = match text(spec, "/type") {
            "NodePort" => true,
            "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
            _ => false,
        };
        let count = if wanted { list(spec, "/ports").len() } else { 0 };
        for index in 0..count {
            let ports = list(&service["spec"], "/ports");
            if holds::number(&ports[index], "nodePort") != 0 {
                continue;
            }
            let port = match shared_port(ports, index) {
                Some(port) => port,
                None => self.free_port(held, "failed to allocate a nodePort")?,
            };
            held.insert(Held::Port(port));
            service["spec"]["ports"][index]["nodePort"] = port.into();
        }
        if holds::health_port(&service["spec"]) == Some(0) {
            let port = self.free_port(held, "failed to allocate a HealthCheck NodePort 0")?;
            held.insert(Held::Port(port));
            service["spec"]["healthCheckNodePort"] = port.into();
        }
        Ok(())
    }

    fn free_port(&self, held: &BTreeSet<Held>, what: &str) -> Result<u16, Failure> {
        for number in Band::of_ports(&self.server.services.node_ports).candidates() {
            let port = u16::try_from(number).expect("the range is one of ports");
            if self.is_free(Held::Port(port), held)? {
                return Ok(port);
            }
        }
        Err(Failure::internal(format!("{what}: range is full")))
    }

    fn is_free(&self, wanted: Held, held: &BTreeSet<Held>) -> Result<bool, Failure> {
        Ok(!held.contains(&wanted) && !self.had.contains(&wanted) && !self.is_taken(wanted)?)
    }

    fn is_taken(&self, wanted: Held) -> Result<bool, Failure> {
        Ok(self.server.store.get(&key(wanted))?.is_some())
    }
}

const ALLOCATED: &str = "provided port is already allocated";

/// The node port of a port with the same number and another protocol.
fn shared_port(ports: &[Value], index: usize) -> Option<u16> {
    let (number, protocol) = (&ports[index]["port"], &ports[index]["protocol"]);
    let mut same = ports.iter().filter(|port| port["port"] == *number);
    let shared = same.find_map(|port| Some(holds::number(port, "nodePort")).filter(|port| *port != 0))?;
    let mut of_protocol = ports.iter().filter(|port| port["protocol"] == *protocol);
    of_protocol
        .all(|port| holds::number(port, "nodePort") != shared)
        .then_some(shared)
}

/// The kind of the objects that hold addresses.
fn addresses() -> &'static Kind {
    kinds::find("networking.k8s.io", "v1", "ipaddresses").expect("the table has IPAddress")
}

fn refuse(service: &Value, error: kinds::FieldError) -> Failure {
    Failure::invalid("Service", "", text(service, "/metadata/name"), &[error])
}

/// The ranges that addresses are given from: of those that are neither on their way out nor not ready.
fn ready_ranges(server: &ApiServer) -> Result<Vec<IpNet>, Failure> {
    let prefix = object::prefix(server.service_cidrs(), None);
    let range = store::Range {
        prefix: &prefix,
        ..store::Range::default()
    };
    let mut ranges = Vec::new();
    for entry in server.store.list(&range, |_| true)?.entries {
        let object = object::parse(&entry.value)?;
        let unready = list(&object, "/status/conditions")
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] != "True");
        if text(&object, "/metadata/deletionTimestamp").is_empty() && !unready {
            let texts = list(&object, "/spec/cidrs").iter().filter_map(Value::as_str);
            ranges.extend(texts.filter_map(|text| text.parse::<IpNet>().ok()));
        }
    }
    Ok(ranges)
}

pub(super) fn key(held: Held) -> String {
    match held {
        Held::Address(address) => address_key(&address.to_string()),
        Held::Port(port) => format!("{PORTS}{port}"),
    }
}

fn address_key(address: &str) -> String {
    object::key(addresses(), None, address)
}

/// The holder, as it stands in a claim.
pub(super) fn holder(service: &Value) -> String {
    let (namespace, name) = (
        text(service, "/metadata/namespace"),
        text(service, "/metadata/name"),
    );
    format!("{namespace}/{name}")
}

/// Who holds what is claimed under a key; nobody, if it isn't a Service.
pub(super) fn holder_of(held: Held, value: &[u8]) -> Result<Option<String>, Failure> {
    match held {
        Held::Port(_) => Ok(std::str::from_utf8(value).ok().map(str::to_owned)),
        Held::Address(_) => {
            let object = object::parse(value)?;
            let parent = &object["spec"]["parentRef"];
            let service = text(parent, "/resource") == "services" && text(parent, "/group").is_empty();
            let (namespace, name) = (text(parent, "/namespace"), text(parent, "/name"));
            Ok(service.then(|| format!("{namespace}/{name}")))
        }
    }
}

/// The write that makes something a Service's.
pub(super) fn claimed(service: &Value, held: Held) -> Write {
    let value = match held {
        Held::Address(address) => object::encode(addresses(), ip_address(service, address)),
        Held::Port(_) => store::Value::plain(holder(service)),
    };
    Write::Create {
        key: key(held),
        value,
    }
}

fn ip_address(service: &Value, address: IpAddr) -> Value {
    let kind = addresses();
    let mut object = json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind(),
        "metadata": {
            "name": address.to_string(),
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": object::now(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": families::family_of(address),
                (MANAGED_BY.0): MANAGED_BY.1,
            },
        },
        "spec": { "parentRef": {
            "resource": "services",
            "namespace": text(service, "/metadata/namespace"),
            "name": text(service, "/metadata/name"),
        } },
    });
    let writer = Writer {
        kind,
        part: Part::Main,
        manager: "kube-apiserver",
        subresource: "",
    };
    let managers = writer.author(|author| apply::create(managed::shape(kind), &object, author));
    managed::put(&mut object, &managers);
    object
}

/// The writes that free what a Service holds; what is another's stays.
fn give_back(server: &ApiServer, service: &Value, held: BTreeSet<Held>) -> Result<Claims, Failure> {
    let mut claims = Claims::new();
    for held in held {
        let key = key(held);
        let Some(entry) = server.store.get(&key)? else {
            continue;
        };
        if holder_of(held, &entry.value)?.as_deref() == Some(&holder(service)) {
            claims.push(freed(held, &entry)?);
        }
    }
    Ok(claims)
}

pub(super) fn freed(held: Held, entry: &store::Entry) -> Result<Write, Failure> {
    let last = match held {
        Held::Address(_) => object::encode(addresses(), object::parse(&entry.value)?),
        Held::Port(_) => store::Value::plain(entry.value.to_vec()),
    };
    Ok(Write::Delete {
        key: entry.key.clone(),
        last,
        revision: entry.revision,
    })
}
