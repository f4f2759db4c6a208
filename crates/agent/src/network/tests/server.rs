//! The socket, and callers that are gone.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Writes a request to a server over `running` as the plugin does; the stream is the caller's.
async fn request(dir: &Path, running: &Running, command: &str) -> tokio::net::UnixStream {
    let socket = dir.join("cni.sock");
    let server = Server::bind(&socket).expect("a socket");
    tokio::spawn(server.serve(running.network.clone(), CancellationToken::new()));
    let mut stream = tokio::net::UnixStream::connect(&socket).await.expect("connected");
    let request = json!({
        "protocol": 1,
        "call": {"command": command, "container_id": "web", "netns": "/run/netns/web", "interface": "eth0"},
        "config": {"cniVersion": "1.0.0", "name": "ripstop", "type": "ripstop-cni"},
    });
    stream
        .write_all(request.to_string().as_bytes())
        .await
        .expect("written");
    stream.shutdown().await.expect("half closed");
    stream
}

#[tokio::test]
async fn the_server_answers_and_closes() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = ready(dir.path(), &Fake::default()).await;
    let mut stream = request(dir.path(), &running, "ADD").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let answer: cni::wire::Response = serde_json::from_str(&answer).expect("a response");
    let result = Result::from(answer).expect("attached").expect("a result");
    assert_eq!(result["cniVersion"], "1.0.0");
    assert_eq!(running.names(), ["web"]);
}

#[tokio::test]
async fn an_add_that_nobody_waits_for_is_undone() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    kernel.played().gate = Some(gate.clone());
    let plugin = request(dir.path(), &running, "ADD").await;
    until(|| !running.names().is_empty()).await;
    drop(plugin);
    gate.add_permits(1);
    until(|| running.network.counters().counts().dels == 1).await;
    assert!(running.names().is_empty());
    assert!(kernel.links().is_empty());
}

/// Its DEL may have been served already: then none would follow.
#[tokio::test]
async fn an_add_whose_plugin_is_gone_is_not_begun() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let under_way = running
        .network
        .attachments
        .hold(&AttachmentId::new("web", "eth0"))
        .await;
    drop(request(dir.path(), &running, "ADD").await);
    drop(under_way);
    until(|| running.network.counters().counts().failures == 1).await;
    assert!(running.names().is_empty());
    assert_eq!(running.network.counters().counts().dels, 0);
}

#[tokio::test]
async fn a_second_server_takes_the_name_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("cni.sock");
    let first = Server::bind(&socket).expect("a socket");
    let _second = Server::bind(&socket).expect("a socket");
    drop(first);
    tokio::net::UnixStream::connect(&socket)
        .await
        .expect("the second listens");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
}
