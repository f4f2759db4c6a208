//! An API server on loopback to try kubectl against: prints the kubeconfig's path and serves until Ctrl-C.
//! There are no controllers and no nodes.

#![expect(clippy::unwrap_used, reason = "a tool for developers ends by panicking")]

#[path = "../tests/api/support.rs"]
#[expect(dead_code, reason = "tests use more of it")]
mod support;

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let running = support::Running::start().await;
    let path = running.kubeconfig("admin", "system:masters");
    println!("export KUBECONFIG={}", path.display());
    tokio::signal::ctrl_c().await.unwrap();
    running.stop.cancel();
    running.task.await.unwrap().unwrap();
}
