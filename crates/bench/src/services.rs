//! Five thousand Services with a quarter of a million endpoints: what an agent does with them, cold,
//! again, and when one endpoint changes. The endpoints needn't exist for that.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kernel::link::VethEnd;
use kernel::{Applied, Kernel, NetNs, Netlink};
use model::{Endpoint, Hints, Protocol, Service, ServiceName, ServicePort, Slice, SlicePort, Snapshot};
use plan::{Part, ServiceContext, plan, plan_service};
use tempfile::TempDir;

use crate::chains::{Chains, Extent, kernel_memory};
use crate::figures::{Figures, Unit, quantile};
use crate::peers::{Pins, address, member, open};
use crate::process::resident;
use crate::wiring::{node, plug};

const SERVICES: u32 = 5_000;
const ENDPOINTS: u32 = 50;
const OWN: &str = "node-0";
/// How often one endpoint changes.
const CHANGES: u32 = 400;

/// How often one changes in nftables alone.
const CHAINS_CHANGES: u32 = 40;

/// Measures all of it on a node of its own, then the same Services in nftables alone.
pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let own = measure_own(figures).await?;
    let begin = kernel_memory()?;
    let chains = Chains::new(Extent {
        services: SERVICES,
        endpoints: ENDPOINTS,
        address: vip,
        endpoint,
    })?;
    let memory = kernel_memory()? - begin;
    let mut times = Vec::new();
    for change in 0..CHAINS_CHANGES {
        let endpoints = if change % 2 == 0 { ENDPOINTS - 1 } else { ENDPOINTS };
        times.push(chains.change(change * 7 % SERVICES, endpoints)?);
    }
    let mut beside = |what: &str, own: f64, other: f64, unit: Unit| {
        let note = format!("{}, nftables {}", unit.write(own), unit.write(other));
        let what = title(&format!("{what}, against nftables with one chain a Service"));
        figures.add(&what, own / other, Unit::Times, None, note);
    };
    beside("cold", own.cold, chains.cold, Unit::Millis);
    beside(
        "one endpoint changes, p50",
        own.change[0],
        quantile(&times, 0.5),
        Unit::Millis,
    );
    beside(
        "one endpoint changes, p99",
        own.change[1],
        quantile(&times, 0.99),
        Unit::Millis,
    );
    beside("memory of the kernel", own.memory, memory, Unit::MiB);
    Ok(())
}

fn title(what: &str) -> String {
    format!("{SERVICES} Services, {} endpoints: {what}", SERVICES * ENDPOINTS)
}

/// What is compared.
struct Own {
    cold: f64,
    /// The median, and 99 of 100.
    change: [f64; 2],
    /// What the kernel holds, in MiB.
    memory: f64,
    /// What it has is given back later than it's dropped, and would count for whoever comes next.
    _node: Node,
}

async fn measure_own(figures: &mut Figures) -> Result<Own> {
    let before = resident(std::process::id())?;
    let mut catalogue = catalogue();
    let mut node = Node::new().await?;
    let kernel_before = kernel_memory()?;
    let cold = node.apply_all(&catalogue).await?;
    let kernel_holds = kernel_memory()? - kernel_before;
    let note = format!(
        "{} writes; planned in {}",
        cold.writes,
        Unit::Millis.write(cold.planned)
    );
    figures.add(
        &title("planned and written, cold"),
        cold.total,
        Unit::Millis,
        Some(10_000.0),
        note,
    );
    let memory = resident(std::process::id())? - before;
    let note = "Services, parts and what the kernel is known to hold, without the API's client".to_owned();
    figures.add(&title("resident memory"), memory, Unit::MiB, Some(256.0), note);

    node.kernel = open(&node.netns, &node.pins)?;
    let again = node.apply_all(&catalogue).await?;
    if again.writes > 0 {
        bail!(
            "an agent that starts again on the same Services writes {} times",
            again.writes
        );
    }
    let note = "nothing written".to_owned();
    figures.add(
        &title("found in place by a new agent"),
        again.total,
        Unit::Millis,
        Some(10_000.0),
        note,
    );

    let mut times = Vec::new();
    let mut writes = 0;
    for change in 0..CHANGES {
        let number = change * 7 % SERVICES;
        let name = name(number);
        let service = catalogue.get_mut(&name).context("there are as many")?;
        *service = self::service(number, if change % 2 == 0 { ENDPOINTS - 1 } else { ENDPOINTS });
        let begin = Instant::now();
        let part = plan_service(&name, service, &node.context);
        let applied = node
            .kernel
            .apply_services(&BTreeMap::from([(&name, Some(&part))]))
            .await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        check(&applied)?;
        writes = writes.max(applied.writes);
    }
    let note = format!("{CHANGES} changes, of {writes} writes at most");
    let change = [0.5, 0.99].map(|part| quantile(&times, part));
    figures.add(
        &title("one endpoint changes, p50"),
        change[0],
        Unit::Millis,
        None,
        note.clone(),
    );
    figures.add(
        &title("one endpoint changes, p99"),
        change[1],
        Unit::Millis,
        Some(100.0),
        note,
    );
    Ok(Own {
        cold: cold.total,
        change,
        memory: kernel_holds,
        _node: node,
    })
}

/// A node's kernel, and what its Services' parts rest on.
pub(crate) struct Node {
    netns: Arc<NetNs>,
    pub(crate) kernel: Kernel,
    pins: Pins,
    context: ServiceContext,
    /// The link's other end.
    _beyond: NetNs,
}

struct Done {
    planned: f64,
    total: f64,
    writes: usize,
}

impl Node {
    pub(crate) async fn new() -> Result<Self> {
        let (netns, beyond) = (node()?, NetNs::anonymous()?);
        let near = VethEnd {
            name: "port",
            up: true,
            ..VethEnd::default()
        };
        plug(&Netlink::open(&beyond)?, &near, &netns, "eth0", address(0)).await?;
        let snapshot = Snapshot {
            nodes: BTreeMap::from([(OWN.to_owned(), member(0))]),
            ..Snapshot::default()
        };
        let facts = kernel::facts::facts(&Netlink::open(&netns)?, OWN, &[address(0).addr()]).await?;
        let pins = Pins(TempDir::new()?);
        let mut kernel = open(&netns, &pins)?;
        check(&kernel.apply(&plan(&snapshot, &facts)).await?)?;
        let context = ServiceContext::new(&snapshot, &facts);
        Ok(Self {
            netns,
            kernel,
            pins,
            context,
            _beyond: beyond,
        })
    }

    async fn apply_all(&self, catalogue: &BTreeMap<ServiceName, Service>) -> Result<Done> {
        let millis = |begin: Instant| begin.elapsed().as_secs_f64() * 1e3;
        let begin = Instant::now();
        let parts: BTreeMap<ServiceName, Part> = catalogue
            .iter()
            .map(|(name, service)| (name.clone(), plan_service(name, service, &self.context)))
            .collect();
        let planned = millis(begin);
        let applied = self.kernel.apply_all_services(&parts.iter().collect()).await?;
        check(&applied)?;
        Ok(Done {
            planned,
            total: millis(begin),
            writes: applied.writes,
        })
    }
}

fn check(applied: &Applied) -> Result<()> {
    match applied.failures.first() {
        Some((part, error)) => bail!("{part} couldn't be written: {error}"),
        None => Ok(()),
    }
}

fn catalogue() -> BTreeMap<ServiceName, Service> {
    (0..SERVICES)
        .map(|number| (name(number), service(number, ENDPOINTS)))
        .collect()
}

fn name(number: u32) -> ServiceName {
    ServiceName::new(format!("team-{}", number % 50), format!("service-{number}"))
}

fn vip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a60_0100 + number)
}

fn endpoint(number: u32, at: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0b00_0000 + number * ENDPOINTS + at)
}

/// One with a node port, and as many endpoints on a few hundred nodes.
fn service(number: u32, endpoints: u32) -> Service {
    let endpoint = |at: u32| Endpoint {
        address: self::endpoint(number, at).into(),
        node: Some(format!("node-{}", (number + at) % 200).into()),
        ready: true,
        serving: true,
        terminating: false,
        hints: Hints::default(),
    };
    let slice = Slice {
        ports: vec![SlicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: (0..endpoints).map(endpoint).collect(),
    };
    Service {
        cluster_ips: vec![vip(number).into()],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: u16::try_from(30_000 + number).ok().filter(|port| *port < 32_768),
        }],
        slices: BTreeMap::from([("one".to_owned(), Arc::new(slice))]),
        ..Service::default()
    }
}
