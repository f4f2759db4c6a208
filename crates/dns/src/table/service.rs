//! Names of Services and of their endpoints.

use std::collections::BTreeSet;

use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{Found, TTL, Table, address_data, wants};
use crate::name::{self, Labels};
use crate::record::{Endpoint, Kind, Port, Service, Slice};

/// All the same: who asks chooses at random.
const PRIORITY: u16 = 0;
const WEIGHT: u16 = 100;

/// Which ports an SRV record is wanted of.
#[derive(Clone, Copy)]
enum Ports<'a> {
    All,
    One { name: &'a str, protocol: &'a str },
}

impl Ports<'_> {
    fn have(self, port: &Port) -> bool {
        match self {
            Ports::All => true,
            Ports::One { name, protocol } => port.name == name && port.protocol == protocol,
        }
    }
}

impl Table {
    /// Below `svc`: `count` labels in front of it.
    pub(super) fn in_services(&self, labels: &Labels, count: usize, wanted: RecordType) -> Found {
        let Some(last) = count.checked_sub(1) else {
            return self.here(Vec::new());
        };
        let namespace = labels.get(last);
        if last == 0 {
            return match self.has_namespace(namespace) {
                true => self.here(Vec::new()),
                false => self.missing(),
            };
        }
        let name = labels.get(last - 1);
        let Some(service) = self.services.get(namespace).and_then(|found| found.get(name)) else {
            return self.missing();
        };
        let id = (namespace, name);
        match (last - 1, &service.kind) {
            (0, Kind::External(target)) => self.external(target),
            (0, _) => self.service(id, service, wanted),
            (_, Kind::External(_)) => self.missing(),
            (1, _) => match labels.get(0).strip_prefix('_') {
                Some(protocol) => self.protocol(id, service, protocol),
                None => self.endpoint(id, labels.get(0), wanted),
            },
            (2, _) => self.port(id, service, (labels.get(0), labels.get(1)), wanted),
            _ => self.missing(),
        }
    }

    fn external(&self, target: &str) -> Found {
        // An address is no name; Kubernetes takes it, and nothing can be made of it.
        let is_address = target.parse::<std::net::IpAddr>().is_ok();
        match name::parse(target).filter(|_| !is_address) {
            Some(target) => Found::Alias(target),
            None => self.here(Vec::new()),
        }
    }

    fn service(&self, id: (&str, &str), service: &Service, wanted: RecordType) -> Found {
        let mut data = match &service.kind {
            Kind::Cluster(addresses) => address_data(addresses.iter().copied(), wanted),
            _ => {
                let answering = self.answering(id.0, id.1);
                let addresses: BTreeSet<_> = answering.map(|(_, found)| found.address).collect();
                if addresses.is_empty() {
                    return self.missing();
                }
                address_data(addresses, wanted)
            }
        };
        let mut more = Vec::new();
        if wants(wanted, RecordType::SRV) {
            let (found, glue) = self.ports(id, service, Ports::All);
            data.extend(found);
            more = glue;
        }
        self.with(data, more)
    }

    /// `_tcp.SERVICE.NAMESPACE.svc` has no data, and is there if there is a port below.
    fn protocol(&self, id: (&str, &str), service: &Service, protocol: &str) -> Found {
        let of_service = service.ports.iter();
        let of_endpoints = self.slices_of(id.0, id.1).flat_map(|slice| &slice.ports);
        let mut ports = of_service.chain(of_endpoints);
        match ports.any(|port| port.protocol == protocol && !port.name.is_empty()) {
            true => self.here(Vec::new()),
            false => self.missing(),
        }
    }

    fn port(&self, id: (&str, &str), service: &Service, port: (&str, &str), wanted: RecordType) -> Found {
        let (Some(name), Some(protocol)) = (port.0.strip_prefix('_'), port.1.strip_prefix('_')) else {
            return self.missing();
        };
        if name.is_empty() {
            return self.missing();
        }
        let (data, more) = self.ports(id, service, Ports::One { name, protocol });
        if data.is_empty() {
            return self.missing();
        }
        match wants(wanted, RecordType::SRV) {
            true => self.with(data, more),
            false => self.here(Vec::new()),
        }
    }

    fn endpoint(&self, (namespace, name): (&str, &str), label: &str, wanted: RecordType) -> Found {
        let found = self.ready(namespace, name);
        let found = found.filter(|(_, endpoint)| endpoint.label().eq_ignore_ascii_case(label));
        let addresses: BTreeSet<_> = found.map(|(_, endpoint)| endpoint.address).collect();
        match addresses.is_empty() {
            true => self.missing(),
            false => self.addresses(addresses, wanted),
        }
    }

    /// SRV data, and the addresses of the names in them.
    fn ports(
        &self,
        (namespace, name): (&str, &str),
        service: &Service,
        ports: Ports<'_>,
    ) -> (Vec<RData>, Vec<Record>) {
        let mut data = BTreeSet::new();
        let mut glue = Vec::new();
        let mut add = |target: Name, port: &Port, addresses: &[std::net::IpAddr]| {
            let addresses = address_data(addresses.iter().copied(), RecordType::ANY);
            let records = addresses
                .into_iter()
                .map(|data| Record::from_rdata(target.clone(), TTL, data));
            glue.extend(records);
            data.insert((target, port.number));
        };
        match &service.kind {
            Kind::Cluster(addresses) => {
                let target = self.below([name, namespace, "svc"]);
                for port in service.ports.iter().filter(|port| ports.have(port)) {
                    add(target.clone(), port, addresses);
                }
            }
            _ => {
                for (slice, endpoint) in self.answering(namespace, name) {
                    let target = || self.below([&endpoint.label(), name, namespace, "svc"]);
                    for port in slice.ports.iter().filter(|port| ports.have(port)) {
                        add(target(), port, &[endpoint.address]);
                    }
                }
            }
        }
        glue.sort_by(|a, b| a.name.cmp(&b.name));
        glue.dedup();
        let data = data.into_iter();
        let data = data.map(|(target, port)| RData::SRV(SRV::new(PRIORITY, WEIGHT, port, target)));
        (data.collect(), glue)
    }

    /// Those of the endpoints that a Service's own name stands for. On silent nodes they aren't among them as long as
    /// others are, unless the Service wants all to be known.
    fn answering(&self, namespace: &str, name: &str) -> impl Iterator<Item = (&Slice, &Endpoint)> {
        let answers = |endpoint: &Endpoint| {
            let node = endpoint.node.as_deref();
            node.is_none_or(|node| !self.silent.contains(node))
        };
        let chooses = !self.silent.is_empty() && self.unready(namespace, name) == Some(false);
        let others = [false, true].map(|v4| {
            let mut ready = self.ready(namespace, name);
            chooses && ready.any(|(_, one)| one.address.is_ipv4() == v4 && answers(one))
        });
        let ready = self.ready(namespace, name);
        ready.filter(move |(_, one)| answers(one) || !others[usize::from(one.address.is_ipv4())])
    }

    /// Whether a headless Service's endpoints that aren't ready have records, too.
    fn unready(&self, namespace: &str, name: &str) -> Option<bool> {
        let service = self.services.get(namespace).and_then(|found| found.get(name));
        match service.map(|service| &service.kind) {
            Some(Kind::Headless { unready }) => Some(*unready),
            _ => None,
        }
    }

    /// The endpoints of a headless Service that have records, each with its slice.
    pub(super) fn ready(&self, namespace: &str, name: &str) -> impl Iterator<Item = (&Slice, &Endpoint)> {
        let unready = self.unready(namespace, name);
        let slices = unready.map(|_| self.slices_of(namespace, name));
        slices
            .into_iter()
            .flatten()
            .flat_map(|slice| slice.endpoints.iter().map(move |endpoint| (slice, endpoint)))
            .filter(move |(_, endpoint)| endpoint.ready || unready == Some(true))
    }

    pub(super) fn slices_of(&self, namespace: &str, service: &str) -> impl Iterator<Item = &Slice> {
        let slices = self.slices.get(namespace).and_then(|found| found.get(service));
        slices.into_iter().flat_map(|slices| slices.values())
    }
}
