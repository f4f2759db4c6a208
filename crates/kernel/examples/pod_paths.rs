//! What pod-to-pod traffic costs beside plain routing: `cargo run --release --example pod_paths --
//! [ROUNDS [WHAT]]`, as in `15 "IPv4 on one node"`. Two clusters of two nodes side by side, alike but that one has neither our programs nor
//! our nftables table; both are measured in turns. Makes its own namespaces and removes them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kernel::nftables::Nft;
use kernel::{Kernel, NetNs, facts};
use model::{Attachment, AttachmentId, Node, PodRef, Snapshot};
use nft::{Family, Place};
use testkit::{Lan, TestNs};

/// How long each measurement takes.
const TIME: Duration = Duration::from_millis(400);
/// Requests that aren't counted.
const WARM: u32 = 200;

#[tokio::main]
async fn main() -> Result<()> {
    let rounds: usize = std::env::args()
        .nth(1)
        .map_or(Ok(15), |text| text.parse())
        .context("ROUNDS is a number")?;
    let clusters = [Cluster::new(false).await?, Cluster::new(true).await?];
    let only = std::env::args().nth(2).unwrap_or_default();
    for (path, server) in [("on one node", 1), ("across nodes", 2)] {
        for version in ["IPv4", "IPv6"] {
            for (what, measure) in [
                ("request and response", kept as fn(SocketAddr) -> Result<f64>),
                ("connection per request", fresh),
                ("datagrams", datagrams),
            ] {
                if !format!("{version} {path}, {what}").contains(&only) {
                    continue;
                }
                let mut times = [Vec::new(), Vec::new()];
                for _ in 0..rounds {
                    for (cluster, times) in clusters.iter().zip(&mut times) {
                        times.push(cluster.measure(server, version == "IPv6", measure)?);
                    }
                }
                let [plain, ours] = times.map(median);
                println!(
                    "{version} {path}, {what}: {ours:.2} µs against {plain:.2} µs, {:.3} ×",
                    ours / plain
                );
            }
        }
    }
    for (counter, count) in clusters[1].kernels[0].counts()? {
        println!("{} {count}", counter.name());
    }
    Ok(())
}

/// Two nodes, two pods on the first and one on the second.
struct Cluster {
    pods: Vec<(TestNs, Vec<IpAddr>)>,
    kernels: Vec<Kernel>,
    _lan: Lan,
}

impl Cluster {
    async fn new(ours: bool) -> Result<Cluster> {
        let lan = Lan::new(2).await;
        let mut nodes = BTreeMap::new();
        for (number, node) in lan.nodes.iter().enumerate() {
            let blocks = [
                format!("10.244.{number}.0/24"),
                format!("fd00:10:244:{number}::/64"),
            ];
            let node = Node {
                addresses: node.addresses().to_vec(),
                pod_cidrs: blocks
                    .iter()
                    .map(|block| block.parse())
                    .collect::<Result<_, _>>()?,
                ..Node::default()
            };
            nodes.insert(number.to_string(), node);
        }
        let (mut pods, mut kernels) = (Vec::new(), Vec::new());
        for (number, node) in lan.nodes.iter().enumerate() {
            let facts = facts::facts(&node.netns.netlink(), &number.to_string(), &node.addresses()).await?;
            let mut snapshot = Snapshot {
                nodes: nodes.clone(),
                ..Snapshot::default()
            };
            for pod in 2..4 - number {
                let netns = TestNs::new("pod").await;
                let id = AttachmentId::new(netns.name(), "eth0");
                let addresses: Vec<IpAddr> = vec![
                    format!("10.244.{number}.{pod}").parse()?,
                    format!("fd00:10:244:{number}::{pod}").parse()?,
                ];
                let attachment = Attachment {
                    pod: PodRef::default(),
                    netns: netns.path().to_string_lossy().into_owned(),
                    host_link: id.host_link(),
                    addresses: addresses.clone(),
                    mtu: 1500,
                    ..Attachment::default()
                };
                snapshot.attachments.insert(id, attachment);
                pods.push((netns, addresses));
            }
            let mut kernel = Kernel::open(NetNs::open(node.netns.path())?, node.netns.pins())?;
            kernel.apply(&plan::plan(&snapshot, &facts)).await?;
            if !ours {
                kernel.bare().await?;
                Nft::open(&node.netns)?.delete_table(&Place::new(Family::Inet, plan::TABLE))?;
            }
            kernels.push(kernel);
        }
        Ok(Cluster {
            pods,
            kernels,
            _lan: lan,
        })
    }

    /// From the first pod to another.
    fn measure(&self, server: usize, v6: bool, measure: fn(SocketAddr) -> Result<f64>) -> Result<f64> {
        let (netns, addresses) = &self.pods[server];
        let address = SocketAddr::new(addresses[usize::from(v6)], 7000);
        let (listener, socket) = netns
            .within(|| Ok::<_, anyhow::Error>((TcpListener::bind(address)?, UdpSocket::bind(address)?)))?;
        let (tcp, udp) = (listener.try_clone()?, socket.try_clone()?);
        let tcp = std::thread::spawn(move || serve_tcp(&tcp));
        let udp = std::thread::spawn(move || serve_udp(&udp));
        let measured = self.pods[0].0.within(|| measure(address));
        netns.within(|| -> Result<()> {
            TcpStream::connect(address)?.write_all(b"q")?;
            let local = UdpSocket::bind(SocketAddr::new(address.ip(), 0))?;
            local.send_to(b"q", address)?;
            Ok(())
        })?;
        let _ = (tcp.join(), udp.join());
        measured
    }
}

fn serve_tcp(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let _ = stream.set_nodelay(true);
        let mut byte = [0];
        while let Ok(1) = stream.read(&mut byte) {
            if byte == *b"q" {
                return;
            }
            let _ = stream.write_all(&byte);
        }
    }
}

fn serve_udp(socket: &UdpSocket) {
    let mut byte = [0];
    while let Ok((1, from)) = socket.recv_from(&mut byte) {
        if byte == *b"q" {
            return;
        }
        let _ = socket.send_to(&byte, from);
    }
}

fn kept(address: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    timed(|| {
        let mut byte = *b"x";
        stream.write_all(&byte)?;
        Ok(stream.read_exact(&mut byte)?)
    })
}

fn fresh(address: SocketAddr) -> Result<f64> {
    timed(|| {
        let mut byte = *b"x";
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&byte)?;
        Ok(stream.read_exact(&mut byte)?)
    })
}

fn datagrams(address: SocketAddr) -> Result<f64> {
    let any: IpAddr = if address.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        [0_u16; 8].into()
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    timed(|| {
        let mut byte = *b"x";
        socket.send(&byte)?;
        socket.recv(&mut byte)?;
        Ok(())
    })
}

/// Microseconds per call.
fn timed(mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..WARM {
        once()?;
    }
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < TIME {
        once()?;
        count += 1;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
