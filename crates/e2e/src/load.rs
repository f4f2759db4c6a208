//! Requests that go on while something happens, and how many of them failed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Cluster, eventually};

/// How long a request may take, if nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A little time between requests: the machine is for the cluster, too.
const PAUSE: Duration = Duration::from_millis(2);
/// A pod's kubelet may be away for a moment.
const RETRY: Duration = Duration::from_secs(30);

/// What became of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many were answered.
    pub answered: u64,
    /// Why others weren't, and how often.
    pub failures: BTreeMap<String, u64>,
}

impl Tally {
    /// How many failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Counts one request.
    pub fn count(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.answered += 1,
            Err(why) => *self.failures.entry(why).or_default() += 1,
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: Tally) {
        self.answered += other.answered;
        for (why, count) in other.failures {
            *self.failures.entry(why).or_default() += count;
        }
    }

    /// Requests were made, and none failed.
    ///
    /// # Panics
    /// If there were none, or one failed.
    #[track_caller]
    pub fn assert_whole(&self, what: &str) {
        assert!(self.answered > 0, "{what}: nothing was asked");
        assert_eq!(self.failed(), 0, "{what}: {self:?}");
    }
}

/// Requests from inside a pod, each on a connection of its own, by `toolbox load`. It doesn't hang on kubectl:
/// the pod's kubelet may be killed meanwhile.
#[derive(Debug)]
pub struct PodLoad {
    pod: String,
    id: String,
}

impl PodLoad {
    /// Begins; `id` tells a pod's loads apart, and a request may take as long as `patience`.
    pub fn start(cluster: &Cluster, pod: &str, id: &str, url: &str, patience: Duration) -> PodLoad {
        let load = PodLoad {
            pod: pod.to_owned(),
            id: id.to_owned(),
        };
        let file = |end: &str| load.file(end);
        let (stop, out, end) = (file("stop"), file("out"), file("end"));
        let patience = patience.as_secs();
        let once = format!(
            "toolbox load --json --fresh --timeout {patience}s --connections 2 --rate 100 --seconds 1 '{url}'"
        );
        let script =
            format!("while [ ! -e {stop} ]; do {once}; done >{out} 2>{out}.errors </dev/null; touch {end}");
        let script = format!("rm -f {stop} {end}; ({script}) >/dev/null 2>&1 &");
        cluster.exec(pod, &["sh", "-c", &script]).ok();
        // Something was answered before anything is broken.
        load.eventually(cluster, &["grep", "-q", "answered", &out]);
        load
    }

    fn file(&self, end: &str) -> String {
        format!("/tmp/load-{}.{end}", self.id)
    }

    fn eventually(&self, cluster: &Cluster, command: &[&str]) -> String {
        eventually(RETRY, || {
            let outcome = cluster.exec(&self.pod, command);
            match outcome.code {
                Some(0) => Ok(outcome.stdout),
                _ => Err(format!("{outcome:?}")),
            }
        })
    }

    /// Ends it.
    ///
    /// # Panics
    /// If the pod doesn't tell what became of its requests.
    #[track_caller]
    pub fn finish(self, cluster: &Cluster) -> Tally {
        let (stop, out, end) = (self.file("stop"), self.file("out"), self.file("end"));
        self.eventually(cluster, &["touch", &stop]);
        self.eventually(cluster, &["test", "-e", &end]);
        let text = self.eventually(cluster, &["cat", &out]);
        let mut tally = Tally::default();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).expect("toolbox load prints JSON");
            tally.add(Tally {
                answered: value["answered"].as_u64().expect("a count"),
                failures: serde_json::from_value(value["failures"].clone()).expect("counts by reason"),
            });
        }
        tally
    }
}

/// Requests from the machine, one after the other, each on a connection of its own.
#[derive(Debug)]
pub struct Outside {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, Result<(), String>)>>,
}

impl Outside {
    /// Begins.
    pub fn start(to: SocketAddr) -> Outside {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut asked = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                asked.push((begin, ask(to)));
                thread::sleep(PAUSE);
            }
            asked
        });
        Outside { stop, thread }
    }

    /// Ends it: every request, when it began and what became of it.
    ///
    /// # Panics
    /// If its thread did.
    pub fn requests(self) -> Vec<(Instant, Result<(), String>)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("asking doesn't panic")
    }

    /// Ends it.
    pub fn finish(self) -> Tally {
        let mut tally = Tally::default();
        for (_, outcome) in self.requests() {
            tally.count(outcome);
        }
        tally
    }
}

/// One request; its answer is read to the end.
///
/// # Errors
/// What went wrong.
pub fn ask(to: SocketAddr) -> Result<(), String> {
    let failed = |doing: &str, error: std::io::Error| format!("{doing} {to}: {}", error.kind());
    let mut stream =
        TcpStream::connect_timeout(&to, PATIENCE).map_err(|error| failed("connecting to", error))?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(|error| failed("setting up", error))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        .map_err(|error| failed("asking", error))?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .map_err(|error| failed("hearing", error))?;
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(format!(
            "{to} answered with {} bytes of something else",
            answer.len()
        )),
    }
}
