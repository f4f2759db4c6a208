//! Agents that die again and again: what they have put into the kernel goes on.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::lab::{Lab, WAIT};

const EVERY: Duration = Duration::from_secs(1);

pub(crate) fn agents_are_killed(lab: &Lab) {
    let loads = lab.load();
    let end = Instant::now() + lab.length;
    let mut kills = 0;
    let mut nodes = ["node-1", "node-2", "node-3"].iter().cycle();
    while Instant::now() < end {
        let node = nodes.next().expect("they go round");
        if lab.kill(&format!("agent {node}"), "-KILL") {
            kills += 1;
        }
        sleep(EVERY);
    }
    println!("{kills} agents killed");
    assert!(kills > 0, "no agent was killed");
    lab.cluster.wait_nodes("condition=Ready", WAIT);
    loads.assert_whole(lab, "agents are killed");
}
