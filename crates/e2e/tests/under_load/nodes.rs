//! A node loses its power: its endpoints are gone, and what it announced is announced by another.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::{Outside, PATIENCE, PodLoad, eventually};

use crate::lab::{Lab, WAIT, asker};

/// A request takes no longer.
const UNDER_WAY: Duration = Duration::from_secs(5);
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Of `web`, requests to the pods that died with the node may fail until the others know of it, in two seconds:
/// nobody can answer them. Of `steady`, whose endpoints are elsewhere, those may fail that go by the node itself,
/// until another announces.
pub(crate) fn a_node_stops(lab: &Lab) {
    let cluster = &lab.cluster;
    let sockets = announced_by_the_third(lab);
    let inside: Vec<PodLoad> = ["node-1", "node-2"]
        .iter()
        .map(|node| PodLoad::start(cluster, &asker(node), "steady", "http://steady/", PATIENCE))
        .collect();
    let outside: Vec<Outside> = sockets.iter().copied().map(Outside::start).collect();
    let stop = Instant::now();
    cluster.ripstop(&["node", "stop", "node-3"]).ok();
    eventually(WAIT, || {
        announcer(lab)
            .filter(|node| node != "node-3")
            .ok_or_else(|| "nobody else announces".to_owned())
    });
    for socket in &sockets {
        eventually(WAIT, || e2e::ask(*socket));
    }
    let back = Instant::now();
    std::thread::sleep(lab.length);
    let (mut allowed, mut after) = (0, 0);
    for load in outside {
        let requests = load.requests();
        after += requests.iter().filter(|(begin, _)| *begin > back).count();
        for (begin, outcome) in requests {
            match outcome {
                Err(_) if begin + UNDER_WAY >= stop && begin <= back => allowed += 1,
                Err(why) => panic!("a node stopped: {why}, with another announcing"),
                Ok(()) => {}
            }
        }
    }
    println!("a node stopped: {allowed} requests failed that went by it; none of {after} after that");
    assert!(after > 0, "nothing was asked");
    for load in inside {
        load.finish(cluster)
            .assert_whole("a node stopped, pods asking for endpoints elsewhere");
    }
}

/// Where `steady` is reached, once the third node alone announces it.
fn announced_by_the_third(lab: &Lab) -> Vec<SocketAddr> {
    let others = ["node/node-1", "node/node-2"];
    let label = |change: String| {
        let mut words = vec!["label"];
        words.extend(others);
        words.push(&change);
        lab.cluster.kubectl(&words).ok();
    };
    label(format!("{EXCLUDE}="));
    eventually(WAIT, || match announcer(lab) {
        Some(node) if node == "node-3" => Ok(()),
        other => Err(format!("{other:?} announces")),
    });
    // Who announces goes on.
    label(format!("{EXCLUDE}-"));
    let sockets = lab.balancer("steady");
    for socket in &sockets {
        eventually(WAIT, || e2e::ask(*socket));
    }
    sockets
}

fn announcer(lab: &Lab) -> Option<String> {
    let service = lab.cluster.get(&["service", "steady"]);
    let conditions = service["status"]["conditions"].as_array()?;
    let ours = conditions
        .iter()
        .find(|one| one["type"] == "ripstop.dev/Announced" && one["status"] == "True")?;
    ours["message"].as_str()?.split(' ').next().map(str::to_owned)
}
