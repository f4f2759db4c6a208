//! Size, number and encoding of what goes over the wire.

use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::Request;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, Raw, Running, client_pair, config_map};

/// A connection over TLS of an administrator, and the protocol that was agreed on.
async fn connect(
    running: &Running,
    user: &str,
    protocols: &[&str],
) -> (
    tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
    Option<Vec<u8>>,
) {
    let pair = client_pair(&running.authority, user, "system:masters");
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(running.authority.cert_pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = protocols
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    let stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let name = ServerName::from(running.address.ip());
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    (stream, agreed)
}

#[tokio::test]
async fn many_requests_share_one_http_2_connection() {
    let running = Running::start().await;
    let (stream, agreed) = connect(&running, "admin", &["h2", "http/1.1"]).await;
    assert_eq!(agreed.as_deref(), Some(&b"h2"[..]));
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let all = (0..20).map(|_| {
        let mut sender = sender.clone();
        let uri = format!("https://{}{CONFIG_MAPS}", running.address);
        async move {
            let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
            sender.send_request(request).await.unwrap().status().as_u16()
        }
    });
    assert_eq!(futures::future::join_all(all).await, [200; 20]);
    // Who doesn't speak it still gets through.
    let (_, agreed) = connect(&running, "admin", &["http/1.1"]).await;
    assert_eq!(agreed.as_deref(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn large_answers_are_compressed_for_who_likes_that() {
    let raw = Running::start().await.raw();
    let large = json!({ "metadata": { "name": "large" }, "data": { "x": "y".repeat(200 << 10) } });
    raw.post(CONFIG_MAPS, &large).await;
    let request = |accept: &'static str, path: &str| {
        let mut request = Request::get(path);
        if !accept.is_empty() {
            request = request.header("accept-encoding", accept);
        }
        let request = request.body(kube::client::Body::empty()).unwrap();
        let client = raw.0.clone();
        async move {
            let (head, body) = client.send(request).await.unwrap().into_parts();
            (head.headers, body.collect().await.unwrap().to_bytes())
        }
    };
    let (headers, plain) = request("", CONFIG_MAPS).await;
    assert!(!headers.contains_key("content-encoding"));
    let (headers, compressed) = request("gzip", CONFIG_MAPS).await;
    assert_eq!(
        (&headers["content-encoding"], &headers["vary"]),
        (&"gzip".parse().unwrap(), &"Accept-Encoding".parse().unwrap())
    );
    assert!(compressed.len() < plain.len() / 20, "{}", compressed.len());
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&compressed[..])
        .read_to_end(&mut text)
        .unwrap();
    assert_eq!(text, plain);
    // Small answers and watches go as they are.
    let (headers, _) = request(
        "gzip",
        &format!("{CONFIG_MAPS}?limit=1&fieldSelector=metadata.name%3Dnone"),
    )
    .await;
    assert!(!headers.contains_key("content-encoding"));
    let (headers, _) = request("gzip", &format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1")).await;
    assert!(!headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_over_the_wire() {
    let running = Running::start().await;
    let raw = Raw(running.over_tls("admin", "system:masters").await);
    let large = raw
        .post(CONFIG_MAPS, &config_map("l", json!({ "x": "y".repeat(3 << 20) })))
        .await;
    assert_eq!(
        (large.code, large.message()),
        (413, "Request entity too large: limit is 3145728")
    );
    assert_eq!(raw.get(CONFIG_MAPS).await.code, 200);
}

/// Requests of a user over one connection; a body that never ends keeps its seat.
async fn sender(running: &Running, user: &str) -> http2::SendRequest<Either<Full<Bytes>, Endless>> {
    let (stream, _) = connect(running, user, &["h2"]).await;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

type Endless = StreamBody<futures::stream::Pending<Result<Frame<Bytes>, Infallible>>>;

#[tokio::test]
async fn a_noisy_client_is_told_to_wait_and_nobody_else() {
    let running = Running::start().await;
    let noisy = sender(&running, "noisy").await;
    let uri = format!("https://{}{CONFIG_MAPS}", running.address);
    let post = || {
        let body = Either::Right(StreamBody::new(futures::stream::pending()));
        let request = Request::post(&uri).body(body).unwrap();
        let mut noisy = noisy.clone();
        tokio::spawn(async move { noisy.send_request(request).await.map(|answer| answer.status()) })
    };
    let client = Raw(running.client("noisy", "system:masters"));
    let mut requests = FuturesUnordered::new();
    let refused = loop {
        // More than a user may have: once one of them is refused, all places are taken.
        requests.extend((0..300).map(|_| post()));
        let first = requests.next().await.unwrap().unwrap();
        assert_eq!(first.unwrap(), 429);
        let answer = client.get(CONFIG_MAPS).await;
        // On a machine that stood still they may have given up by now.
        if answer.code == 429 {
            break answer;
        }
    };
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(
        refused.body,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Too many requests, please try again later.", "reason": "TooManyRequests", "code": 429,
            "details": { "retryAfterSeconds": 1 },
        })
    );
    assert_eq!(
        Raw(running.client("quiet", "system:masters"))
            .get(CONFIG_MAPS)
            .await
            .code,
        200
    );
    let node = Raw(running.client("system:node:n", "system:nodes"));
    assert_eq!(node.get("/api/v1/nodes").await.code, 200);
    for request in requests {
        request.abort();
    }
    let served = async { while client.get(CONFIG_MAPS).await.code != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), served)
        .await
        .unwrap();
}

#[tokio::test]
async fn no_parameters_and_no_body_bring_the_server_down() {
    let raw = Running::start().await.raw();
    for query in [
        "limit=-1",
        "limit=x",
        "limit=99999999999999999999",
        "continue=%00",
        "continue=eyJ9",
        "labelSelector=((((",
        "fieldSelector==",
        "resourceVersion=-1",
        "resourceVersionMatch=x",
        "timeoutSeconds=-5&watch=1",
        "watch=1&resourceVersion=x",
        "sendInitialEvents=maybe",
        "watch=1&sendInitialEvents=true",
    ] {
        let code = raw.get(&format!("{CONFIG_MAPS}?{query}")).await.code;
        assert!(code == 400 || code == 422, "{query}: {code}");
    }
    for body in [
        "",
        "null",
        "[]",
        "1",
        "\"x\"",
        "{\"metadata\":[]}",
        "{\"metadata\":{\"name\":[]}}",
        "{\"data\":1}",
    ] {
        let code = raw.send("POST", CONFIG_MAPS, &[], body).await.code;
        assert!(code == 400 || code == 422, "{body}: {code}");
        for kind in ["json", "merge", "strategic-merge"] {
            let headers = [("content-type", format!("application/{kind}-patch+json"))];
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let code = raw
                .send("PATCH", &format!("{CONFIG_MAPS}/a"), &headers, body)
                .await
                .code;
            assert!(matches!(code, 400 | 404 | 422), "{kind} {body}: {code}");
        }
        let apply = [("content-type", "application/apply-patch+yaml")];
        let code = raw
            .send("PATCH", &format!("{CONFIG_MAPS}/a?fieldManager=x"), &apply, body)
            .await
            .code;
        assert!(matches!(code, 400 | 500), "apply {body}: {code}");
        let code = raw
            .send("DELETE", &format!("{CONFIG_MAPS}/a"), &[], body)
            .await
            .code;
        assert!(matches!(code, 400 | 404), "delete {body}: {code}");
    }
    assert_eq!(raw.get(CONFIG_MAPS).await.body["items"], Value::Array(vec![]));
}
