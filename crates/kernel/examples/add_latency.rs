//! How long the kernel's share of CNI ADD and DEL takes: `cargo run --release --example
//! add_latency -- [PODS]`. Makes its own namespaces and removes them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kernel::Kernel;
use model::{Attachment, AttachmentId, Node, NodeFacts, PodRef, Snapshot, Uplink};
use plan::PartId;
use testkit::{Lan, TestNs};

#[tokio::main]
async fn main() -> Result<()> {
    let pods: u8 = std::env::args()
        .nth(1)
        .map_or(Ok(100), |text| text.parse())
        .context("PODS is 1 to 250")?;
    let lan = Lan::new(1).await;
    let mut snapshot = Snapshot::default();
    let node = Node {
        addresses: lan.nodes[0].addresses().to_vec(),
        pod_cidrs: vec!["10.244.0.0/24".parse()?, "fd00:10:244::/64".parse()?],
        ..Node::default()
    };
    snapshot.nodes.insert("node".to_owned(), node);
    let addresses = vec!["172.30.0.11/24".parse()?, "fd00:172:30::11/64".parse()?];
    let uplink = Uplink {
        name: "eth0".to_owned(),
        mtu: 1500,
        addresses,
    };
    let facts = NodeFacts {
        name: "node".to_owned(),
        uplink,
        ..NodeFacts::default()
    };
    let mut kernel = Kernel::open(
        kernel::NetNs::open(lan.nodes[0].netns.path())?,
        lan.nodes[0].netns.pins(),
    )?;
    kernel.apply(&plan::plan(&snapshot, &facts)).await?;

    let (mut adds, mut dels, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=pods {
        let netns = TestNs::new("pod").await;
        let id = AttachmentId::new(netns.name(), "eth0");
        let attachment = Attachment {
            pod: PodRef::default(),
            netns: netns.path().to_string_lossy().into_owned(),
            host_link: id.host_link(),
            addresses: vec![
                format!("10.244.0.{number}").parse()?,
                format!("fd00:10:244::{number:x}").parse()?,
            ],
            mtu: 1500,
            ..Attachment::default()
        };
        let part = plan::plan_attachment(&id, &attachment, &facts);
        let start = Instant::now();
        kernel.apply_part(&PartId::Attachment(id.clone()), &part).await?;
        adds.push(start.elapsed());
        parts.push((netns, PartId::Attachment(id), part));
    }
    for (_, id, part) in &parts {
        let start = Instant::now();
        kernel.remove_part(id, part).await?;
        dels.push(start.elapsed());
    }
    report("ADD", adds);
    report("DEL", dels);
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!(
        "{what}: p50 {:?}, p90 {:?}, p99 {:?} over {} pods",
        at(50),
        at(90),
        at(99),
        times.len()
    );
}
