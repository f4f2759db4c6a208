//! CNI ADD and DEL through the real plugin, as containerd calls it, in turns with others' plugins.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::cni::{Plugin, Pod};
use crate::extent::Extent;
use crate::figures::{Figures, Unit, quantile};
use crate::known;
use crate::paths::Beside;
use crate::plugins::Plugins;

/// Fewer than a node has addresses: one that was given back rests for a while.
const COUNT: usize = 120;
const NODE: &str = "node-1";
const NAMESPACE: &str = "bench-add";

/// A plugin, and how long its calls took, in milliseconds.
struct Measured {
    name: &'static str,
    plugin: Arc<Plugin>,
    adds: Vec<f64>,
    dels: Vec<f64>,
}

/// Attaches and detaches one pod after the other on a node: each of Ripstop's is one that the API has.
pub(crate) async fn measure(
    cluster: &Cluster,
    extent: &Extent,
    beside: &[Beside],
    figures: &mut Figures,
) -> Result<()> {
    let count = extent.pods(COUNT);
    let mut ours = Measured::new("Ripstop", cluster.plugin(NODE)?);
    let (mut others, mut kept) = (Vec::new(), Vec::new());
    for kind in beside.iter().filter_map(|beside| beside.plugin()) {
        let plugins = Plugins::find()?;
        others.push(Measured::new(kind, plugins.on_a_node(kind)?));
        kept.push(plugins);
    }
    let client = cluster.client().await?;
    known::namespace(&client, NAMESPACE).await?;
    let names = (0..count).map(|number| format!("pod-{number}"));
    for (number, known) in known::pods(&client, NAMESPACE, names).await?.iter().enumerate() {
        ours.call(&Pod::of(known)?).context(ours.name)?;
        for one in &mut others {
            let pod = Pod::new(&format!("add-{number}"))?;
            one.call(&pod).context(one.name)?;
        }
    }
    known::remove_namespace(&client, NAMESPACE).await?;
    let medians = |times: fn(&Measured) -> &[f64]| {
        let others = others.iter().map(|other| {
            let median = Unit::Millis.write(quantile(times(other), 0.5));
            format!("{} {median}", other.name)
        });
        others.collect::<Vec<_>>().join(", ")
    };
    let (adds, dels) = (medians(|one| &one.adds), medians(|one| &one.dels));
    let calls = format!("of {count}");
    for (what, times, share, bar, note) in [
        ("CNI ADD, median", &ours.adds, 0.5, Some(10.0), adds.as_str()),
        ("CNI ADD, 99 of 100", &ours.adds, 0.99, None, &calls),
        ("CNI DEL, median", &ours.dels, 0.5, None, &dels),
        ("CNI DEL, 99 of 100", &ours.dels, 0.99, None, ""),
    ] {
        figures.add(what, quantile(times, share), Unit::Millis, bar, note.to_owned());
    }
    Ok(())
}

impl Measured {
    fn new(name: &'static str, plugin: Arc<Plugin>) -> Self {
        let (adds, dels) = (Vec::new(), Vec::new());
        Self {
            name,
            plugin,
            adds,
            dels,
        }
    }

    fn call(&mut self, pod: &Pod) -> Result<()> {
        let added = self.plugin.call("ADD", pod);
        // Also what went wrong half-way is taken back.
        let deleted = self.plugin.call("DEL", pod);
        self.adds.push(added?.1.as_secs_f64() * 1e3);
        self.dels.push(deleted?.1.as_secs_f64() * 1e3);
        Ok(())
    }
}
