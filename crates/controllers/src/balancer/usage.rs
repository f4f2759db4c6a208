//! Says in each pool's status how much of it is used, and what of it can't be.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::object::{Family, LoadBalancerPool, Status};
use super::table::Table;
use crate::error::{Doing, Error, ignore_missing};
use crate::informer::{Cache, Key};
use crate::queue::{Queue, Reconcile};

const READY: &str = "Ready";

/// The controller of the pools' statuses.
#[derive(Clone)]
pub(super) struct Controller {
    pub(super) client: Client,
    pub(super) pools: Cache<LoadBalancerPool>,
    pub(super) table: Arc<Mutex<Table>>,
    pub(super) queue: Queue<Key>,
}

impl Reconcile for Controller {
    const NAME: &'static str = "load balancer pools";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(object) = self.pools.get(&key) else {
            return Ok(());
        };
        let wanted = {
            let table = self
                .table
                .lock()
                .expect("no code panics while it holds the table");
            let now = Time(Timestamp::now());
            status(&table, &object, now)
        };
        let Some(wanted) = wanted.filter(|wanted| object.status.as_ref() != Some(wanted)) else {
            return Ok(());
        };
        let api: Api<LoadBalancerPool> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({ "metadata": { "uid": object.metadata.uid }, "status": wanted }));
        let written = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
        ignore_missing(written.doing(|| format!("say how much of LoadBalancerPool {key} is used"))).map(drop)
    }
}

/// A pool's status; `None` if the table doesn't know the pool.
pub(super) fn status(table: &Table, object: &LoadBalancerPool, now: Time) -> Option<Status> {
    let pool = table.pool(object.metadata.name.as_deref()?)?;
    let small = |count: u128| i64::try_from(count).unwrap_or(i64::MAX);
    let family = |ipv4| {
        let (used, free) = table.count(pool, ipv4);
        Family {
            used: small(used),
            free: small(free),
        }
    };
    let (ipv4, ipv6) = (family(true), family(false));
    let (ready, reason, message) = if !pool.problems.is_empty() {
        ("False", "Invalid", pool.problems.join("; "))
    } else if let Some((other, address)) = table.overlap(pool) {
        let message =
            format!("pool {other} has the same addresses, from {address} on: who has one has it in both");
        ("True", "Overlaps", message)
    } else {
        ("True", "Usable", "all its addresses can be used".to_owned())
    };
    let old = object.status.as_ref();
    let since = old
        .and_then(|status| status.conditions.iter().find(|one| one.type_ == READY))
        .filter(|condition| condition.status == ready)
        .map_or(now, |condition| condition.last_transition_time.clone());
    Some(Status {
        used: ipv4.used.saturating_add(ipv6.used),
        ipv4,
        ipv6,
        conditions: vec![Condition {
            type_: READY.to_owned(),
            status: ready.to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: since,
            observed_generation: object.metadata.generation,
        }],
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::balancer::pool::Pool;

    fn object(name: &str, addresses: Value) -> LoadBalancerPool {
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": { "addresses": addresses } }))
            .unwrap()
    }

    #[test]
    fn a_pool_says_how_much_of_it_is_used_and_what_is_wrong() {
        let (a, b) = (
            object("a", json!(["10.0.0.0/24", "fd00::/64"])),
            object("b", json!(["10.0.0.9-10.0.1.9", "x-y"])),
        );
        let mut table = Table::default();
        table.set_pools([&a, &b].map(Pool::of).into());
        table.occupy(&Key::new("n", "s"), &[[10, 0, 0, 9].into()]);
        let at = |seconds| Time(Timestamp::from_second(seconds).unwrap());
        let of_a = status(&table, &a, at(1)).unwrap();
        assert_eq!((of_a.used, of_a.ipv4.free, of_a.ipv6.free), (1, 255, i64::MAX));
        assert_eq!(of_a.conditions[0].reason, "Overlaps");
        assert!(
            of_a.conditions[0]
                .message
                .contains("pool b has the same addresses, from 10.0.0.9"),
            "{:?}",
            of_a.conditions
        );
        let of_b = status(&table, &b, at(1)).unwrap();
        assert_eq!((of_b.used, of_b.conditions[0].status.as_str()), (1, "False"));
        assert!(of_b.conditions[0].message.contains("\"x-y\" is no range"));
        // Time passes, and nothing else: nothing is to be written.
        let mut told = a;
        told.status = Some(of_a.clone());
        assert_eq!(status(&table, &told, at(2)), Some(of_a));
    }
}
