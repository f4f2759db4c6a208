//! Pools and Services, from what people wrote to who has which address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::object::LoadBalancerPool;
use super::pool::Pool;
use super::table::Table;
use super::{usage, wish};
use crate::informer::Key;

/// LoadBalancerPools and Services, a list of them.
pub(crate) fn pools(objects: &[Value]) {
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let pools = of_kind("LoadBalancerPool").filter_map(|object| serde_json::from_value(object.clone()).ok());
    let pools: Vec<LoadBalancerPool> = pools.collect();
    let services = of_kind("Service").filter_map(|object| serde_json::from_value(object.clone()).ok());
    let services: Vec<Service> = services.collect();
    let mut table = Table::default();
    table.set_pools(pools.iter().map(Pool::of).collect());
    table.set_reserved([IpAddr::from([192, 0, 2, 1])].into());
    for service in &services {
        table.occupy(&Key::of(service), &wish::addresses(service));
    }
    let mut given = BTreeMap::new();
    for service in services.iter().filter(|service| wish::is_ours(service)) {
        let key = Key::of(service);
        let allocated = wish::of(service).and_then(|wish| {
            let allocated = table.allocate(&key, &wish);
            allocated.map_err(|refusal| refusal.to_string())
        });
        match allocated {
            Ok(addresses) => _ = given.insert(key, addresses),
            Err(_) => _ = table.keep(&key, &wish::addresses(service)),
        }
    }
    for (key, addresses) in &given {
        let others = given.iter().filter(|(other, _)| *other != key);
        let mut theirs = others.flat_map(|(_, addresses)| addresses);
        assert!(
            theirs.all(|address| !addresses.contains(address)),
            "nobody has what another has"
        );
    }
    for pool in &pools {
        usage::status(&table, pool, Time(Timestamp::UNIX_EPOCH));
    }
}
