//! Datagrams. A thread reads a question, and answers it at once if nobody else has to be asked;
//! if somebody has, the rest is a task of the runtime's, and the thread goes on.
//!
//! To fall asleep and to be woken takes longer than an answer: while questions come close together, a thread
//! looks for the next one for a moment before it sleeps, and gives way to whoever wants the processor.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recvfrom};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{note, question};
use crate::metrics::count;
use crate::resolver::Resolver;

/// How soon a thread notices that it is to end.
const LOOK_UP: Duration = Duration::from_millis(200);
/// How close together: about as long as it takes to be woken.
const AWAKE: Duration = Duration::from_micros(50);
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
        let mut pace = Pace::default();
        while !self.shutdown.is_cancelled() {
            match self.next(&mut buffer, &mut pace) {
                Ok((length, from)) => {
                    self.answer(&buffer[..length], from, &mut reply);
                    pace.answered(Instant::now());
                }
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

    /// The next question; asleep until it comes, unless it's likely to come at once.
    fn next(&self, buffer: &mut [u8], pace: &mut Pace) -> io::Result<(usize, SocketAddr)> {
        while pace.is_awake(Instant::now()) {
            match recvfrom(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, length, Some(from))) => {
                    pace.asked(Instant::now());
                    let from = from.try_into().map_err(io::Error::from)?;
                    return Ok((length.min(buffer.len()), from));
                }
                Ok((_, _, None)) => return Err(ErrorKind::Interrupted.into()),
                Err(rustix::io::Errno::AGAIN) => thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
        let came = self.socket.recv_from(buffer);
        pace.asked(Instant::now());
        came
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

/// How close together questions come to one thread.
#[derive(Debug, Default)]
struct Pace {
    /// When the last one was answered.
    answered: Option<Instant>,
    /// It came close to the one before.
    is_close: bool,
}

impl Pace {
    /// Whether the next question is likely to come sooner than this thread would be woken.
    fn is_awake(&self, now: Instant) -> bool {
        self.is_close && self.is_near(now)
    }

    /// A question has come.
    fn asked(&mut self, now: Instant) {
        self.is_close = self.is_near(now);
    }

    /// It's answered.
    fn answered(&mut self, now: Instant) {
        self.answered = Some(now);
    }

    fn is_near(&self, now: Instant) -> bool {
        self.answered
            .is_some_and(|last| now.saturating_duration_since(last) < AWAKE)
    }
}

fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(reply, to) {
        // The client is gone, or a firewall is in the way: it asks again if it's there.
        tracing::debug!(%error, %to, "a reply can't be sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_awake_for_a_moment_while_questions_come_close_together() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        let at = |moments: u32| begin + AWAKE / 2 * moments;
        assert!(!pace.is_awake(at(0)), "before any question");
        pace.asked(at(0));
        pace.answered(at(0));
        assert!(!pace.is_awake(at(0)), "after a single one");
        pace.asked(at(1));
        pace.answered(at(1));
        assert!(pace.is_awake(at(2)), "after two, for a moment");
        assert!(!pace.is_awake(at(3)), "and no longer");
        pace.asked(at(9));
        pace.answered(at(9));
        assert!(!pace.is_awake(at(10)), "after one that came late");
    }
}
