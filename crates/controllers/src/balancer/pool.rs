//! A pool, as the table works with it: understood, or with what in it can't be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube::core::{Selector, SelectorExt};

use super::object::{LoadBalancerPool, Spec};
use super::range::AddressRange;

/// A pool of addresses.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) name: String,
    /// Its addresses, each once.
    pub(super) ranges: Vec<AddressRange>,
    /// Whether Services that ask for nothing get addresses from here.
    pub(super) automatic: bool,
    /// Only Services of these namespaces; of all, if there are none.
    namespaces: BTreeSet<String>,
    /// Only Services with these labels.
    selector: Option<Selector>,
    /// What of it can't be used.
    pub(super) problems: Vec<String>,
}

/// Who asks for an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Claimant {
    pub(super) namespace: String,
    pub(super) labels: BTreeMap<String, String>,
}

impl Pool {
    pub(super) fn of(object: &LoadBalancerPool) -> Self {
        let Spec {
            addresses,
            auto_assign,
            namespaces,
            service_selector,
        } = &object.spec;
        let mut problems = Vec::new();
        let mut ranges = Vec::new();
        for text in addresses {
            match text.parse::<AddressRange>() {
                Ok(range) if range.is_usable() => ranges.push(range),
                Ok(_) => problems.push(format!(
                    "{text:?} has addresses that no Service can have: loopback, link-local, multicast or unspecified ones"
                )),
                Err(error) => problems.push(error.to_string()),
            }
        }
        let mut automatic = auto_assign.unwrap_or(true);
        let selector = service_selector.clone().map(Selector::try_from).transpose();
        let selector = selector.unwrap_or_else(|error| {
            // Nobody can be said to be meant by it.
            problems.push(format!("its serviceSelector can't be understood: {error}"));
            automatic = false;
            None
        });
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            ranges: AddressRange::merge(ranges),
            automatic,
            namespaces: namespaces.clone(),
            selector,
            problems,
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// Whether it is there for this Service.
    pub(super) fn admits(&self, claimant: &Claimant) -> bool {
        let namespace = self.namespaces.is_empty() || self.namespaces.contains(&claimant.namespace);
        let selector = self.selector.as_ref();
        namespace && selector.is_none_or(|selector| selector.matches(&claimant.labels))
    }

    /// Whether it is for some Services alone: those get addresses from here first.
    pub(super) fn is_particular(&self) -> bool {
        !self.namespaces.is_empty() || self.selector.is_some()
    }

    /// How many addresses of a family it has.
    pub(super) fn size(&self, ipv4: bool) -> u128 {
        let ranges = self.ranges.iter().filter(|range| range.is_ipv4() == ipv4);
        ranges.fold(0, |sum: u128, range| sum.saturating_add(range.size()))
    }

    /// The first address that another pool has as well.
    pub(super) fn shares_with(&self, other: &Self) -> Option<IpAddr> {
        let mut pairs = self
            .ranges
            .iter()
            .flat_map(|own| other.ranges.iter().map(move |range| (own, range)));
        pairs.find_map(|(own, range)| own.shares_with(range))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn pool(spec: Value) -> Pool {
        let object = json!({ "metadata": { "name": "p" }, "spec": spec });
        Pool::of(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn what_can_be_understood_counts_and_the_rest_is_named() {
        let pool = pool(json!({ "addresses": [
            "10.0.0.1-10.0.0.9", "10.0.0.5-10.0.0.12", "fd00::/126", "10.0.0.9-10.0.0.1", "127.0.0.0/8", "::/0"] }));
        let texts: Vec<_> = pool.ranges.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.1-10.0.0.12", "fd00::-fd00::3"]);
        assert_eq!((pool.size(true), pool.size(false)), (12, 4));
        assert_eq!(pool.problems.len(), 3, "{:?}", pool.problems);
        assert!(pool.problems[0].contains("\"10.0.0.9-10.0.0.1\" is no range"));
        assert!(pool.problems[1].contains("\"127.0.0.0/8\" has addresses"));
    }

    #[test]
    fn a_pool_is_for_those_that_it_names() {
        let claimant = |namespace: &str, labels: &[(&str, &str)]| Claimant {
            namespace: namespace.to_owned(),
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        };
        let everybody = pool(json!({ "addresses": ["10.0.0.0/30"] }));
        assert!(everybody.admits(&claimant("a", &[])) && !everybody.is_particular());
        let some = pool(json!({ "addresses": ["10.0.0.0/30"], "namespaces": ["a"],
            "serviceSelector": { "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["edge"] }] } }));
        assert!(some.admits(&claimant("a", &[("tier", "edge")])) && some.is_particular());
        assert!(!some.admits(&claimant("b", &[("tier", "edge")])));
        assert!(!some.admits(&claimant("a", &[("tier", "core")])));
    }

    #[test]
    fn pools_that_share_addresses_are_found() {
        let a = pool(json!({ "addresses": ["10.0.0.0/30", "fd00::/64"] }));
        let b = pool(json!({ "addresses": ["10.0.0.3-10.0.0.9"] }));
        assert_eq!(a.shares_with(&b), Some("10.0.0.3".parse().unwrap()));
        assert_eq!(
            b.shares_with(&pool(json!({ "addresses": ["10.0.1.0/30"] }))),
            None
        );
    }
}
