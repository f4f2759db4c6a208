//! A connection that was there before the policy.

use std::thread;
use std::time::Duration;

use e2e::eventually;

use crate::ask::{WAIT, World};

/// Lines that go to a server and come back, ten a second, on one connection.
pub(crate) struct Live<'a> {
    world: &'a World,
    from: [String; 2],
    file: String,
}

impl<'a> Live<'a> {
    /// Connects to a server that echoes, and waits for the first lines.
    #[track_caller]
    pub(crate) fn begin(world: &'a World, from: &str, to: &str, port: u16) -> Live<'a> {
        let (namespace, pod) = from.split_once('/').expect("NAMESPACE/POD");
        let file = format!("/tmp/live-{port}");
        let live = Live {
            world,
            from: [namespace.to_owned(), pod.to_owned()],
            file: file.clone(),
        };
        let ip = world.pod(to).ip;
        let lines = "for i in $(seq 3000); do echo $i; sleep 0.1; done";
        live.run(&format!(
            "(({lines}) | nc {ip} {port} >{file}) </dev/null >/dev/null 2>&1 &"
        ));
        live.goes_on();
        live
    }

    /// More and more comes back.
    #[track_caller]
    pub(crate) fn goes_on(&self) {
        let before = self.lines();
        eventually(WAIT, || {
            let now = self.lines();
            (now > before)
                .then_some(())
                .ok_or_else(|| format!("{now} lines came back, and no more do"))
        });
    }

    /// Nothing comes back any more.
    #[track_caller]
    pub(crate) fn is_cut(&self) {
        let mut before = self.lines();
        eventually(WAIT, || {
            // Ten lines are sent meanwhile.
            thread::sleep(Duration::from_secs(1));
            let now = self.lines();
            let last = std::mem::replace(&mut before, now);
            (now == last)
                .then_some(())
                .ok_or_else(|| format!("{now} lines came back, {last} a second before"))
        });
    }

    fn lines(&self) -> usize {
        let count = self.run(&format!("wc -l <{}", self.file));
        count.trim().parse().unwrap_or_default()
    }

    fn run(&self, script: &str) -> String {
        let [namespace, pod] = &self.from;
        let words = ["-n", namespace, "exec", pod, "--", "sh", "-c", script];
        self.world.cluster.kubectl(&words).ok()
    }
}
