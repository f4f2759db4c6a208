//! Datagrams. A thread reads a question, and answers it at once if nobody else has to be asked;
//! if somebody has, the rest is a task of the runtime's, and the thread goes on.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{note, question};
use crate::metrics::count;
use crate::resolver::Resolver;

/// How soon a thread notices that it is to end.
const LOOK_UP: Duration = Duration::from_millis(200);
/// More than one thread a socket doesn't help beyond that.
const MOST_THREADS: usize = 4;

/// One socket's work.
struct Reader {
    resolver: Arc<Resolver>,
    socket: Arc<UdpSocket>,
    tasks: TaskTracker,
    runtime: Handle,
    shutdown: CancellationToken,
}

pub(super) fn start(
    resolver: &Arc<Resolver>,
    sockets: Vec<UdpSocket>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MOST_THREADS);
    let mut running = Vec::new();
    for socket in sockets {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        let socket = Arc::new(socket);
        for _ in 0..threads {
            let reader = Reader {
                resolver: Arc::clone(resolver),
                socket: Arc::clone(&socket),
                tasks: tasks.clone(),
                runtime: Handle::current(),
                shutdown: shutdown.clone(),
            };
            let named = thread::Builder::new().name("dns-udp".to_owned());
            running.push(named.spawn(move || reader.run())?);
        }
    }
    Ok(running)
}

impl Reader {
    fn run(self) {
        // What waits for others needs the runtime's clock and sockets.
        let _inside = self.runtime.enter();
        let (mut buffer, mut reply) = ([0; 4096], Vec::new());
        while !self.shutdown.is_cancelled() {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => self.answer(&buffer[..length], from, &mut reply),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // An earlier answer couldn't be delivered.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => {
                    tracing::warn!(%error, "a datagram can't be read");
                    thread::sleep(LOOK_UP);
                }
            }
        }
    }

    /// `buffer` is for the reply.
    fn answer(&self, bytes: &[u8], from: SocketAddr, buffer: &mut Vec<u8>) {
        let since = Instant::now();
        let metrics = &self.resolver.metrics;
        count(&metrics.udp_requests);
        if self.resolver.reply_at_once(bytes, from.ip(), buffer) {
            note(metrics, buffer, since);
            send(&self.socket, buffer, from);
            return;
        }
        let asked = match question(bytes, metrics) {
            Ok(asked) => asked,
            Err(reply) => {
                if let Some(reply) = reply.filter(|_| self.resolver.admits(from.ip())) {
                    note(metrics, &reply, since);
                    send(&self.socket, &reply, from);
                }
                return;
            }
        };
        let limit = asked.udp_limit();
        let mut reply = Box::pin(Arc::clone(&self.resolver).reply(asked, from.ip(), limit));
        // Nobody wakes it: if it isn't ready at once, the task asks again.
        if let Poll::Ready(reply) = reply.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            note(metrics, &reply, since);
            send(&self.socket, &reply, from);
            return;
        }
        let (resolver, socket) = (Arc::clone(&self.resolver), Arc::clone(&self.socket));
        let work = async move {
            let reply = reply.await;
            note(&resolver.metrics, &reply, since);
            send(&socket, &reply, from);
        };
        self.tasks.spawn_on(work, &self.runtime);
    }
}

fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(reply, to) {
        // The client is gone, or a firewall is in the way: it asks again if it's there.
        tracing::debug!(%error, %to, "a reply can't be sent");
    }
}
