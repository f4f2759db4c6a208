//! The same Services in nftables alone, as a proxy without programs of its own has them: a map leads from
//! an address to the Service's chain, whose one rule picks an endpoint by chance. `nft` writes it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kernel::NetNs;

/// Which Services there are.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) services: u32,
    pub(crate) endpoints: u32,
    /// A Service's address.
    pub(crate) address: fn(u32) -> Ipv4Addr,
    /// An endpoint's, by the numbers of Service and endpoint.
    pub(crate) endpoint: fn(u32, u32) -> Ipv4Addr,
}

/// A namespace with all of it.
pub(crate) struct Chains {
    netns: NetNs,
    extent: Extent,
    /// How long it took to write, in milliseconds.
    pub(crate) cold: f64,
}

impl Chains {
    pub(crate) fn new(extent: Extent) -> Result<Self> {
        let netns = NetNs::anonymous()?;
        let mut text = String::from("table ip services {\n");
        for service in 0..extent.services {
            // A String takes everything that is written to it.
            let _ = writeln!(
                text,
                "chain s{service} {{ {}; }}",
                rule(&extent, service, extent.endpoints)
            );
        }
        text += "map services { type ipv4_addr . inet_proto . inet_service : verdict; elements = {\n";
        for service in 0..extent.services {
            let _ = writeln!(
                text,
                "{} . tcp . 80 : goto s{service},",
                (extent.address)(service)
            );
        }
        text += "} }\nchain prerouting { type nat hook prerouting priority dstnat; \
                 ip daddr . meta l4proto . th dport vmap @services; }\n}\n";
        let begin = Instant::now();
        nft(&netns, &text)?;
        let cold = begin.elapsed().as_secs_f64() * 1e3;
        Ok(Self { netns, extent, cold })
    }

    /// Gives a Service that many endpoints; how many milliseconds that took.
    pub(crate) fn change(&self, service: u32, endpoints: u32) -> Result<f64> {
        let rule = rule(&self.extent, service, endpoints);
        let text = format!("flush chain ip services s{service}\nadd rule ip services s{service} {rule}\n");
        let begin = Instant::now();
        nft(&self.netns, &text)?;
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    }
}

fn rule(extent: &Extent, service: u32, endpoints: u32) -> String {
    let mut text = format!("meta l4proto tcp dnat ip to numgen random mod {endpoints} map {{ ");
    for at in 0..endpoints {
        let _ = write!(text, "{at} : {} . 8080, ", (extent.endpoint)(service, at));
    }
    text + "}"
}

fn nft(netns: &NetNs, text: &str) -> Result<()> {
    netns.run(|| -> Result<()> {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start nft: install nftables (scripts/deps.sh --bench does)")?;
        let mut input = child.stdin.take().context("its input is piped")?;
        input.write_all(text.as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("nft: {}", said.lines().next().unwrap_or_default());
        }
        Ok(())
    })?
}

/// Memory that the kernel holds in small pieces, in MiB: what rules, sets and tables are made of.
pub(crate) fn kernel_memory() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.with_context(|| format!("/proc/meminfo has no {name}"))
    };
    Ok((line("SUnreclaim:")? + line("Percpu:")?) / 1024.0)
}
