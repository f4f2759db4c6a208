//! Changes of the table, each as large as what it changes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{ByNamespace, Owner, Table};
use crate::record::{Key, Kind, Node, Records, Service, Slice};

impl Table {
    /// Puts all records in place of what there was.
    pub fn restore(&mut self, records: Records) {
        let mut empty = Table::new(self.zone.clone(), self.serial);
        empty.namespaces = records.namespaces;
        for (key, service) in records.services {
            empty.put_service(key, service);
        }
        for (key, slice) in records.slices {
            empty.put_slice(key, slice);
        }
        for (name, node) in records.nodes {
            empty.put_node(name, node);
        }
        *self = empty;
    }

    /// All records that answers are made of: endpoints of headless Services alone.
    pub fn records(&self) -> Records {
        let flat = |(namespace, name): (&String, &String)| (namespace.clone(), name.clone());
        let services = self.services.iter().flat_map(|(namespace, found)| {
            found
                .iter()
                .map(move |(name, service)| (flat((namespace, name)), service.clone()))
        });
        let slices = self.slices.iter().flat_map(|(namespace, found)| {
            let headless = found
                .iter()
                .filter(|(service, _)| self.is_headless(namespace, service));
            headless.flat_map(move |(_, slices)| {
                slices
                    .iter()
                    .map(move |(name, slice)| (flat((namespace, name)), slice.clone()))
            })
        });
        Records {
            namespaces: self.namespaces.clone(),
            services: services.collect(),
            slices: slices.collect(),
            nodes: self.nodes.clone(),
        }
    }

    /// There is a namespace.
    pub fn put_namespace(&mut self, name: String) -> bool {
        let new = self.namespaces.insert(name);
        self.changed(new)
    }

    /// There is no such namespace.
    pub fn remove_namespace(&mut self, name: &str) -> bool {
        let there = self.namespaces.remove(name);
        self.changed(there)
    }

    /// A Service is like that.
    pub fn put_service(&mut self, (namespace, name): Key, service: Service) -> bool {
        let found = self.services.get(&namespace).and_then(|found| found.get(&name));
        if found == Some(&service) {
            return false;
        }
        self.disown(&namespace, &name);
        let services = self.services.entry(namespace.clone()).or_default();
        services.insert(name.clone(), service);
        self.own(&namespace, &name);
        self.changed(true)
    }

    /// There is no such Service.
    pub fn remove_service(&mut self, (namespace, name): &Key) -> bool {
        self.disown(namespace, name);
        let removed = take(&mut self.services, namespace, name).is_some();
        self.changed(removed)
    }

    /// A slice is like that. What isn't a headless Service's changes no record.
    pub fn put_slice(&mut self, key: Key, slice: Slice) -> bool {
        let (namespace, name) = &key;
        let before = self.slice_of.get(namespace).and_then(|found| found.get(name));
        let held = before.and_then(|service| self.slices.get(namespace)?.get(service)?.get(name));
        if held == Some(&slice) {
            return false;
        }
        self.remove_slice(&key);
        let (namespace, name) = key;
        let headless = self.is_headless(&namespace, &slice.service);
        if headless {
            for endpoint in &slice.endpoints {
                let owner = Owner::Endpoint(namespace.clone(), slice.service.clone());
                self.owners.entry(endpoint.address).or_default().push(owner);
            }
        }
        let of = self.slice_of.entry(namespace.clone()).or_default();
        of.insert(name.clone(), slice.service.clone());
        let services = self.slices.entry(namespace).or_default();
        services
            .entry(slice.service.clone())
            .or_default()
            .insert(name, slice);
        self.changed(headless)
    }

    /// There is no such slice.
    pub fn remove_slice(&mut self, (namespace, name): &Key) -> bool {
        let Some(service) = take(&mut self.slice_of, namespace, name) else {
            return false;
        };
        let services = self.slices.get_mut(namespace);
        let Some(slices) = services.and_then(|found| found.get_mut(&service)) else {
            return false;
        };
        let slice = slices.remove(name);
        if slices.is_empty() {
            take(&mut self.slices, namespace, &service);
        }
        let headless = self.is_headless(namespace, &service);
        let owner = Owner::Endpoint(namespace.clone(), service);
        for endpoint in slice.iter().flat_map(|slice| &slice.endpoints) {
            self.release(endpoint.address, &owner);
        }
        self.changed(headless && slice.is_some())
    }

    /// A node is like that.
    pub fn put_node(&mut self, name: String, node: Node) -> bool {
        if self.nodes.get(&name) == Some(&node) {
            return false;
        }
        self.remove_node(&name);
        for address in &node.addresses {
            let owners = self.owners.entry(*address).or_default();
            owners.push(Owner::Node(name.clone()));
        }
        self.nodes.insert(name, node);
        self.changed(true)
    }

    /// There is no such node.
    pub fn remove_node(&mut self, name: &str) -> bool {
        let node = self.nodes.remove(name);
        for address in node.iter().flat_map(|node| &node.addresses) {
            self.release(*address, &Owner::Node(name.to_owned()));
        }
        self.changed(node.is_some())
    }

    /// These nodes don't answer.
    pub fn set_silent(&mut self, nodes: BTreeSet<String>) -> bool {
        let new = self.silent != nodes;
        self.silent = nodes;
        self.changed(new)
    }

    fn changed(&mut self, yes: bool) -> bool {
        self.serial = self.serial.wrapping_add(u32::from(yes));
        yes
    }

    fn is_headless(&self, namespace: &str, name: &str) -> bool {
        let service = self.services.get(namespace).and_then(|found| found.get(name));
        service.is_some_and(|service| matches!(service.kind, Kind::Headless { .. }))
    }

    /// The addresses that lead back to a Service, and as whose.
    fn owned(&self, namespace: &str, name: &str) -> Vec<(IpAddr, Owner)> {
        let service = self.services.get(namespace).and_then(|found| found.get(name));
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        match service.map(|service| &service.kind) {
            Some(Kind::Cluster(addresses)) => {
                let owner = Owner::Service(namespace, name);
                addresses
                    .iter()
                    .map(|address| (*address, owner.clone()))
                    .collect()
            }
            Some(Kind::Headless { .. }) => {
                let endpoints = self
                    .slices_of(&namespace, &name)
                    .flat_map(|slice| &slice.endpoints);
                let owner = Owner::Endpoint(namespace.clone(), name.clone());
                endpoints
                    .map(|endpoint| (endpoint.address, owner.clone()))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    fn own(&mut self, namespace: &str, name: &str) {
        for (address, owner) in self.owned(namespace, name) {
            self.owners.entry(address).or_default().push(owner);
        }
    }

    fn disown(&mut self, namespace: &str, name: &str) {
        for (address, owner) in self.owned(namespace, name) {
            self.release(address, &owner);
        }
    }

    fn release(&mut self, address: IpAddr, owner: &Owner) {
        let Some(owners) = self.owners.get_mut(&address) else {
            return;
        };
        if let Some(at) = owners.iter().position(|held| held == owner) {
            owners.swap_remove(at);
        }
        if owners.is_empty() {
            self.owners.remove(&address);
        }
    }
}

/// Takes one out, and its namespace if it was the last.
fn take<T>(map: &mut ByNamespace<T>, namespace: &str, name: &str) -> Option<T> {
    let found = map.get_mut(namespace)?;
    let taken = found.remove(name);
    if found.is_empty() {
        map.remove(namespace);
    }
    taken
}
