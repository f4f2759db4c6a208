use kernel::cgroup::{Group, Hierarchies};
use nix::sys::signal::Signal;

use super::*;
use crate::protocol::ProcessState;

const LIMIT: Duration = Duration::from_secs(20);

/// A control group for one test, without processes when the test is over.
struct Own(Group);

impl Own {
    fn new(test: &str) -> Self {
        let path = format!("/ripstop-test/unit-{test}-{}", std::process::id());
        let group = Hierarchies::detect().expect("cgroups").group(&path);
        group.create().expect("root");
        Self(group)
    }

    fn unit(&self, dir: &Path, script: &str) -> Unit {
        Unit {
            name: "test".to_owned(),
            program: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            place: Place {
                cgroup: Some(self.0.clone()),
                ..Place::default()
            },
            log: dir.join("log"),
            replace: false,
            grace: Duration::from_secs(5),
            listen: Vec::new(),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.kill_all(LIMIT).expect("killed");
        self.0.remove(LIMIT).expect("removed");
        Hierarchies::detect()
            .expect("cgroups")
            .group("/ripstop-test")
            .remove_if_empty();
    }
}

/// A unit that is looked after by a task.
struct Watched {
    state: Arc<State>,
    wanted: watch::Sender<Wanted>,
    task: tokio::task::JoinHandle<()>,
}

impl Watched {
    fn start(unit: Unit) -> Self {
        let state = Arc::new(State::new());
        let wanted = watch::Sender::new(Wanted::Running);
        let task = tokio::spawn(unit.supervise(Arc::clone(&state), wanted.subscribe()));
        Self { state, wanted, task }
    }

    /// The pid of the run with this number of restarts before it.
    async fn pid(&self, restarts: u32) -> u32 {
        let mut changes = self.state.changes();
        let find = async {
            loop {
                let found = self.state.processes().into_iter().find_map(|process| {
                    let wanted = process.state == ProcessState::Running && process.restarts >= restarts;
                    process.pid.filter(|_| wanted)
                });
                match found {
                    Some(pid) => return pid,
                    None => changes.changed().await.expect("the state lives"),
                }
            }
        };
        tokio::time::timeout(LIMIT, find).await.expect("it runs in time")
    }

    async fn end(self, wish: Wanted) -> Arc<State> {
        self.wanted.send_replace(wish);
        self.task.await.expect("the task ends");
        self.state
    }
}

#[tokio::test]
async fn what_dies_is_started_again_and_counted() {
    let (own, dir) = (Own::new("again"), tempfile::tempdir().expect("a folder"));
    let watched = Watched::start(own.unit(dir.path(), "exec sleep 60"));
    let first = watched.pid(0).await;
    let process = ProcessId::of(first)
        .expect("alive")
        .open()
        .expect("pidfd")
        .expect("alive");
    process.signal(Signal::SIGKILL).expect("sent");
    let second = watched.pid(1).await;
    assert_ne!(first, second);
    let id = ProcessId::of(second).expect("alive");
    let state = watched.end(Wanted::Ended).await;
    assert!(!id.is_alive());
    let process = &state.processes()[0];
    assert_eq!((process.restarts, process.state), (1, ProcessState::Stopped));
    assert_eq!(process.last_end.as_deref(), Some("signal 9"));
}

#[tokio::test]
async fn a_second_supervisor_takes_over_what_the_first_left() {
    let (own, dir) = (Own::new("take-over"), tempfile::tempdir().expect("a folder"));
    let script = "while :; do read line </dev/zero; done";
    let first = Watched::start(own.unit(dir.path(), script));
    let pid = first.pid(0).await;
    first.end(Wanted::Left).await;
    let second = Watched::start(own.unit(dir.path(), script));
    assert_eq!(second.pid(0).await, pid);
    second.end(Wanted::Ended).await;
}

#[tokio::test]
async fn a_process_whose_configuration_changed_is_replaced() {
    let (own, dir) = (Own::new("replace"), tempfile::tempdir().expect("a folder"));
    let script = "while :; do read line </dev/zero; done";
    let first = Watched::start(own.unit(dir.path(), script));
    let pid = first.pid(0).await;
    first.end(Wanted::Left).await;
    let mut unit = own.unit(dir.path(), script);
    unit.replace = true;
    let second = Watched::start(unit);
    let now = second.pid(0).await;
    assert_ne!(now, pid);
    assert_eq!(ProcessId::of(pid), None);
    second.end(Wanted::Ended).await;
}

#[tokio::test]
async fn a_process_with_another_command_line_is_replaced() {
    let (own, dir) = (Own::new("other-line"), tempfile::tempdir().expect("a folder"));
    let script = |pause: &str| format!("while :; do read line </dev/zero; done; {pause}");
    let first = Watched::start(own.unit(dir.path(), &script("sleep 1")));
    let pid = first.pid(0).await;
    first.end(Wanted::Left).await;
    let second = Watched::start(own.unit(dir.path(), &script("sleep 2")));
    assert_ne!(second.pid(0).await, pid);
    assert_eq!(ProcessId::of(pid), None);
    second.end(Wanted::Ended).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_tried_again_and_says_so() {
    let (own, dir) = (Own::new("missing"), tempfile::tempdir().expect("a folder"));
    let mut unit = own.unit(dir.path(), "");
    unit.program = "/nonexistent/program".into();
    let watched = Watched::start(unit);
    let mut changes = watched.state.changes();
    let state = Arc::clone(&watched.state);
    let twice = changes.wait_for(|_| state.restarts("test") >= 2);
    tokio::time::timeout(LIMIT, twice)
        .await
        .expect("in time")
        .expect("the state lives");
    let end = watched.state.processes()[0].last_end.clone().expect("it says");
    assert!(end.contains("can't start test"), "{end}");
    watched.end(Wanted::Ended).await;
}

#[test]
fn pauses_grow_and_shrink_again_after_a_steady_run() {
    let mut pauses = Pauses::default();
    let quick = Duration::from_millis(1);
    let grown: Vec<_> = (0..10).map(|_| pauses.after(quick).as_millis()).collect();
    assert_eq!(grown, [50, 100, 200, 400, 500, 500, 500, 500, 500, 500]);
    assert_eq!(pauses.after(STEADY), SHORTEST_PAUSE);
}
