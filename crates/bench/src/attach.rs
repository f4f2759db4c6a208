//! CNI ADD and DEL through the real plugin, as containerd calls it.

use anyhow::Result;

use crate::cluster::Cluster;
use crate::cni::Pod;
use crate::extent::Extent;
use crate::figures::{Figures, Unit, quantile};

/// Fewer than a node has addresses: one that was given back rests for a while.
const COUNT: usize = 120;
const NODE: &str = "node-1";

/// Attaches and detaches one namespace after the other on a node.
pub(crate) fn measure(cluster: &Cluster, extent: &Extent, figures: &mut Figures) -> Result<()> {
    let count = extent.pods(COUNT);
    let plugin = cluster.plugin(NODE)?;
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    for number in 0..count {
        let pod = Pod::new(&format!("add-{number}"))?;
        let added = plugin.call("ADD", &pod);
        // Also what went wrong half-way is taken back.
        let deleted = plugin.call("DEL", &pod);
        adds.push(added?.1.as_secs_f64() * 1e3);
        dels.push(deleted?.1.as_secs_f64() * 1e3);
    }
    let note = format!("{count} times, one after the other, the plugin's own start included");
    for (what, times, share, bar, note) in [
        ("CNI ADD, median", &adds, 0.5, Some(10.0), note.as_str()),
        ("CNI ADD, 99 of 100", &adds, 0.99, None, ""),
        ("CNI DEL, median", &dels, 0.5, None, ""),
        ("CNI DEL, 99 of 100", &dels, 0.99, None, ""),
    ] {
        figures.add(what, quantile(times, share), Unit::Millis, bar, note.to_owned());
    }
    Ok(())
}
