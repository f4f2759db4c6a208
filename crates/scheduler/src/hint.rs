//! What can be done for a pod that asks for more than any node has.
//!
//! Kubernetes' words for it are those for a pod that only has to wait. Where nodes share one machine it is what
//! its user meets first, and no waiting helps.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::cluster::View;
use crate::info::Info;
use crate::requests::{CPU, MEMORY, milli};

/// A sentence about the first resource of which no node has enough, not even an empty one.
pub(crate) fn too_large(info: &Info, view: &View<'_>) -> Option<String> {
    let resource = [CPU, MEMORY].into_iter().find(|resource| {
        let asked = info.requests.amounts.get(resource);
        let mut nodes = view.nodes.iter();
        nodes.all(|(_, state)| asked > state.allocatable.get(resource))
    })?;
    let amounts = view.nodes.iter().filter_map(|(_, state)| {
        let status = state.node.as_ref()?.status.as_ref()?;
        status.allocatable.as_ref()?.get(resource)
    });
    let Quantity(most) = amounts.max_by_key(|amount| milli(amount))?;
    Some(format!(
        "No node has that much {resource}, even when empty: the most is {most}. Nodes share their machine: with \
         fewer `--nodes`, or `{resource}` of a node in the file of `ripstop up --config`, they have more."
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::cluster::Cluster;
    use crate::fixture::{asking, node, pod};

    #[rstest]
    #[case::enough("2", None)]
    #[case::enough_on_one("3", None)]
    #[case::too_much("3500m", Some("No node has that much cpu, even when empty: the most is 3."))]
    fn a_pod_that_no_node_could_ever_take_is_told_what_to_do(
        #[case] cpu: &str,
        #[case] expected: Option<&str>,
    ) {
        let mut cluster = Cluster::default();
        for (name, cpu) in [("a", "1500m"), ("b", "3"), ("c", "200m")] {
            let allocatable = json!({ "cpu": cpu, "memory": "1Gi", "pods": "9" });
            cluster.set_node(&node(name, json!({ "status": { "allocatable": allocatable } })));
        }
        // What is on them already doesn't matter.
        cluster.assume(&pod("there", asking("3", 0)), "b");
        let info = Info::of(&pod("p", asking(cpu, 0)));
        let hint = too_large(&info, &cluster.view());
        assert_eq!(
            hint.as_ref().map(|hint| &hint[..=hint.find(". Nodes").unwrap()]),
            expected
        );
    }
}
