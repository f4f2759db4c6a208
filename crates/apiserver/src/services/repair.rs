//! Repair: whatever Services hold is claimed, and nothing is claimed that no Service holds. The server itself keeps
//! it so; people who delete IPAddress objects, and Services older than the claims, don't.

use std::collections::BTreeMap;

use serde_json::Value;
use store::{Entry, Range, Write};

use super::claim::{self, MANAGED_BY, PORTS};
use super::holds::{self, Held};
use crate::auth::identity::Identity;
use crate::object::{self, list, text};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::update::{self, Change, Part, Target};

/// Looks at all Services and claims once.
pub(super) async fn repair(server: &ApiServer) -> Result<(), Failure> {
    let services = listed(server, &object::prefix(server.service_kind(), None), None)?;
    let revision = services.revision;
    let services: Vec<Value> = services
        .entries
        .iter()
        .map(|entry| object::parse(&entry.value))
        .collect::<Result<_, _>>()?;
    let claims = claims(server, revision)?;
    for write in mended(&services, &claims)? {
        // Somebody may have changed it meanwhile: the next look finds it right, or wrong again.
        match server.store.write(vec![write]).await {
            Err(store::Error::Exists | store::Error::NotFound | store::Error::Conflict { .. }) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for service in services.iter().filter(|service| lacks(service)) {
        complete(server, service).await?;
    }
    Ok(())
}

/// Whether the Service that an IPAddress names has this address.
pub(super) fn is_held(server: &ApiServer, address: &[u8]) -> Result<bool, Failure> {
    let address = object::parse(address)?;
    let parent = &address["spec"]["parentRef"];
    let (namespace, name) = (text(parent, "/namespace"), text(parent, "/name"));
    let key = object::key(server.service_kind(), Some(namespace), name);
    let (Some(entry), Ok(ip)) = (server.store.get(&key)?, text(&address, "/metadata/name").parse()) else {
        return Ok(false);
    };
    let service = object::parse(&entry.value)?;
    Ok(holds::of(&service).contains(&Held::Address(ip)))
}

fn listed(server: &ApiServer, prefix: &str, revision: Option<u64>) -> Result<store::Page, Failure> {
    let range = Range {
        prefix,
        revision,
        ..Range::default()
    };
    Ok(server.store.list(&range, |_| true)?)
}

fn claims(server: &ApiServer, revision: u64) -> Result<BTreeMap<Held, Entry>, Failure> {
    let addresses = object::prefix(server.ip_addresses(), None);
    let mut claims = BTreeMap::new();
    for prefix in [addresses.as_str(), PORTS] {
        for entry in listed(server, prefix, Some(revision))?.entries {
            let name = &entry.key[prefix.len()..];
            let held = if prefix == PORTS {
                name.parse().ok().map(Held::Port)
            } else {
                name.parse().ok().map(Held::Address)
            };
            if let Some(held) = held {
                claims.insert(held, entry);
            }
        }
    }
    Ok(claims)
}

/// What must be written so that claims and Services agree.
fn mended(services: &[Value], claims: &BTreeMap<Held, Entry>) -> Result<Vec<Write>, Failure> {
    let mut writes = Vec::new();
    let mut held = BTreeMap::new();
    for service in services {
        for thing in holds::of(service) {
            let holder = claim::holder(service);
            match held.get(&thing) {
                None if !claims.contains_key(&thing) => {
                    tracing::warn!(service = holder, claim = %thing, "a Service's claim was missing");
                    writes.push(claim::claimed(service, thing));
                }
                None => {}
                Some(other) => {
                    tracing::error!(service = holder, other, claim = %thing, "two Services have the same");
                    continue;
                }
            }
            held.insert(thing, holder);
        }
    }
    for (thing, entry) in claims {
        let holder = claim::holder_of(*thing, &entry.value)?;
        if holder.as_ref() == held.get(thing) || !is_ours(*thing, entry)? {
            continue;
        }
        tracing::warn!(claim = %thing, holder, "a claim was left by nobody");
        writes.push(claim::freed(*thing, entry)?);
    }
    Ok(writes)
}

/// IPAddress objects that people made stay.
fn is_ours(held: Held, entry: &Entry) -> Result<bool, Failure> {
    let Held::Address(_) = held else { return Ok(true) };
    let object = object::parse(&entry.value)?;
    Ok(object["metadata"]["labels"][MANAGED_BY.0] == MANAGED_BY.1)
}

/// Whether a Service has fewer addresses than families, or no families yet.
fn lacks(service: &Value) -> bool {
    let spec = &service["spec"];
    let families = list(spec, "/ipFamilies").len().max(1);
    holds::has_address(spec) && list(spec, "/clusterIPs").len() < families
        || holds::health_port(spec) == Some(0)
}

/// An update that changes nothing fills in what is missing.
async fn complete(server: &ApiServer, service: &Value) -> Result<(), Failure> {
    let identity = Identity::server();
    let target = Target {
        kind: server.service_kind(),
        namespace: Some(text(service, "/metadata/namespace")),
        name: text(service, "/metadata/name"),
        part: Part::Main,
        dry_run: false,
        manager: "kube-apiserver",
        subresource: "",
        identity: &identity,
    };
    match update::update(server, target, |current| Ok(Change::To(current.clone()))).await {
        Err(failure) if failure.code != http::StatusCode::NOT_FOUND => {
            let service = claim::holder(service);
            tracing::error!(service, why = failure.message, "a Service has no address");
            Ok(())
        }
        _ => Ok(()),
    }
}
