//! Logs and streams, against a kubelet made for the test.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pki::{Authority, Subject};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::support::{PODS, Running, client_pair, pod};

/// A kubelet that notes what it is asked, says a line as every log, and echoes every stream.
pub(crate) struct FakeKubelet {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

fn roots(authority: &Authority) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    let pem = authority.cert_pem().as_bytes();
    roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    roots
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn pair(pair: &pki::KeyPairPem) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    (
        vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()],
        PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
    )
}

impl FakeKubelet {
    async fn start(authority: &Authority) -> FakeKubelet {
        let issued = authority
            .issue_server(&Subject::new("n1"), &["127.0.0.1".to_owned()])
            .unwrap();
        let (chain, key) = pair(&issued);
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots(authority)),
            provider(),
        );
        // Only the server's certificate opens the door.
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kubelet = FakeKubelet {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
        };
        let requests = kubelet.requests.clone();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stream = acceptor.accept(stream).await.unwrap();
                let requests = requests.clone();
                let service = hyper::service::service_fn(move |request| answer(requests.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades(),
                );
            }
        });
        kubelet
    }

    pub(crate) fn last(&self) -> String {
        self.requests.lock().unwrap().last().unwrap().clone()
    }
}

async fn answer(
    requests: Arc<Mutex<Vec<String>>>,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    requests.lock().unwrap().push(request.uri().to_string());
    let mut response = Response::new(Full::new(Bytes::from_static(b"a line\n")));
    if request.uri().path() == "/page" {
        let headers = response.headers_mut();
        headers.insert("content-type", "text/html".parse().unwrap());
        headers.insert("access-control-allow-origin", "*".parse().unwrap());
        *response.body_mut() = Full::new(Bytes::from_static(b"<a href='/x'><a href='x'>"));
    } else if request.uri().path() == "/moved" {
        *response.status_mut() = http::StatusCode::FOUND;
        // To where the request says that this is.
        let host = request.headers()["host"].to_str().unwrap();
        let location = format!("https://{host}/page").parse().unwrap();
        response.headers_mut().insert("location", location);
    } else if request.uri().path().ends_with("/broken") {
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        *response.body_mut() = Full::new(Bytes::from_static(b"container \"broken\" is waiting to start"));
    } else if let Some(protocol) = request.headers().get("upgrade").cloned() {
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", protocol);
        response
            .headers_mut()
            .insert("connection", "Upgrade".parse().unwrap());
        let version = "x-stream-protocol-version";
        if let Some(value) = request.headers().get(version).cloned() {
            response.headers_mut().insert(version, value);
        }
        tokio::spawn(async move {
            let stream = hyper::upgrade::on(&mut request).await.unwrap();
            let (mut read, mut write) = tokio::io::split(TokioIo::new(stream));
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        });
    }
    Ok(response)
}

/// A server with a node that the fake kubelet speaks for, and pods on it.
pub(crate) async fn start() -> (Running, FakeKubelet) {
    let running = Running::start().await;
    let kubelet = FakeKubelet::start(&running.authority).await;
    let raw = running.raw();
    let node = json!({
        "metadata": { "name": "n1" },
        "status": {
            "addresses": [{ "type": "Hostname", "address": "n1" }, { "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": kubelet.address.port() } },
        },
    });
    assert_eq!(raw.post("/api/v1/nodes", &node).await.code, 201);
    for (name, containers) in [("one", &["c"][..]), ("two", &["a", "broken"][..])] {
        raw.post(PODS, &pod(name, containers)).await;
        let target = json!({ "target": { "name": "n1" } });
        assert_eq!(
            raw.post(&format!("{PODS}/{name}/binding"), &target).await.code,
            201
        );
    }
    raw.post(PODS, &pod("unbound", &["c"])).await;
    (running, kubelet)
}

/// An HTTP/1.1 request over TLS, as an administrator.
pub(crate) async fn send(running: &Running, request: Request<Empty<Bytes>>) -> Response<Incoming> {
    let (chain, key) = pair(&client_pair(&running.authority, "admin", "system:masters"));
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&running.authority))
        .with_client_auth_cert(chain, key)
        .unwrap();
    let stream = TcpStream::connect(running.address).await.unwrap();
    let name = ServerName::from(running.address.ip());
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.unwrap()
}

pub(crate) fn upgrade(path: &str, headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::post(path)
        .header("host", "server")
        .header("connection", "Upgrade");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn logs_come_from_the_kubelet() {
    let (running, kubelet) = start().await;
    let path = format!("{PODS}/one/log?tailLines=3&follow=true&pretty=true");
    let answer = send(&running, Request::get(path).body(Empty::new()).unwrap()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(text(answer).await, "a line\n");
    assert_eq!(
        kubelet.last(),
        "/containerLogs/default/one/c?follow=true&tailLines=3"
    );
}

#[tokio::test]
async fn a_log_needs_a_container_that_can_be_told() {
    let (running, kubelet) = start().await;
    let raw = running.raw();
    let two = raw.get(&format!("{PODS}/two/log")).await;
    assert_eq!(
        (two.code, two.message()),
        (
            400,
            "a container name must be specified for pod two, choose one of: [a broken]"
        )
    );
    let none = raw.get(&format!("{PODS}/two/log?container=x")).await;
    assert_eq!(
        (none.code, none.message()),
        (400, "container x is not valid for pod two")
    );
    assert_eq!(raw.get(&format!("{PODS}/two/log?container=a")).await.code, 200);
    assert_eq!(kubelet.last(), "/containerLogs/default/two/a?");
    let broken = raw.get(&format!("{PODS}/two/log?container=broken")).await;
    assert_eq!(
        (broken.code, broken.message()),
        (400, "container \"broken\" is waiting to start")
    );
    assert_eq!(raw.get(&format!("{PODS}/unbound/log")).await.code, 204);
    assert_eq!(raw.get(&format!("{PODS}/none/log")).await.code, 404);
}

/// The head of a request for a WebSocket.
fn websocket(path: &str, protocols: &str) -> Request<Empty<Bytes>> {
    let mut request = upgrade(
        path,
        &[
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", protocols),
        ],
    );
    *request.method_mut() = http::Method::GET;
    request
}

#[tokio::test]
async fn a_log_comes_over_a_websocket_for_who_asks_for_one() {
    let (running, kubelet) = start().await;
    let path = format!("{PODS}/one/log?tailLines=3");
    for (offered, spoken, line) in [
        ("", None, Message::binary("a line\n")),
        (
            "binary.k8s.io",
            Some("binary.k8s.io"),
            Message::binary("a line\n"),
        ),
        (
            "x, base64.binary.k8s.io",
            Some("base64.binary.k8s.io"),
            Message::text("YSBsaW5lCg=="),
        ),
    ] {
        let mut answer = send(&running, websocket(&path, offered)).await;
        assert_eq!(answer.status(), 101, "{offered}");
        let headers = answer.headers();
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let protocol = headers.get("sec-websocket-protocol");
        assert_eq!(protocol.map(|it| it.to_str().unwrap()), spoken);
        let stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        let heard: Vec<_> = socket.map(Result::unwrap).collect().await;
        assert!(heard[0].is_empty(), "{heard:?}");
        assert_eq!(heard[1], line);
        assert!(matches!(heard[2..], [Message::Close(_)]), "{heard:?}");
        assert_eq!(kubelet.last(), "/containerLogs/default/one/c?tailLines=3");
    }
    for (path, protocols, code, words) in [
        ("one/log", "v4.channel.k8s.io", 403, "not supported"),
        ("two/log?container=broken", "", 400, "is waiting to start"),
        ("none/log", "", 404, "not found"),
        ("unbound/log", "", 204, ""),
    ] {
        let refused = send(&running, websocket(&format!("{PODS}/{path}"), protocols)).await;
        assert_eq!(refused.status(), code, "{path}");
        let why = text(refused).await;
        assert!(why.contains(words), "{path}: {why}");
    }
    for missing in ["sec-websocket-key", "sec-websocket-version"] {
        let mut request = websocket(&path, "");
        request.headers_mut().remove(missing);
        assert_eq!(send(&running, request).await.status(), 400, "{missing}");
    }
}

#[tokio::test]
async fn ports_are_forwarded_in_messages_for_who_asks_so() {
    let (running, kubelet) = start().await;
    let protocol = "SPDY/3.1+portforward.k8s.io";
    let path = format!("{PODS}/one/portforward?ports=80");
    let mut answer = send(&running, websocket(&path, protocol)).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
    assert_eq!(kubelet.last(), "/portForward/default/one?port=80");
    let stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    let (mut send, mut receive) = socket.split();
    let sent: Vec<u8> = (0..300_000u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
    let writing = async {
        for piece in sent.chunks(10_000) {
            send.send(Message::binary(piece.to_vec())).await.unwrap();
        }
    };
    let mut received = Vec::new();
    let receiving = async {
        while received.len() < sent.len() {
            let piece = receive.next().await.expect("more comes").unwrap();
            received.extend_from_slice(&piece.into_data());
        }
    };
    tokio::join!(writing, receiving);
    assert!(received == sent);
    send.close().await.unwrap();
    let last: Vec<_> = receive.map(Result::unwrap).collect().await;
    assert!(matches!(last[..], [Message::Close(_)]), "{last:?}");
    let refused = websocket(&format!("{PODS}/unbound/portforward"), protocol);
    let refused = self::send(&running, refused).await;
    assert_eq!(refused.status(), 400);
}

#[tokio::test]
async fn a_stream_passes_through_byte_for_byte() {
    let (running, kubelet) = start().await;
    for (path, asked) in [
        (
            "one/exec?command=sh&command=-c&command=a+b&stdin=true&stdout=True&stderr=False&tty=true",
            "/exec/default/one/c?command=sh&command=-c&command=a+b&input=1&output=1&tty=1",
        ),
        (
            "two/attach?container=a&stdout=1&stderr=1",
            "/attach/default/two/a?output=1&error=1",
        ),
        ("one/portforward?ports=80", "/portForward/default/one?port=80"),
    ] {
        let headers = [
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ];
        let mut answer = send(&running, upgrade(&format!("{PODS}/{path}"), &headers)).await;
        assert_eq!(answer.status(), 101, "{path}");
        assert_eq!(answer.headers()["upgrade"], "SPDY/3.1");
        assert_eq!(answer.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
        assert_eq!(kubelet.last(), asked);
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
        let sent: Vec<u8> = (0..300_000u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        let (mut read, mut write) = tokio::io::split(&mut stream);
        let mut received = Vec::new();
        let (wrote, read) = tokio::join!(
            async {
                write.write_all(&sent).await?;
                write.shutdown().await
            },
            read.read_to_end(&mut received)
        );
        wrote.unwrap();
        read.unwrap();
        assert!(received == sent, "{path}");
    }
}

#[tokio::test]
async fn newer_websocket_protocols_are_refused_so_that_clients_fall_back() {
    let (running, kubelet) = start().await;
    let path = format!("{PODS}/one/exec?command=x&stdout=1");
    let websocket = |protocols| [("upgrade", "websocket"), ("sec-websocket-protocol", protocols)];
    let refused = send(&running, upgrade(&path, &websocket("v5.channel.k8s.io"))).await;
    assert_eq!(refused.status(), 400);
    assert!(text(refused).await.contains("v5.channel.k8s.io"));
    let taken = send(
        &running,
        upgrade(&path, &websocket("v5.channel.k8s.io, v4.channel.k8s.io")),
    )
    .await;
    assert_eq!(taken.status(), 101);
    assert_eq!(kubelet.last(), "/exec/default/one/c?command=x&output=1");
    for older in [
        "channel.k8s.io",
        "base64.channel.k8s.io",
        "v4.base64.channel.k8s.io",
    ] {
        let taken = send(&running, upgrade(&path, &websocket(older))).await;
        assert_eq!(taken.status(), 101, "{older}");
    }
    let forward = format!("{PODS}/one/portforward");
    let refused = send(&running, upgrade(&forward, &websocket("SPDY/3.1+else.k8s.io"))).await;
    assert_eq!(refused.status(), 400);
    let plain = send(&running, upgrade(&path, &[])).await;
    assert_eq!(plain.status(), 400);
    let nothing = send(
        &running,
        upgrade(
            &format!("{PODS}/one/exec?command=x"),
            &websocket("v4.channel.k8s.io"),
        ),
    )
    .await;
    assert_eq!(nothing.status(), 400);
    let unbound = send(
        &running,
        upgrade(
            &format!("{PODS}/unbound/exec?stdout=1"),
            &[("upgrade", "SPDY/3.1")],
        ),
    )
    .await;
    assert!(text(unbound).await.contains("does not have a host assigned"));
}
