//! WebSockets that end here. Those of exec and attach don't: they pass through to the kubelet.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::metrics;
use crate::reply::{self, Body, Request, Response};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::tunnel;

/// Messages are the bytes of a stream as they are. So they are where no protocol is named.
const BINARY: &str = "binary.k8s.io";
/// Messages are text: the bytes of a stream in base64.
const BASE64: &str = "base64.binary.k8s.io";
/// The version of the protocol that there is.
const VERSION: &str = "13";
/// How long a client may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// The largest message of a client that is taken.
const MAX_MESSAGE: usize = 1 << 20;
/// Buffers for reading and for writing, each.
const BUFFER: usize = 16 << 10;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A header's values, split at commas.
pub(crate) fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

/// Whether a request wants to go on as a WebSocket.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| values(headers, name).any(|value| value.eq_ignore_ascii_case(wanted));
    has(&header::UPGRADE, "websocket") && has(&header::CONNECTION, "upgrade")
}

/// Sends what a body brings, a message for each piece of it, and closes the WebSocket at its end. What the
/// client says doesn't matter, only that it goes.
pub(crate) fn tell(server: &ApiServer, request: Request, body: Body) -> Result<Response, Failure> {
    let held = metrics::held(&request);
    let (answer, opening) = accept(request, &[BINARY, BASE64])?;
    let base64 = opening.protocol == Some(BASE64);
    tunnel::keep(server, held, async move {
        let mut socket = opening.finish().await.map_err(std::io::Error::other)?;
        copy(&mut socket, body, base64).await?;
        close(&mut socket).await
    });
    Ok(answer)
}

/// Carries the bytes of another connection in messages, both ways, until one of both ends.
pub(crate) fn carry(
    server: &ApiServer,
    request: Request,
    protocol: &'static str,
    far: OnUpgrade,
) -> Result<Response, Failure> {
    let held = metrics::held(&request);
    let (answer, opening) = accept(request, &[protocol])?;
    tunnel::keep(server, held, async move {
        let (socket, far) = tokio::try_join!(opening.finish(), far).map_err(std::io::Error::other)?;
        exchange(socket, TokioIo::new(far)).await
    });
    Ok(answer)
}

/// Messages' bytes to `far`, and a message for each piece of what comes from there.
async fn exchange<S, T>(socket: WebSocketStream<S>, far: T) -> tungstenite::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite,
{
    let (mut send, mut receive) = socket.split();
    let (mut read, mut write) = tokio::io::split(far);
    let there = async {
        while let Some(message) = receive.next().await {
            match message? {
                Message::Binary(bytes) => write.write_all(&bytes).await?,
                Message::Close(_) => break,
                // Pings are answered by whoever reads; text isn't part of this.
                _ => {}
            }
        }
        write.shutdown().await?;
        Ok::<_, tungstenite::Error>(())
    };
    let back = async {
        let mut buffer = BytesMut::with_capacity(BUFFER);
        while read.read_buf(&mut buffer).await? > 0 {
            send.send(Message::binary(buffer.split().freeze())).await?;
            buffer.reserve(BUFFER);
        }
        Ok::<_, tungstenite::Error>(())
    };
    tokio::select! {
        outcome = there => outcome?,
        outcome = back => outcome?,
    }
    let mut socket = send.reunite(receive).expect("both are halves of one socket");
    close(&mut socket).await
}

/// A WebSocket that is agreed upon and opens when the answer has been sent.
struct Opening {
    protocol: Option<&'static str>,
    upgrade: OnUpgrade,
}

impl Opening {
    async fn finish(self) -> hyper::Result<Socket> {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let stream = TokioIo::new(self.upgrade.await?);
        Ok(WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await)
    }
}

/// Agrees to a WebSocket: with the first protocol of the client that is one of ours, or none if it names none.
fn accept(mut request: Request, ours: &[&'static str]) -> Result<(Response, Opening), Failure> {
    let headers = request.headers();
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.filter(|_| request.method() == Method::GET).ok_or_else(|| {
        Failure::bad_request("unable to upgrade: a WebSocket begins with a GET that has a Sec-WebSocket-Key")
    })?;
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != VERSION)
    {
        let message = format!("unable to upgrade: the WebSocket's version is to be {VERSION}");
        return Err(Failure::bad_request(message));
    }
    let accepted = derive_accept_key(key.as_bytes());
    let accepted = HeaderValue::try_from(accepted).map_err(Failure::internal)?;
    let protocol = choose(headers, ours)?;
    let mut answer = http::Response::new(reply::full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let head = answer.headers_mut();
    head.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    head.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    head.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    if let Some(protocol) = protocol {
        head.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    Ok((answer, Opening { protocol, upgrade }))
}

fn choose(headers: &HeaderMap, ours: &[&'static str]) -> Result<Option<&'static str>, Failure> {
    let theirs: Vec<_> = values(headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    if theirs.is_empty() {
        return Ok(None);
    }
    let known = |protocol: &&str| ours.iter().find(|known| *known == protocol).copied();
    let chosen = theirs.iter().find_map(known);
    chosen.map(Some).ok_or_else(|| {
        let message = format!(
            "requested protocol(s) are not supported: [{}]; supports [{}]",
            theirs.join(" "),
            ours.join(" ")
        );
        Failure::new(StatusCode::FORBIDDEN, "Forbidden", message)
    })
}

/// The body, until it or the client ends. An empty message comes first, which shows that the WebSocket works.
async fn copy<S>(socket: &mut WebSocketStream<S>, mut body: Body, base64: bool) -> tungstenite::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let message = |bytes: Bytes| match base64 {
        true => Message::text(STANDARD.encode(bytes)),
        false => Message::binary(bytes),
    };
    socket.send(message(Bytes::new())).await?;
    loop {
        tokio::select! {
            frame = body.frame() => match frame {
                Some(Ok(frame)) => if let Ok(bytes) = frame.into_data() {
                    socket.send(message(bytes)).await?;
                },
                Some(Err(error)) => {
                    tracing::debug!(%error, "what a WebSocket tells of broke off");
                    return Ok(());
                }
                None => return Ok(()),
            },
            said = socket.next() => match said {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        }
    }
}

/// Says that this is the end, and waits until the client has heard it.
async fn close<S>(socket: &mut WebSocketStream<S>) -> tungstenite::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let normal = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    // This fails if the client was the first to go.
    let _ = socket.close(Some(normal)).await;
    let gone = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = tokio::time::timeout(GOODBYE, gone).await;
    Ok(socket.get_mut().shutdown().await?)
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::io::DuplexStream;

    use super::*;

    async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (near, far) = tokio::io::duplex(64);
        tokio::join!(
            WebSocketStream::from_raw_socket(near, Role::Server, None),
            WebSocketStream::from_raw_socket(far, Role::Client, None)
        )
    }

    /// Pieces, and no end.
    fn endless(pieces: &[&'static [u8]]) -> Body {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece))))
            .collect();
        StreamBody::new(stream::iter(pieces).chain(stream::pending())).boxed_unsync()
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_what_it_is_told() {
        for says_goodbye in [true, false] {
            let (mut near, mut far) = pair().await;
            let telling = tokio::spawn(async move { copy(&mut near, endless(&[b"a", b"b"]), false).await });
            far.send(Message::text("nobody listens")).await.unwrap();
            for expected in ["", "a", "b"] {
                let message = far.next().await.unwrap().unwrap();
                assert_eq!(message, Message::binary(expected));
            }
            if says_goodbye {
                far.close(None).await.unwrap();
                while far.next().await.is_some() {}
            }
            drop(far);
            let outcome = tokio::time::timeout(Duration::from_secs(60), telling).await;
            assert_eq!(outcome.expect("it ends").unwrap().is_ok(), says_goodbye);
        }
    }

    #[tokio::test]
    async fn the_end_of_a_body_closes_the_socket() {
        let (mut near, mut far) = pair().await;
        let telling = async {
            copy(&mut near, reply::full(&b"line\n"[..]), true).await?;
            close(&mut near).await
        };
        let hearing = async {
            let mut heard = Vec::new();
            while let Some(message) = far.next().await {
                heard.push(message.unwrap());
            }
            heard
        };
        let (outcome, heard) = tokio::join!(telling, hearing);
        outcome.unwrap();
        assert_eq!(heard[..2], [Message::text(""), Message::text("bGluZQo=")]);
        let Message::Close(Some(end)) = &heard[2] else {
            panic!("{heard:?}")
        };
        assert_eq!(end.code, CloseCode::Normal);
    }

    #[test]
    fn the_clients_first_protocol_that_is_ours_is_spoken() {
        let choose = |offered: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offered));
            super::choose(&headers, &[BINARY, BASE64]).map_err(|failure| failure.message)
        };
        assert_eq!(choose(""), Ok(None));
        assert_eq!(
            choose("x, base64.binary.k8s.io,binary.k8s.io"),
            Ok(Some("base64.binary.k8s.io"))
        );
        let refused = choose("v4.channel.k8s.io").unwrap_err();
        assert!(refused.contains("[v4.channel.k8s.io]"), "{refused}");
    }
}
