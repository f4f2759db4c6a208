//! Flows for whoever is on the node, as root: where the kubelet is another's, nobody else tells them.
//!
//! A caller writes one line, a [`Query`]; the answer is a flow a line, until there are no more or the caller
//! has gone. What can't be understood is answered with one line, `{"error": …}`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Flows, Query, text};
use crate::socket::{accept, listen};

/// How many may ask at once: more wait.
const CALLERS: usize = 16;
/// How long a query may be, in bytes, and take.
const QUERY: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(5);

/// The listening socket.
#[derive(Debug)]
pub(crate) struct FlowSocket(UnixListener);

impl FlowSocket {
    /// Listens at `path`, for root alone.
    pub(crate) fn bind(path: &Path) -> io::Result<FlowSocket> {
        listen(path).map(FlowSocket)
    }

    /// Answers until `shutdown`.
    pub(crate) async fn serve(self, flows: Arc<Flows>, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(CALLERS));
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await;
                let place = place.expect("nobody closes it");
                (accept(&self.0, "a question for flows").await, place)
            };
            let (stream, place) = tokio::select! {
                () = shutdown.cancelled() => return,
                next = next => next,
            };
            let (flows, shutdown) = (flows.clone(), shutdown.clone());
            tokio::spawn(async move {
                let _place = place;
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    answered = answer(&flows, stream) => if let Err(error) = answered {
                        debug!(%error, "whoever asked for flows has gone");
                    }
                }
            });
        }
    }
}

async fn answer(flows: &Arc<Flows>, stream: UnixStream) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(QUERY));
    let mut query = String::new();
    tokio::time::timeout(PATIENCE, read.read_line(&mut query)).await??;
    let query: Query = match query.trim_end().parse() {
        Ok(query) => query,
        Err(error) => return write.write_all(&text(&json!({"error": error}))).await,
    };
    let follows = query.follow;
    let mut lines = flows.lines(query);
    let mut more = [0; 1];
    loop {
        tokio::select! {
            line = lines.next() => match line {
                Some(line) => write.write_all(&line).await?,
                None => return write.shutdown().await,
            },
            // A follower's end, as it has nothing more to say. Others may have closed their side.
            _ = read.read(&mut more), if follows => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::flow;
    use super::*;

    async fn ask(path: &Path, query: &str) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(path).await.expect("it listens");
        stream.write_all(query.as_bytes()).await.expect("it reads");
        BufReader::new(stream)
    }

    async fn line(reader: &mut BufReader<UnixStream>) -> String {
        let mut line = String::new();
        reader.read_line(&mut line).await.expect("it answers");
        line
    }

    #[tokio::test]
    async fn whoever_asks_hears_what_was_and_what_comes_and_is_forgotten_as_it_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("flows.sock");
        let flows = Arc::new(Flows::default());
        let stop = CancellationToken::new();
        let socket = FlowSocket::bind(&path).expect("a socket");
        let serve = tokio::spawn(socket.serve(flows.clone(), stop.clone()));
        flows.push(flow(1));
        let mut kept = ask(&path, "port=1\n").await;
        assert!(line(&mut kept).await.contains("\"port\":1"));
        assert_eq!(line(&mut kept).await, "", "there are no more");
        let mut wrong = ask(&path, "port=none\n").await;
        assert_eq!(line(&mut wrong).await, "{\"error\":\"port=none is no port\"}\n");
        let mut live = ask(&path, "follow=true&last=0\n").await;
        let mut followers = flows.followers();
        followers.wait_for(|count| *count == 1).await.expect("they live");
        flows.push(flow(2));
        assert!(line(&mut live).await.contains("\"port\":2"));
        drop(live);
        followers.wait_for(|count| *count == 0).await.expect("they live");
        stop.cancel();
        serve.await.expect("it ends");
    }
}
