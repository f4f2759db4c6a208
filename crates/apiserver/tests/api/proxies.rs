//! Proxies, as far as they can be tried on loopback: kubelets are reached there, pods never.

use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kubelet::{send, start, text, upgrade};
use crate::support::{PODS, Raw};

const NODE: &str = "/api/v1/nodes/n1/proxy";
const SERVICES: &str = "/api/v1/namespaces/default/services";

#[tokio::test]
async fn a_nodes_kubelet_gets_the_path_as_it_was_sent() {
    let (running, kubelet) = start().await;
    for (path, seen) in [
        ("/stats/summary?only=a%20b", "/stats/summary?only=a%20b"),
        ("/a%2Fb//c/", "/a%2Fb//c/"),
        ("/", "/"),
    ] {
        let request = Request::get(format!("{NODE}{path}")).header("accept", "text/html");
        let answer = send(&running, request.body(Empty::new()).unwrap()).await;
        assert_eq!((answer.status().as_u16(), kubelet.last().as_str()), (200, seen));
        assert_eq!(text(answer).await, "a line\n");
    }
    let port = format!("/api/v1/nodes/https:n1:{}/proxy/x", kubelet.address.port());
    let request = Request::head(port).body(Empty::new()).unwrap();
    assert_eq!(send(&running, request).await.status(), 200);
    assert_eq!(kubelet.last(), "/x");
}

#[tokio::test]
async fn a_path_without_its_slash_is_asked_to_come_back_with_it() {
    let (running, _) = start().await;
    let answer = send(
        &running,
        Request::get(format!("{NODE}?a=b")).body(Empty::new()).unwrap(),
    )
    .await;
    assert_eq!(answer.status(), 301);
    assert_eq!(answer.headers()["location"], format!("{NODE}/?a=b"));
}

#[tokio::test]
async fn links_and_redirects_lead_through_the_proxy() {
    let (running, _) = start().await;
    let get = async |path: &str| {
        let request = Request::get(format!("{NODE}{path}")).header("host", "server:6443");
        send(&running, request.body(Empty::new()).unwrap()).await
    };
    let page = get("/page").await;
    assert!(!page.headers().contains_key("access-control-allow-origin"));
    assert_eq!(text(page).await, format!("<a href='{NODE}/x'><a href='x'>"));
    let moved = get("/moved").await;
    assert_eq!(moved.status(), 302);
    assert_eq!(
        moved.headers()["location"],
        format!("https://server:6443{NODE}/page")
    );
    let request = Request::head(format!("{NODE}/page")).body(Empty::new()).unwrap();
    let head = send(&running, request).await;
    assert_eq!(head.headers()["content-length"], "25");
}

#[tokio::test]
async fn an_upgraded_connection_passes_byte_for_byte() {
    let (running, _) = start().await;
    let request = upgrade(&format!("{NODE}/stream"), &[("upgrade", "echo")]);
    let mut answer = send(&running, request).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["upgrade"]),
        (101, &"echo".parse().unwrap())
    );
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"hello");
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_in_kubernetes_words() {
    let (running, _) = start().await;
    let raw = running.raw();
    let says = async |path: &str, code: u16, words: &str| {
        let answer = raw.get(path).await;
        assert_eq!((answer.code, answer.message()), (code, words), "{path}");
    };
    says(&format!("{PODS}/none/proxy/"), 404, "pods \"none\" not found").await;
    says(
        &format!("{PODS}/ftp:one:/proxy/"),
        400,
        "invalid pod request \"ftp:one:\"",
    )
    .await;
    says(
        &format!("{PODS}/one/proxy/"),
        400,
        "address not allowed: the pod has none yet",
    )
    .await;
    let status = json!({ "status": { "podIP": "127.0.0.1", "podIPs": [{ "ip": "127.0.0.1" }] } });
    assert_eq!(
        raw.patch(&format!("{PODS}/one/status"), "merge", &status)
            .await
            .code,
        200
    );
    says(&format!("{PODS}/one:6443/proxy/"), 400, "address not allowed").await;

    let service = json!({
        "metadata": { "name": "web" },
        "spec": { "ports": [{ "name": "http", "port": 80 }], "clusterIP": "None" },
    });
    assert_eq!(raw.post(SERVICES, &service).await.code, 201);
    says(
        &format!("{SERVICES}/none/proxy/"),
        404,
        "services \"none\" not found",
    )
    .await;
    says(
        &format!("{SERVICES}/web:81/proxy/"),
        503,
        "no service port 81 found for service \"web\"",
    )
    .await;
    for id in ["web:http", "http:web:80"] {
        let words = format!("no endpoints available for service {id:?}");
        says(&format!("{SERVICES}/{id}/proxy/"), 503, &words).await;
    }
}

#[tokio::test]
async fn a_proxy_needs_a_right_of_its_own() {
    let (running, _) = start().await;
    let jane = Raw(running.client("jane", "system:authenticated"));
    let refused = jane.get(&format!("{NODE}/stats")).await;
    assert_eq!(refused.code, 403);
    assert!(refused.message().contains("nodes/proxy"), "{}", refused.message());
}
