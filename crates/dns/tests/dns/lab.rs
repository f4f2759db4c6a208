//! A DNS on loopback, and servers that it may ask.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use dns::forward::{Bounds, Forwarder, Routes, Way};
use dns::metrics::Metrics;
use dns::name;
use dns::record::{Endpoint, Key, Kind, Node, Port, Service, Slice};
use dns::resolver::Resolver;
use dns::settings::Settings;
use dns::table::{Table, Zone};
use dns::{Sockets, serve};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Long enough for a slow day.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn named(text: &str) -> Name {
    name::parse(text).unwrap()
}

fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}

pub(crate) fn port(name: &str, protocol: &str, number: u16) -> Port {
    Port {
        name: name.to_owned(),
        protocol: protocol.to_owned(),
        number,
    }
}

/// An endpoint, on the node whose number is in its address.
pub(crate) fn endpoint(address: &str, hostname: Option<&str>, ready: bool) -> Endpoint {
    let number = match ip(address) {
        IpAddr::V4(v4) => v4.octets()[2].into(),
        IpAddr::V6(v6) => v6.segments()[3],
    };
    Endpoint {
        address: ip(address),
        hostname: hostname.map(Box::from),
        node: Some(format!("node-{number}").into()),
        ready,
    }
}

/// An empty table of `cluster.local`.
pub(crate) fn table() -> Table {
    let zone = Zone {
        domain: named("cluster.local"),
        servers: vec![ip("10.96.0.10"), ip("fd00:10:96::a")],
        ranges: vec![
            "10.96.0.0/16".parse().unwrap(),
            "fd00:10:96::/112".parse().unwrap(),
        ],
    };
    Table::new(zone, 1)
}

/// A table with one of everything.
pub(crate) fn cluster() -> Table {
    let mut table = table();
    table.put_namespace("default".to_owned());
    table.put_namespace("empty".to_owned());
    let service = |kind, ports: &[Port]| Service {
        kind,
        ports: ports.to_vec(),
    };
    let https = port("https", "tcp", 443);
    let addresses = vec![ip("10.96.0.1"), ip("fd00:10:96::1")];
    table.put_service(
        key("default", "kubernetes"),
        service(Kind::Cluster(addresses), &[https, port("", "tcp", 80)]),
    );
    table.put_service(
        key("default", "only-v4"),
        service(Kind::Cluster(vec![ip("10.96.0.7")]), &[port("dns", "udp", 53)]),
    );
    table.put_service(
        key("default", "db"),
        service(Kind::Headless { unready: false }, &[port("sql", "tcp", 5432)]),
    );
    table.put_service(
        key("default", "peers"),
        service(Kind::Headless { unready: true }, &[]),
    );
    table.put_service(
        key("default", "idle"),
        service(Kind::Headless { unready: false }, &[]),
    );
    let external = |target: &str| service(Kind::External(target.to_owned()), &[]);
    table.put_service(key("default", "outside"), external("www.example.com"));
    table.put_service(
        key("default", "inside"),
        external("kubernetes.default.svc.cluster.local"),
    );
    table.put_service(
        key("default", "circle"),
        external("circle.default.svc.cluster.local"),
    );
    table.put_service(key("default", "address"), external("192.0.2.1"));
    let slice = |service: &str, endpoints: &[Endpoint], ports: &[Port]| Slice {
        service: service.to_owned(),
        endpoints: endpoints.to_vec(),
        ports: ports.to_vec(),
    };
    let sql = [port("sql", "tcp", 5432)];
    let of_db = [
        endpoint("10.244.1.2", Some("db-0"), true),
        endpoint("10.244.2.2", Some("db-1"), true),
        endpoint("10.244.2.3", None, true),
        endpoint("10.244.2.9", Some("db-2"), false),
    ];
    table.put_slice(key("default", "db-v4"), slice("db", &of_db, &sql));
    let of_db = [endpoint("fd00:10:244:1::2", Some("db-0"), true)];
    table.put_slice(key("default", "db-v6"), slice("db", &of_db, &sql));
    let of_peers = [endpoint("10.244.1.7", Some("peer-0"), false)];
    table.put_slice(key("default", "peers-1"), slice("peers", &of_peers, &[]));
    let of_idle = [endpoint("10.244.1.8", None, false)];
    table.put_slice(key("default", "idle-1"), slice("idle", &of_idle, &[]));
    let of_kubernetes = [endpoint("172.30.0.2", None, true)];
    table.put_slice(
        key("default", "kubernetes"),
        slice("kubernetes", &of_kubernetes, &sql),
    );
    for (name, number) in [("node-1", 1), ("ip-10-0-0-2.ec2.internal", 2)] {
        let node = Node {
            addresses: vec![
                ip(&format!("172.30.0.1{number}")),
                ip(&format!("fd00:172:30::1{number}")),
            ],
            pod_cidrs: vec![
                format!("10.244.{number}.0/24").parse().unwrap(),
                format!("fd00:10:244:{number}::/64").parse().unwrap(),
            ],
        };
        table.put_node(name.to_owned(), node);
    }
    table
}

/// A DNS that answers on loopback until it's dropped.
pub(crate) struct Dns {
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) address: SocketAddr,
    _end: DropGuard,
}

impl Dns {
    /// One that asks those.
    pub(crate) fn start(upstreams: &[SocketAddr]) -> Dns {
        Dns::bounded(upstreams, Bounds::default())
    }

    pub(crate) fn bounded(upstreams: &[SocketAddr], bounds: Bounds) -> Dns {
        let metrics = Arc::new(Metrics::default());
        let forwarder = Forwarder::new(routes(upstreams), bounds, Arc::clone(&metrics));
        let resolver = Resolver::new(cluster(), forwarder, Vec::new(), metrics);
        resolver.set_known();
        Dns::of(Arc::new(resolver))
    }

    /// One that asks those as that leads.
    pub(crate) fn by(upstreams: &[SocketAddr], way: Way) -> Dns {
        let metrics = Arc::new(Metrics::default());
        let forwarder = Forwarder::new(routes(upstreams), Bounds::default(), Arc::clone(&metrics)).by(way);
        let resolver = Resolver::new(cluster(), forwarder, Vec::new(), metrics);
        resolver.set_known();
        Dns::of(Arc::new(resolver))
    }

    /// One that answers with that.
    pub(crate) fn of(resolver: Arc<Resolver>) -> Dns {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let sockets = Sockets {
            udp: vec![udp],
            tcp: vec![TcpListener::bind(address).unwrap()],
        };
        let end = CancellationToken::new();
        tokio::spawn(serve(Arc::clone(&resolver), sockets, end.clone()));
        Dns {
            resolver,
            address,
            _end: end.drop_guard(),
        }
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        let text = self.resolver.metrics();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("ripstop_dns_{name} ")));
        line.unwrap().parse().unwrap()
    }

    /// Asks over UDP, off the runtime's threads.
    pub(crate) async fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.send(query(name, kind)).await
    }

    pub(crate) async fn send(&self, message: Message) -> Message {
        let bytes = self.send_bytes(message.to_vec().unwrap()).await;
        let reply = Message::from_vec(&bytes).unwrap();
        assert_eq!(reply.metadata.id, message.metadata.id);
        assert_eq!(reply.metadata.message_type, MessageType::Response);
        reply
    }

    pub(crate) async fn send_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        let to = self.address;
        let work = move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(&bytes, to).unwrap();
            let mut buffer = vec![0; 65536];
            let length = socket.recv(&mut buffer).expect("an answer");
            buffer.truncate(length);
            buffer
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    /// Asks several questions on one connection before it reads an answer.
    pub(crate) async fn ask_by_tcp(&self, questions: Vec<Message>) -> Vec<Message> {
        let to = self.address;
        let work = move || {
            let mut stream = TcpStream::connect(to).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            for question in &questions {
                stream.write_all(&framed(&question.to_vec().unwrap())).unwrap();
            }
            let read = |_| Message::from_vec(&read_framed(&mut stream).unwrap()).unwrap();
            questions.iter().map(read).collect()
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    }
}

pub(crate) fn routes(upstreams: &[SocketAddr]) -> Routes {
    let settings = Settings::default();
    Routes {
        upstreams: upstreams.to_vec(),
        stubs: Vec::new(),
        keep: settings.keep,
        stale: settings.stale,
    }
}

pub(crate) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(named(name), kind));
    message
}

pub(crate) fn framed(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

pub(crate) fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The records of an answer as text: `NAME TTL TYPE DATA` without the time, in order of text.
pub(crate) fn lines(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = records
        .iter()
        .map(|record| line(&record.name, &record.data))
        .collect();
    lines.sort();
    lines
}

fn line(name: &Name, data: &RData) -> String {
    format!("{name} {} {data}", data.record_type())
}

/// Another server, at 127.0.0.2, as whoever asks isn't asked: what it does with a question is the test's.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    by_tcp: Arc<AtomicUsize>,
}

/// What another server does: with the question and whether it came by TCP, these datagrams.
pub(crate) type Behaviour = dyn Fn(&Message, bool) -> Vec<Vec<u8>> + Send + Sync;

impl Upstream {
    /// The threads end with the test's process.
    pub(crate) fn start(
        behaviour: impl Fn(&Message, bool) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Upstream {
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let udp = UdpSocket::bind("127.0.0.2:0").unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).unwrap();
        let upstream = Upstream {
            address,
            asked: Arc::default(),
            by_tcp: Arc::default(),
        };
        let (asked, behave) = (Arc::clone(&upstream.asked), Arc::clone(&behaviour));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                asked.fetch_add(1, Ordering::SeqCst);
                let message = Message::from_vec(&buffer[..length]).unwrap();
                for reply in behave(&message, false) {
                    udp.send_to(&reply, from).unwrap();
                }
            }
        });
        let asked = Arc::clone(&upstream.by_tcp);
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                asked.fetch_add(1, Ordering::SeqCst);
                let Ok(bytes) = read_framed(&mut stream) else {
                    continue;
                };
                for reply in behaviour(&Message::from_vec(&bytes).unwrap(), true) {
                    let _ = stream.write_all(&framed(&reply));
                }
            }
        });
        upstream
    }

    /// One that knows those names, in zone files' format, and of no others.
    pub(crate) fn knowing(ttl: u32, names: &[(&str, &str)]) -> Upstream {
        let names: Vec<(Name, RData)> = names
            .iter()
            .map(|(name, data)| (named(name), data_of(data)))
            .collect();
        Upstream::start(move |asked, _| {
            let query = &asked.queries[0];
            let known = names.iter().filter(|(name, _)| name == query.name());
            let mut reply = reply_to(asked);
            let mut there = false;
            for (name, data) in known {
                there = true;
                if data.record_type() == query.query_type() {
                    reply.add_answer(Record::from_rdata(name.clone(), ttl, data.clone()));
                }
            }
            if !there {
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
            if reply.answers.is_empty() {
                reply.add_authority(soa(ttl));
            }
            vec![reply.to_vec().unwrap()]
        })
    }

    /// How often it was asked by UDP.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn asked_by_tcp(&self) -> usize {
        self.by_tcp.load(Ordering::SeqCst)
    }
}

pub(crate) fn data_of(text: &str) -> RData {
    use hickory_proto::rr::rdata::{A, AAAA};
    match ip(text) {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

pub(crate) fn soa(ttl: u32) -> Record {
    use hickory_proto::rr::rdata::SOA;
    let soa = SOA::new(named("ns.example"), named("who.example"), 1, 1, 1, 1, ttl);
    Record::from_rdata(named("example"), ttl, RData::SOA(soa))
}

pub(crate) fn reply_to(asked: &Message) -> Message {
    let mut reply = Message::response(asked.metadata.id, OpCode::Query);
    reply.metadata.recursion_available = true;
    reply.add_queries(asked.queries.clone());
    reply
}

/// An answer with that address, to whatever was asked.
pub(crate) fn answer(asked: &Message, ttl: u32, address: &str) -> Message {
    let mut reply = reply_to(asked);
    let name = asked.queries[0].name().clone();
    reply.add_answer(Record::from_rdata(name, ttl, data_of(address)));
    reply
}
