//! The official Python client, as the distribution packages it.

use std::path::Path;

use tokio::process::Command;

use crate::support::{CONFIG_MAPS, Running};

/// The distribution's Python, whatever else is first on the path, runs `clients/objects.py` to its end.
async fn run(running: &Running, more: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/objects.py");
    let output = Command::new("/usr/bin/python3")
        .arg(script)
        .arg(running.kubeconfig("admin", "system:masters"))
        .args(more)
        .output()
        .await
        .expect("Python is installed: `scripts/deps.sh --test` does that");
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{out}{error}\n`scripts/deps.sh --test` installs the client where it is missing"
    );
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_finds_everything_as_in_kubernetes() {
    let running = Running::start().await;
    let done = run(&running, &[]).await;
    assert!(done.ends_with("leader_election\n"), "{done}");
    let list = running.raw().get(CONFIG_MAPS).await;
    let version = list.body["metadata"]["resourceVersion"].as_str().unwrap();
    // Something happens since, and all that happened is forgotten.
    let removed = running.raw().delete(CONFIG_MAPS, &serde_json::json!({})).await;
    assert_eq!(removed.code, 200);
    running.server.forget_history().await.unwrap();
    run(&running, &[version]).await;
}
