//! From where other servers are asked.
//!
//! Usually from here. The nodes of a cluster on one machine are namespaces of it, and a server on the machine's
//! loopback can be asked from the machine alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// Which kind of socket is to be opened elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// For datagrams.
    Udp,
    /// For a connection.
    Tcp,
}

/// Opens a socket elsewhere, to ask that server with. It is neither bound nor connected yet.
pub type Elsewhere = dyn Fn(SocketAddr, Transport) -> io::Result<OwnedFd> + Send + Sync;

/// From where other servers are asked.
#[derive(Clone, Default)]
pub struct Way {
    elsewhere: Option<Arc<Elsewhere>>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.elsewhere {
            Some(_) => "Way(loopback elsewhere)",
            None => "Way(from here)",
        })
    }
}

impl Way {
    /// Servers on loopback are asked by sockets that this opens; all others from here.
    #[must_use]
    pub fn to_loopback(open: Arc<Elsewhere>) -> Way {
        Way {
            elsewhere: Some(open),
        }
    }

    fn socket(&self, server: SocketAddr, transport: Transport) -> io::Result<Socket> {
        let socket = match &self.elsewhere {
            Some(open) if server.ip().is_loopback() => open(server, transport)?.into(),
            _ => {
                let kind = match transport {
                    Transport::Udp => Type::DGRAM,
                    Transport::Tcp => Type::STREAM,
                };
                Socket::new(Domain::for_address(server), kind, None)?
            }
        };
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// From a port of its own, so that whoever wants to forge an answer has to guess that, too.
    pub(super) async fn datagrams(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = self.socket(server, Transport::Udp)?;
        socket.bind(&SocketAddr::new(any, 0).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        socket.connect(server).await?;
        Ok(socket)
    }

    pub(super) async fn connection(&self, server: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.socket(server, Transport::Tcp)?;
        TcpSocket::from_std_stream(socket.into()).connect(server).await
    }
}
