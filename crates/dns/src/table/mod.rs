//! The cluster's names: pure, from what [`crate::record`] holds to what is answered.
//!
//! | name below the cluster's domain | records |
//! | --- | --- |
//! | `SERVICE.NAMESPACE.svc` | A, AAAA, SRV; the endpoints' where the Service is headless; CNAME |
//! | `_PORT._PROTOCOL.SERVICE.NAMESPACE.svc` | SRV |
//! | `HOSTNAME.SERVICE.NAMESPACE.svc` | A, AAAA of an endpoint of a headless Service |
//! | `10-244-1-2.NAMESPACE.pod` | A, AAAA |
//! | `NODE.nodes` | A, AAAA |
//! | `dns-version` | TXT |
//!
//! And the other way: PTR of Services, of headless Services' endpoints and of nodes.

mod change;
mod service;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;

use crate::name::{self, Labels};
use crate::record::{Kind, Node, Service, Slice, undashed};

/// The version of Kubernetes' DNS specification.
pub const VERSION: &str = "1.1.0";

/// How long clients may keep what they were told, in seconds: Services and endpoints change.
pub const TTL: u32 = 5;

/// What a zone's start of authority says beside names and its serial number, in seconds: refresh, retry,
/// expire, and how long clients may keep that there is none.
pub(crate) const SOA_TIMES: [u32; 4] = [7200, 1800, 86400, TTL];

/// `SERVICE.NAMESPACE.svc`.
pub(crate) const SERVICE_LABELS: usize = 3;

/// What a table is about, beside the API's objects.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The cluster's domain.
    pub domain: Name,
    /// The addresses of the DNS itself.
    pub servers: Vec<IpAddr>,
    /// Addresses whose names nobody else knows: Services' and pods'.
    pub ranges: Vec<IpNet>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// It's not the cluster's: others may know.
    Elsewhere,
    /// It's the cluster's, and there is none; who says so is in the record.
    Missing(Box<Record>),
    /// There is one. Without data it has none of the type that was asked for.
    Here(Here),
    /// It's another name for that one.
    Alias(Name),
}

/// What is known of a name that there is.
#[derive(Debug, Clone, PartialEq)]
pub struct Here {
    /// The data of the type that was asked for.
    pub data: Vec<RData>,
    /// What whoever asked is likely to ask next.
    pub more: Vec<Record>,
    /// Who says that there is none, if there is none.
    pub soa: Option<Box<Record>>,
}

/// Whose an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    Service(String, String),
    /// An endpoint of that Service.
    Endpoint(String, String),
    Node(String),
}

type ByNamespace<T> = HashMap<String, HashMap<String, T>>;

/// The cluster's names.
#[derive(Debug)]
pub struct Table {
    zone: Zone,
    labels: Vec<String>,
    serial: u32,
    namespaces: BTreeSet<String>,
    services: ByNamespace<Service>,
    /// By namespace and Service, then by name.
    slices: ByNamespace<BTreeMap<String, Slice>>,
    /// Which Service a slice is of, by namespace and the slice's name.
    slice_of: ByNamespace<String>,
    nodes: BTreeMap<String, Node>,
    /// Nodes that don't answer.
    silent: BTreeSet<String>,
    owners: HashMap<IpAddr, Vec<Owner>>,
}

impl Table {
    /// An empty table. Its serial number goes up from `serial` with each change.
    pub fn new(zone: Zone, serial: u32) -> Table {
        Table {
            labels: name::labels(&zone.domain),
            zone,
            serial,
            namespaces: BTreeSet::new(),
            services: HashMap::new(),
            slices: HashMap::new(),
            slice_of: HashMap::new(),
            nodes: BTreeMap::new(),
            silent: BTreeSet::new(),
            owners: HashMap::new(),
        }
    }

    /// The cluster's domain.
    pub fn domain(&self) -> &Name {
        &self.zone.domain
    }

    /// Whether a name is in the cluster's domain.
    pub fn is_inside(&self, name: &Name) -> bool {
        Labels::of(name).before(&self.labels).is_some()
    }

    /// The addresses of the Service whose own name this is, if it has addresses of its own.
    pub fn service_addresses(&self, labels: &Labels) -> Option<&[IpAddr]> {
        // That name is everybody's own, whatever the domain.
        let is_own = self.labels.last().is_some_and(|last| last == "localhost");
        if is_own || labels.before(&self.labels) != Some(SERVICE_LABELS) || labels.get(2) != "svc" {
            return None;
        }
        let service = self.services.get(labels.get(1))?.get(labels.get(0))?;
        match &service.kind {
            Kind::Cluster(addresses) => Some(addresses),
            _ => None,
        }
    }

    /// The number of the last change.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// What there is by that name.
    pub fn lookup(&self, name: &Name, wanted: RecordType) -> Found {
        let labels = Labels::of(name);
        if let Some(count) = labels.before(&self.labels) {
            return self.inside(&labels, count, wanted);
        }
        match address_of(name) {
            Some(address) => self.reverse(name, address, wanted),
            None => Found::Elsewhere,
        }
    }

    /// Below the domain: `count` labels in front of it.
    fn inside(&self, labels: &Labels, count: usize, wanted: RecordType) -> Found {
        let Some(last) = count.checked_sub(1).map(|last| labels.get(last)) else {
            return self.apex(wanted);
        };
        match (last, count - 1) {
            ("svc", rest) => self.in_services(labels, rest, wanted),
            ("pod" | "nodes" | "dns", 0) => self.here(Vec::new()),
            ("pod", rest) => self.in_pods(labels, rest, wanted),
            ("nodes", rest) => {
                let node: Vec<&str> = labels.first(rest).collect();
                self.in_nodes(&node.join("."), wanted)
            }
            ("dns", 1) if labels.get(0) == "ns" => self.addresses(self.zone.servers.iter().copied(), wanted),
            ("dns-version", 0) if wants(wanted, RecordType::TXT) => {
                self.here(vec![RData::TXT(TXT::new(vec![VERSION.to_owned()]))])
            }
            ("dns-version", 0) => self.here(Vec::new()),
            _ => self.missing(),
        }
    }

    fn apex(&self, wanted: RecordType) -> Found {
        let mut data = Vec::new();
        if wants(wanted, RecordType::SOA) {
            data.push(self.soa(&self.zone.domain).data);
        }
        if wants(wanted, RecordType::NS) {
            data.push(RData::NS(NS(self.below(["ns", "dns"]))));
        }
        self.here(data)
    }

    /// `10-244-1-2.NAMESPACE.pod`: any address that a pod may have.
    fn in_pods(&self, labels: &Labels, count: usize, wanted: RecordType) -> Found {
        if !self.has_namespace(labels.get(count - 1)) {
            return self.missing();
        }
        match (count, undashed(labels.get(0))) {
            (1, _) => self.here(Vec::new()),
            (2, Some(address)) if self.may_be_a_pods(address) => self.addresses([address], wanted),
            _ => self.missing(),
        }
    }

    fn may_be_a_pods(&self, address: IpAddr) -> bool {
        self.nodes.values().any(|node| {
            node.pod_cidrs.iter().any(|net| net.contains(&address)) || node.addresses.contains(&address)
        })
    }

    fn in_nodes(&self, node: &str, wanted: RecordType) -> Found {
        match self.nodes.get(node) {
            Some(found) => self.addresses(found.addresses.iter().copied(), wanted),
            // Names of nodes may have dots, and what is behind them is a name without data.
            None if self.nodes.keys().any(|name| is_below(name, node)) => self.here(Vec::new()),
            None => self.missing(),
        }
    }

    fn reverse(&self, name: &Name, address: IpAddr, wanted: RecordType) -> Found {
        let owners = self.owners.get(&address).into_iter().flatten();
        let mut names: Vec<Name> = owners.flat_map(|owner| self.names_of(owner, address)).collect();
        names.sort();
        names.dedup();
        let range = self.range_of(address);
        if names.is_empty() {
            return match range {
                Some(range) => Found::Missing(Box::new(self.soa(&reverse_zone(name, range)))),
                None => Found::Elsewhere,
            };
        }
        let zone = range.map_or_else(|| name.clone(), |range| reverse_zone(name, range));
        let data = match wants(wanted, RecordType::PTR) {
            true => names.into_iter().map(|name| RData::PTR(PTR(name))).collect(),
            false => Vec::new(),
        };
        let soa = data.is_empty().then(|| Box::new(self.soa(&zone)));
        let more = Vec::new();
        Found::Here(Here { data, more, soa })
    }

    fn names_of(&self, owner: &Owner, address: IpAddr) -> Vec<Name> {
        match owner {
            Owner::Service(namespace, service) => vec![self.below([service, namespace, "svc"])],
            Owner::Node(node) => vec![self.below(node.split('.').chain(["nodes"]))],
            Owner::Endpoint(namespace, service) => self
                .ready(namespace, service)
                .filter(|(_, endpoint)| endpoint.address == address)
                .map(|(_, endpoint)| self.below([&endpoint.label(), service, namespace, "svc"]))
                .collect(),
        }
    }

    fn range_of(&self, address: IpAddr) -> Option<IpNet> {
        let of_nodes = self.nodes.values().flat_map(|node| &node.pod_cidrs);
        let mut ranges = self.zone.ranges.iter().chain(of_nodes);
        ranges.find(|range| range.contains(&address)).copied()
    }

    fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name) || self.services.contains_key(name)
    }

    /// A name below the cluster's domain. Labels that can't be in a name leave the domain itself.
    fn below<'a>(&self, labels: impl IntoIterator<Item = &'a str>) -> Name {
        let name = Name::from_labels(labels.into_iter().map(str::as_bytes));
        let name = name.and_then(|name| name.append_domain(&self.zone.domain));
        name.unwrap_or_else(|_| self.zone.domain.clone())
    }

    fn addresses(&self, addresses: impl IntoIterator<Item = IpAddr>, wanted: RecordType) -> Found {
        self.here(address_data(addresses, wanted))
    }

    fn here(&self, data: Vec<RData>) -> Found {
        self.with(data, Vec::new())
    }

    fn with(&self, data: Vec<RData>, more: Vec<Record>) -> Found {
        let soa = data.is_empty().then(|| Box::new(self.soa(&self.zone.domain)));
        Found::Here(Here { data, more, soa })
    }

    fn missing(&self) -> Found {
        Found::Missing(Box::new(self.soa(&self.zone.domain)))
    }

    fn soa(&self, zone: &Name) -> Record {
        let (server, master) = (self.below(["ns", "dns"]), self.below(["hostmaster"]));
        let [refresh, retry, expire, minimum] = SOA_TIMES;
        let (refresh, retry, expire) = (refresh.cast_signed(), retry.cast_signed(), expire.cast_signed());
        let soa = SOA::new(server, master, self.serial, refresh, retry, expire, minimum);
        Record::from_rdata(zone.clone(), TTL, RData::SOA(soa))
    }
}

fn wants(wanted: RecordType, kind: RecordType) -> bool {
    wanted == kind || wanted == RecordType::ANY
}

/// Those of the addresses that are of the type that is wanted.
pub(crate) fn address_data(addresses: impl IntoIterator<Item = IpAddr>, wanted: RecordType) -> Vec<RData> {
    let data = addresses.into_iter().filter_map(|address| match address {
        IpAddr::V4(v4) if wants(wanted, RecordType::A) => Some(RData::A(A(v4))),
        IpAddr::V6(v6) if wants(wanted, RecordType::AAAA) => Some(RData::AAAA(AAAA(v6))),
        _ => None,
    });
    data.collect()
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` is about, if it's a whole one.
pub(crate) fn address_of(name: &Name) -> Option<IpAddr> {
    const V4_LABELS: u8 = 6;
    const V6_LABELS: u8 = 34;
    if !matches!(name.num_labels(), V4_LABELS | V6_LABELS) {
        return None;
    }
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// The zone that a range's names are in: whole labels of the name of an address inside.
fn reverse_zone(name: &Name, range: IpNet) -> Name {
    let bits_a_label = if range.addr().is_ipv4() { 8 } else { 4 };
    name.trim_to(usize::from(range.prefix_len() / bits_a_label) + 2)
}

/// Whether `name` is `parent` with labels in front.
fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent)
        .is_some_and(|front| front.ends_with('.'))
}
