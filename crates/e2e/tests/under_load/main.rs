//! Faults under load: requests go on while things break, and each that fails is counted. The bar is none, for
//! everything that still has a healthy endpoint.
//!
//! One cluster serves for all of it. `RIPSTOP_CHURN` says for how many seconds each fault goes on.

mod agents;
mod changes;
mod drain;
mod lab;
mod names;
mod nodes;
mod rollout;

use lab::Lab;

#[test]
fn requests_do_not_fail_while_the_cluster_changes_and_breaks() {
    let lab = Lab::start();
    lab.ports_are_as_asked_for();
    changes::services_and_endpoints_change(&lab);
    agents::agents_are_killed(&lab);
    rollout::pods_are_replaced(&lab);
    drain::a_node_is_drained(&lab);
    names::servers_of_other_names_are_dead_or_lie(&lab);
    names::the_dns_is_killed_and_replaced(&lab);
    // The last: it is down afterwards.
    nodes::a_node_stops(&lab);
}
