//! Pods that are replaced, and drain on SIGTERM.

use e2e::eventually;

use crate::lab::{Lab, WAIT};

pub(crate) fn pods_are_replaced(lab: &Lab) {
    let cluster = &lab.cluster;
    let before: Vec<String> = cluster.pods("web").into_iter().map(|pod| pod.name).collect();
    let loads = lab.load();
    cluster.kubectl(&["rollout", "restart", "deployment/web"]).ok();
    cluster
        .kubectl(&["rollout", "status", "--timeout=120s", "deployment/web"])
        .ok();
    // And those that were replaced are gone.
    eventually(WAIT, || {
        let list = cluster.kubectl(&["get", "pods", "-o", "name"]).ok();
        let left = before.iter().find(|name| list.contains(*name));
        left.map_or(Ok(()), |name| Err(format!("{name} is there")))
    });
    loads.assert_whole(lab, "pods are replaced");
}
