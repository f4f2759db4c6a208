//! Names, while those who know other names are dead or lie, and while the DNS itself is killed.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use e2e::resolver::{self, Asker};
use e2e::{Tally, eventually};
use kernel::NetNs;

use crate::lab::{Lab, WAIT};

/// What is true, and what liars say.
const TRUE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const LIE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
const CLUSTER_NAME: &str = "steady.default.svc.cluster.local";

/// How a server of other names behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Manner {
    Honest,
    Dead,
    WrongId,
    WrongQuestion,
    /// Nothing but that the answer is too long for a datagram; by TCP it is honest.
    Truncated,
    Failing,
}

const MANNERS: [Manner; 6] = [
    Manner::Honest,
    Manner::Dead,
    Manner::WrongId,
    Manner::WrongQuestion,
    Manner::Truncated,
    Manner::Failing,
];

pub(crate) fn servers_of_other_names_are_dead_or_lie(lab: &Lab) {
    let switch = NetNs::open_named(&format!("ripstop-{}-switch", lab.cluster.name())).expect("it is there");
    let address = server_address(lab);
    let (first, second) = (
        Upstream::start(&switch, address),
        Upstream::start(&switch, address),
    );
    configure(lab, Some(&[first.at, second.at]));
    let node = SocketAddr::new(lab.node_address("node-1"), 53);
    eventually(WAIT, || {
        told(&mut Asker::new(node), "known.outside.example", TRUE)
    });
    let length = lab.length / 4;
    for manner in MANNERS {
        first.be(manner);
        let (cluster, other) = ask_for(node, length, &format!("{manner:?}").to_lowercase());
        println!(
            "the first server is {manner:?}: {} and {} names",
            cluster.answered, other.answered
        );
        cluster.assert_whole(&format!("cluster names, the first server is {manner:?}"));
        other.assert_whole(&format!("other names, the first server is {manner:?}"));
    }

    // Nobody is left: cluster names and what is remembered go on, and the rest is refused rather than left open.
    first.be(Manner::Dead);
    second.be(Manner::Dead);
    let mut asker = Asker::new(node);
    let mut tally = Tally::default();
    let end = Instant::now() + length;
    while Instant::now() < end {
        tally.count(cluster_name(&mut asker));
        tally.count(told(&mut asker, "known.outside.example", TRUE));
    }
    tally.assert_whole("all servers are dead");
    eventually(WAIT, || {
        let unknown = asker.ask("unknown.outside.example")?;
        // A failure that is said.
        match (unknown.code, unknown.address) {
            (2, None) => Ok(()),
            _ => Err(format!("{unknown:?}")),
        }
    });
    configure(lab, None);
}

/// Cluster names and others, each of the others new, for that long.
fn ask_for(node: SocketAddr, length: Duration, word: &str) -> (Tally, Tally) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let cluster = thread::spawn(move || {
        let (mut asker, mut tally) = (Asker::new(node), Tally::default());
        while !stopped.load(Ordering::Relaxed) {
            tally.count(cluster_name(&mut asker));
            sleep(Duration::from_millis(2));
        }
        tally
    });
    let end = Instant::now() + length;
    let others: Vec<JoinHandle<Tally>> = (0..4)
        .map(|thread| {
            let word = word.to_owned();
            thread::spawn(move || {
                let (mut asker, mut tally) = (Asker::new(node), Tally::default());
                for number in 0.. {
                    let name = format!("{word}-{thread}-{number}.outside.example");
                    tally.count(told(&mut asker, &name, TRUE));
                    if Instant::now() > end {
                        break;
                    }
                }
                tally
            })
        })
        .collect();
    let mut other = Tally::default();
    for thread in others {
        other.add(thread.join().expect("asking doesn't panic"));
    }
    stop.store(true, Ordering::Relaxed);
    (cluster.join().expect("asking doesn't panic"), other)
}

/// A question that is asked once: the answer is the truth, or it is no answer.
fn told(asker: &mut Asker, name: &str, truth: Ipv4Addr) -> Result<(), String> {
    let reply = asker.ask(name)?;
    match (reply.code, reply.address) {
        (0, Some(address)) if address == truth => Ok(()),
        _ => Err(format!("{name}: {reply:?}")),
    }
}

fn cluster_name(asker: &mut Asker) -> Result<(), String> {
    let reply = asker.ask(CLUSTER_NAME)?;
    match (reply.code, reply.address) {
        (0, Some(_)) => Ok(()),
        _ => Err(format!("{CLUSTER_NAME}: {reply:?}")),
    }
}

/// Which servers the DNS asks; those of the nodes if none are named.
fn configure(lab: &Lab, servers: Option<&[SocketAddr]>) {
    let servers: Vec<String> = servers.into_iter().flatten().map(ToString::to_string).collect();
    let data = match servers.is_empty() {
        true => serde_json::json!({}),
        false => serde_json::json!({ "upstreams": serde_json::to_string(&servers).expect("JSON") }),
    };
    lab.apply(&[
        serde_json::json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": { "name": "ripstop-dns", "namespace": "kube-system" } }),
    ]);
}

/// The address of the cluster's server: its namespace is on the nodes' link, and behind nobody's firewall.
fn server_address(lab: &Lab) -> IpAddr {
    let endpoints = lab.cluster.get(&["endpoints", "kubernetes"]);
    let address = endpoints["subsets"][0]["addresses"][0]["ip"].as_str();
    address
        .expect("an address")
        .parse()
        .expect("the API's addresses are right")
}

/// A server of other names, by UDP and TCP.
struct Upstream {
    at: SocketAddr,
    manner: Arc<AtomicU8>,
}

impl Upstream {
    fn start(netns: &NetNs, address: IpAddr) -> Upstream {
        let bound = netns.run(|| {
            let udp = UdpSocket::bind((address, 0))?;
            let tcp = TcpListener::bind(udp.local_addr()?)?;
            std::io::Result::Ok((udp, tcp))
        });
        let (udp, tcp) = bound.expect("the namespace is there").expect("a port");
        let upstream = Upstream {
            at: udp.local_addr().expect("it is bound"),
            manner: Arc::new(AtomicU8::new(Manner::Honest as u8)),
        };
        // Both threads end with the process.
        let manner = Arc::clone(&upstream.manner);
        thread::spawn(move || serve_udp(&udp, &manner));
        let manner = Arc::clone(&upstream.manner);
        thread::spawn(move || serve_tcp(&tcp, &manner));
        upstream
    }

    fn be(&self, manner: Manner) {
        self.manner.store(manner as u8, Ordering::Relaxed);
    }
}

fn now(manner: &AtomicU8) -> Manner {
    MANNERS[usize::from(manner.load(Ordering::Relaxed))]
}

fn serve_udp(socket: &UdpSocket, manner: &AtomicU8) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if let Some(reply) = reply(&buffer[..length], now(manner)) {
            // Whoever asked may be gone.
            let _ = socket.send_to(&reply, from);
        }
    }
}

fn serve_tcp(listener: &TcpListener, manner: &AtomicU8) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        if now(manner) == Manner::Dead {
            continue;
        }
        let mut answer = || -> std::io::Result<()> {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question)?;
            let reply = resolver::answer(&question, TRUE).unwrap_or_default();
            let length = u16::try_from(reply.len()).expect("it is short").to_be_bytes();
            stream.write_all(&[&length[..], &reply].concat())
        };
        // Whoever asked may be gone.
        let _ = answer();
    }
}

fn reply(question: &[u8], manner: Manner) -> Option<Vec<u8>> {
    match manner {
        Manner::Honest => resolver::answer(question, TRUE),
        Manner::Dead => None,
        Manner::WrongId => {
            let mut reply = resolver::answer(question, LIE)?;
            reply[0] ^= 0x55;
            Some(reply)
        }
        Manner::WrongQuestion => {
            let mut reply = resolver::answer(question, LIE)?;
            // Another first letter.
            reply[13] = if reply[13] == b'x' { b'y' } else { b'x' };
            Some(reply)
        }
        Manner::Truncated => {
            let mut reply = resolver::refusal(question, 0)?;
            reply[2] |= 2;
            Some(reply)
        }
        Manner::Failing => resolver::refusal(question, 2),
    }
}

/// A resolver that hears nothing asks again after 5 seconds.
const RESOLVERS_RETRY: Duration = Duration::from_secs(12);
const BETWEEN_ENDS: Duration = Duration::from_secs(1);

/// Ended in good order it loses no question: each is asked once. Killed, it loses what it has read at that moment,
/// of one who asks one question after the other at most one: asked again, as resolvers do, it is answered.
pub(crate) fn the_dns_is_killed_and_replaced(lab: &Lab) {
    let loads = lab.patient_load(RESOLVERS_RETRY);
    let node = SocketAddr::new(lab.node_address("node-1"), 53);
    let (ends, lost) = end_the_dns(lab, node, "-TERM");
    println!("the DNS ended {ends} times in good order: {lost:?}");
    lost.assert_whole("the DNS is ended in good order");
    let (kills, asked) = end_the_dns(lab, node, "-KILL");
    println!("the DNS was killed {kills} times: {asked:?}");
    assert!(
        asked.answered > 0 && asked.failed() <= kills,
        "{kills} kills: {asked:?}"
    );
    for node in ["node-2", "node-3"] {
        lab.kill(&format!("dns {node}"), "-KILL");
    }
    loads.assert_whole(lab, "the DNS is killed");
}

/// Asks questions, each once, while the DNS of the first node is ended again and again; how often it was, and what
/// became of the questions.
fn end_the_dns(lab: &Lab, node: SocketAddr, signal: &str) -> (u64, Tally) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let asking = thread::spawn(move || {
        let (mut asker, mut tally) = (Asker::new(node), Tally::default());
        while !stopped.load(Ordering::Relaxed) {
            tally.count(cluster_name(&mut asker));
        }
        tally
    });
    let (end, mut ends) = (Instant::now() + lab.length / 2, 0);
    while Instant::now() < end || ends == 0 {
        sleep(BETWEEN_ENDS);
        ends += u64::from(lab.kill("dns node-1", signal));
    }
    // The last one is over, too.
    eventually(WAIT, || cluster_name(&mut Asker::new(node)));
    stop.store(true, Ordering::Relaxed);
    (ends, asking.join().expect("asking doesn't panic"))
}
