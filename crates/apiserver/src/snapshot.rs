//! `GET /snapshot`: all objects as of one moment, for `ripstop snapshot save`.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::reply::{self, BoxError, Response};
use crate::server::ApiServer;

/// How much is sent at a time.
const PIECE: usize = 64 << 10;
/// How many pieces wait for a slow client.
const AHEAD: usize = 8;

/// Streams a snapshot. A client that gets less than all of it sees the stream broken off.
pub(crate) fn send(server: Arc<ApiServer>) -> Response {
    let (sender, pieces) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let to = Pieces {
            sender,
            piece: Vec::with_capacity(PIECE),
        };
        match server.store.save(to) {
            Ok(summary) => tracing::info!(?summary, "snapshot"),
            Err(error) => tracing::warn!(%error, "snapshot"),
        }
    });
    let mut answer = reply::bytes(StatusCode::OK, "application/octet-stream", "");
    let pieces = futures::stream::unfold(Some(pieces), |pieces| async {
        let mut pieces = pieces?;
        match pieces.recv().await {
            Some(Piece::Data(data)) => Some((Ok(Frame::data(data)), Some(pieces))),
            Some(Piece::End) => None,
            None => Some((Err(BoxError::from("the snapshot broke off")), None)),
        }
    });
    *answer.body_mut() = BodyExt::boxed_unsync(StreamBody::new(pieces.boxed()));
    answer
}

enum Piece {
    Data(Bytes),
    End,
}

/// Writes into the channel; waits while the client is slow, fails when it is gone.
struct Pieces {
    sender: mpsc::Sender<Piece>,
    piece: Vec<u8>,
}

impl Pieces {
    fn send(&self, piece: Piece) -> io::Result<()> {
        let sent = self.sender.blocking_send(piece);
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone"))
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.send(Piece::Data(piece.into()))
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.pass_on()?;
        }
        Ok(bytes.len())
    }

    /// The end of the snapshot.
    fn flush(&mut self) -> io::Result<()> {
        if !self.piece.is_empty() {
            self.pass_on()?;
        }
        self.send(Piece::End)
    }
}
