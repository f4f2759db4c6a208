//! Which node's pods a block of addresses belongs to.

use std::collections::BTreeMap;

use ipnet::IpNet;
use model::Snapshot;

/// Every node's blocks, without overlaps.
#[derive(Debug, Default)]
pub(crate) struct Blocks<'a> {
    owners: BTreeMap<IpNet, &'a str>,
    by_node: BTreeMap<&'a str, Vec<IpNet>>,
    /// Blocks that were left out, and why.
    pub(crate) conflicts: Vec<String>,
}

impl<'a> Blocks<'a> {
    /// Collects them. Where two nodes' blocks overlap the first by name keeps its own, on every
    /// node alike.
    pub(crate) fn new(snapshot: &'a Snapshot) -> Blocks<'a> {
        let mut blocks = Blocks::default();
        for (name, node) in &snapshot.nodes {
            for net in node.pod_cidrs.iter().map(IpNet::trunc) {
                match blocks.overlapping(net) {
                    Some((_, owner)) if owner == name => {}
                    Some((taken, owner)) => blocks.conflicts.push(format!(
                        "pod addresses {net} of node {name} overlap {taken} of node {owner} and are ignored; give node {name} others"
                    )),
                    None => drop(blocks.owners.insert(net, name)),
                }
            }
        }
        for (net, owner) in &blocks.owners {
            blocks.by_node.entry(owner).or_default().push(*net);
        }
        blocks
    }

    /// One node's blocks, in order.
    pub(crate) fn of(&self, node: &str) -> impl Iterator<Item = IpNet> {
        self.by_node.get(node).into_iter().flatten().copied()
    }

    /// A block that shares addresses with this one. Blocks don't overlap each other, so it's enough
    /// to look next to where it would be.
    fn overlapping(&self, net: IpNet) -> Option<(IpNet, &'a str)> {
        let before = self.owners.range(..=net).next_back();
        let after = self.owners.range(net..).next();
        before
            .into_iter()
            .chain(after)
            .map(|(taken, owner)| (*taken, *owner))
            .find(|(taken, _)| overlap(*taken, net))
    }
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}
