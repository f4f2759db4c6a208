//! Ports of the machine that lead to nodes: each connection, and each sender of datagrams, is passed on.
//!
//! Nodes see the machine as the client. A port that can't be listened at is told in the cluster's notes, and
//! tried again.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::protocol::NodeState;
use crate::run::Supervisor;
use crate::settings::{MachinePort, Protocol};

/// How often a port that somebody else has is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long a node may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a sender of datagrams is remembered after the last one in either direction.
const IDLE: Duration = Duration::from_secs(60);
/// Senders of datagrams at once, a port.
const SENDERS: usize = 1024;
const DATAGRAM: usize = 65_536;

/// Passes on what comes to the cluster's ports, until dropped.
pub(crate) async fn run(supervisor: Arc<Supervisor>) {
    let mut ports = JoinSet::new();
    for port in &supervisor.cluster.settings.ports {
        ports.spawn(keep(Arc::clone(&supervisor), port.clone()));
    }
    while ports.join_next().await.is_some() {}
}

/// What listens at a port of the machine.
enum Listener {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Listener {
    async fn bind(port: &MachinePort) -> std::io::Result<Self> {
        let at = SocketAddr::new(port.address, port.port);
        match port.protocol {
            Protocol::Tcp => TcpListener::bind(at).await.map(Self::Tcp),
            Protocol::Udp => UdpSocket::bind(at).await.map(Self::Udp),
        }
    }

    /// Returns the error that keeps it from going on.
    async fn pass_on(self, supervisor: &Arc<Supervisor>, port: &MachinePort) -> std::io::Error {
        match self {
            Self::Tcp(listener) => streams(supervisor, port, listener).await,
            Self::Udp(socket) => datagrams(supervisor, port, Arc::new(socket)).await,
        }
    }
}

async fn keep(supervisor: Arc<Supervisor>, port: MachinePort) {
    let mut note: Option<String> = None;
    loop {
        let failed = match Listener::bind(&port).await {
            Ok(listener) => {
                if let Some(note) = note.take() {
                    supervisor.state.withdraw(&note);
                }
                listener.pass_on(&supervisor, &port).await
            }
            Err(error) => error,
        };
        if note.is_none() {
            let at = SocketAddr::new(port.address, port.port);
            tracing::warn!(%at, error = %failed, "can't listen at a port of the machine");
            let text = format!(
                "{at} doesn't lead to a node: {failed}; it is tried again every {} s",
                RETRY.as_secs()
            );
            supervisor.state.note(text.clone());
            note = Some(text);
        }
        sleep(RETRY).await;
    }
}

/// The nodes that a port leads to, those to be tried first in front.
fn targets(supervisor: &Supervisor, port: &MachinePort) -> Vec<SocketAddr> {
    let nodes = supervisor.cluster.nodes.iter();
    let wanted = nodes.filter(|node| port.node.as_ref().is_none_or(|name| *name == node.name));
    let running = wanted.filter(|node| supervisor.node_state(&node.name) == NodeState::Running);
    let address = |addresses: &[IpAddr]| {
        let same_family = addresses
            .iter()
            .find(|address| address.is_ipv4() == port.address.is_ipv4());
        same_family.or(addresses.first()).copied()
    };
    running
        .filter_map(|node| Some(SocketAddr::new(address(&node.addresses)?, port.node_port)))
        .collect()
}

/// Returns the error that keeps it from going on.
async fn streams(supervisor: &Arc<Supervisor>, port: &MachinePort, listener: TcpListener) -> std::io::Error {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(pass_on(targets(supervisor, port), stream));
                }
                // Out of descriptors, most likely: some will come free.
                Err(error) => {
                    tracing::warn!(%error, port = port.port, "can't accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass_on(targets: Vec<SocketAddr>, mut near: TcpStream) {
    for target in targets {
        let Ok(Ok(mut far)) = timeout(CONNECT, TcpStream::connect(target)).await else {
            continue;
        };
        for stream in [&near, &far] {
            stream.set_nodelay(true).ok();
        }
        if let Err(error) = copy_bidirectional(&mut near, &mut far).await {
            tracing::debug!(%error, %target, "a passed on connection broke off");
        }
        return;
    }
}

/// Returns the error that keeps it from going on.
async fn datagrams(supervisor: &Arc<Supervisor>, port: &MachinePort, near: Arc<UdpSocket>) -> std::io::Error {
    let mut senders: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let (length, sender) = tokio::select! {
            received = near.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // An answer that a sender no longer waits for.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return error,
            },
            Some(ended) = answers.join_next() => {
                if let Ok(sender) = ended {
                    senders.remove(&sender);
                }
                continue;
            }
        };
        if !senders.contains_key(&sender) {
            let Some(target) = targets(supervisor, port)
                .first()
                .copied()
                .filter(|_| senders.len() < SENDERS)
            else {
                continue;
            };
            match far_end(target).await {
                Ok(far) => {
                    let far = Arc::new(far);
                    answers.spawn(answer(Arc::clone(&near), Arc::clone(&far), sender));
                    senders.insert(sender, far);
                }
                Err(error) => {
                    tracing::debug!(%error, %target, "can't pass on datagrams");
                    continue;
                }
            }
        }
        if let Some(far) = senders.get(&sender) {
            // A lost datagram is nothing special.
            far.send(&buffer[..length]).await.ok();
        }
    }
}

async fn far_end(target: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Passes answers back until there have been none for a while; says whose they were.
async fn answer(near: Arc<UdpSocket>, far: Arc<UdpSocket>, sender: SocketAddr) -> SocketAddr {
    let mut buffer = vec![0; DATAGRAM];
    while let Ok(Ok(length)) = timeout(IDLE, far.recv(&mut buffer)).await {
        near.send_to(&buffer[..length], sender).await.ok();
    }
    sender
}
