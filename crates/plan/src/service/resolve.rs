//! Two Services that want the same address and port.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::{Protocol, ServiceName};

use crate::{Object, Part, PartId};

/// The first Service by name has it, as in the kernel: external addresses can be anybody's.
pub(crate) fn resolve(parts: &mut BTreeMap<PartId, Part>) {
    let mut taken: BTreeMap<(IpAddr, Protocol, u16), ServiceName> = BTreeMap::new();
    for part in parts.values_mut() {
        let mut objects = std::mem::take(&mut part.objects);
        let services = objects.extract_if(.., |object| matches!(object, Object::Service(_)));
        let mut kept = Vec::new();
        for object in services {
            let Object::Service(mut port) = object else {
                continue;
            };
            let id = port.id.clone();
            let is_free = |frontend: &crate::Frontend| {
                let key = (frontend.address, id.protocol, frontend.port);
                let owner = taken.entry(key).or_insert_with(|| id.service.clone());
                if *owner == id.service {
                    return true;
                }
                part.notes
                    .push(format!("{frontend} of {id} is left out: Service {owner} has it"));
                false
            };
            let free: Vec<_> = port.frontends.iter().copied().filter(is_free).collect();
            if free.len() < port.frontends.len() {
                Arc::make_mut(&mut port).frontends = free;
            }
            kept.push(Object::Service(port));
        }
        objects.extend(kept);
        part.objects = objects;
    }
}
