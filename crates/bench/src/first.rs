//! How soon a new pod can talk across nodes, counted from the moment its ADD returns.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kernel::NetNs;

use crate::cluster::Cluster;
use crate::cni::Pod;
use crate::extent::Extent;
use crate::figures::{Figures, Unit, quantile};

/// Of each direction. Fewer than a node has addresses: one that was given back rests for a while.
const COUNT: usize = 50;
const BAR: f64 = 200.0;
/// A SYN that gets lost comes again after a second: rather a new connection.
const PATIENCE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(5);

/// Attaches pods to one node that connect, or are connected to, from another node.
pub(crate) fn measure(cluster: &Cluster, extent: &Extent, figures: &mut Figures) -> Result<()> {
    let count = extent.pods(COUNT);
    let (old_node, new_node) = (cluster.plugin("node-1")?, cluster.plugin("node-3")?);
    let old = Pod::new("first-old")?;
    let (attached, _) = old_node.attach(&old)?;
    let (_listener, port) = listen(&old.netns)?;
    let old_at = SocketAddr::new(attached.address()?, port);
    let (mut outward, mut inward) = (Vec::new(), Vec::new());
    for number in 0..2 * count {
        let new = Pod::new(&format!("first-{number}"))?;
        let (_listener, port) = listen(&new.netns)?;
        let (attached, _) = new_node.attach(&new)?;
        if number % 2 == 0 {
            outward.push(connect(&new.netns, old_at)?);
        } else {
            inward.push(connect(&old.netns, SocketAddr::new(attached.address()?, port))?);
        }
    }
    for (what, times) in [
        ("to another node's pod", &outward),
        ("from another node's pod", &inward),
    ] {
        let note = format!(
            "{count} pods, median {}",
            Unit::Millis.write(quantile(times, 0.5))
        );
        figures.add(
            &format!("a new pod's first connection {what}, after its ADD, 99 of 100"),
            quantile(times, 0.99),
            Unit::Millis,
            Some(BAR),
            note,
        );
    }
    Ok(())
}

fn listen(netns: &NetNs) -> Result<(TcpListener, u16)> {
    // Before the pod has its address.
    let listener = netns.run(|| TcpListener::bind("[::]:0"))??;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Milliseconds until a connection is there.
fn connect(from: &NetNs, to: SocketAddr) -> Result<f64> {
    let begin = Instant::now();
    let connected = from.run(|| {
        loop {
            match TcpStream::connect_timeout(&to, PATIENCE) {
                Ok(_) => return Ok(begin.elapsed()),
                Err(error) if begin.elapsed() > LIMIT => return Err(error),
                // Refused or unreachable at once: don't turn it into a flood.
                Err(_) => std::thread::sleep(Duration::from_micros(500)),
            }
        }
    })?;
    let took = connected.with_context(|| format!("{to} isn't reached {LIMIT:?} after ADD"))?;
    Ok(took.as_secs_f64() * 1e3)
}
