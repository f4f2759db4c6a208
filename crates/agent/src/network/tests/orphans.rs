//! Attachments that the container runtime doesn't know, after it was killed.

use std::collections::BTreeSet;
use std::sync::Mutex;

use kernel::process::ProcessId;
use tokio::net::UnixStream;

use super::*;
use crate::network::reconcile::Runtime;

/// A runtime that is played.
#[derive(Clone, Default)]
struct Played(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    process: Option<ProcessId>,
    sandboxes: BTreeSet<String>,
    asked: usize,
}

impl Played {
    /// Begins to serve in a process that was started so many clock ticks after this one, which plays the
    /// plugins. There is no such process, so it's looked at anew each time.
    fn serve(&self, later: i64, sandboxes: &[&str]) {
        let mut process = ProcessId::current();
        process.start_time = process.start_time.saturating_add_signed(later);
        let mut state = self.0.lock().expect("no test panics with it");
        state.process = Some(process);
        state.sandboxes = sandboxes.iter().map(|id| (*id).to_owned()).collect();
    }

    fn asked(&self) -> usize {
        self.0.lock().expect("no test panics with it").asked
    }
}

impl Runtime for Played {
    async fn process(&self) -> Option<ProcessId> {
        self.0.lock().expect("no test panics with it").process
    }

    async fn sandboxes(&self) -> Result<BTreeSet<String>, cri::Error> {
        let mut state = self.0.lock().expect("no test panics with it");
        state.asked += 1;
        Ok(state.sandboxes.clone())
    }
}

async fn port_of(running: &Running, container: &str) -> Result<(), cni::Error> {
    let (caller, _plugin) = UnixStream::pair().expect("a pair of sockets");
    let port = json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"});
    let (call, config) = Running::request(
        Command::Add,
        container,
        json!({"runtimeConfig": {"portMappings": [port]}}),
    );
    running.policies.put(api::pod("shop", container));
    let answer = running.network.serve(&call, &config, Some(&caller)).await;
    answer.outcome.map(drop)
}

/// Compares until dropped; its turn comes once.
fn reconciled(running: &Running, runtime: &Played) -> impl Drop + use<> {
    let stop = CancellationToken::new();
    let (network, patience) = (running.network.clone(), Duration::from_secs(3600));
    tokio::spawn(network.reconcile(runtime.clone(), patience, stop.clone()));
    stop.drop_guard()
}

/// Between its ADD and writing the sandbox down a runtime was killed. The pod that is to have the port
/// needn't wait until nobody can be making that sandbox any more.
#[tokio::test]
async fn what_a_killed_runtime_had_asked_for_is_released_as_soon_as_the_next_one_serves() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let before = kernel.played().objects.clone();
    let runtime = Played::default();
    runtime.serve(-1, &[]);
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let patience = Duration::from_secs(3600);
    tokio::spawn(running.network.clone().reconcile(runtime.clone(), patience, stop));
    until(|| runtime.asked() == 1).await;

    port_of(&running, "one").await.expect("attached");
    let refused = port_of(&running, "two").await.expect_err("taken");
    assert_eq!(refused.code, cni::Code::TryAgainLater, "{refused}");
    // Its sandbox is being made, for all that anybody knows.
    assert_eq!((running.names(), runtime.asked()), (vec!["one".to_owned()], 1));

    runtime.serve(1, &[]);
    until(|| running.names().is_empty()).await;
    assert_eq!(kernel.played().objects, before);
    port_of(&running, "two").await.expect("attached");
}

#[tokio::test]
async fn what_the_next_runtime_knows_stays_and_it_is_asked_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = ready(dir.path(), &Fake::default()).await;
    port_of(&running, "one").await.expect("attached");
    let runtime = Played::default();
    runtime.serve(1, &["one"]);
    let _stop = reconciled(&running, &runtime);
    until(|| runtime.asked() == 1).await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(60)).await;
    tokio::time::resume();
    assert_eq!((running.names(), runtime.asked()), (vec!["one".to_owned()], 1));

    runtime.serve(2, &[]);
    until(|| running.names().is_empty()).await;
}
