//! A node loses its power: its endpoints are gone, and what it announced is announced by another.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::{Outside, PATIENCE, PodLoad, Tally, eventually};
use serde_json::json;

use crate::lab::{Lab, WAIT, asker};

/// A request takes no longer.
const UNDER_WAY: Duration = Duration::from_secs(5);
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Of `web`, requests that a pod which died with the node has accepted may fail: nobody can answer them. What was
/// connecting to one is led to another. Of `steady`, whose endpoints are elsewhere, those may fail that go by the node
/// itself, until another announces.
pub(crate) fn a_node_stops(lab: &Lab) {
    let cluster = &lab.cluster;
    let sockets = announced_by_the_third(lab);
    let names = Names::of_pods(lab);
    let spread = Spread::start(lab);
    let inside: Vec<PodLoad> = ["node-1", "node-2"]
        .iter()
        .map(|node| PodLoad::start(cluster, &asker(node), "steady", "http://steady/", PATIENCE))
        .collect();
    let outside: Vec<Outside> = sockets.iter().copied().map(Outside::start).collect();
    let stop = Instant::now();
    cluster.ripstop(&["node", "stop", "node-3"]).ok();
    names.leave_the_third_out(lab);
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
    spread.assert_connected(lab);
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

/// Requests to `web` by ways that don't need the third node: its own addresses from pods of the others, and a port of
/// the first.
struct Spread {
    inside: Vec<PodLoad>,
    outside: Vec<Outside>,
}

impl Spread {
    fn start(lab: &Lab) -> Spread {
        let service = lab.cluster.get(&["service", "web"]);
        let ips = service["spec"]["clusterIPs"].as_array().expect("a list").iter();
        let urls: Vec<(String, String)> = ips
            .filter_map(|ip| ip.as_str())
            .map(|ip| match ip.contains(':') {
                true => ("web6".to_owned(), format!("http://[{ip}]/")),
                false => ("web4".to_owned(), format!("http://{ip}/")),
            })
            .collect();
        assert_eq!(urls.len(), 2, "{service}");
        let load = |node: &str, (id, url): &(String, String)| {
            PodLoad::start(&lab.cluster, &asker(node), id, url, PATIENCE)
        };
        let inside = ["node-1", "node-2"]
            .iter()
            .flat_map(|node| urls.iter().map(|url| load(node, url)));
        Spread {
            inside: inside.collect(),
            outside: lab
                .node_ports("node-1", "web")
                .into_iter()
                .map(Outside::start)
                .collect(),
        }
    }

    /// Ends them: nobody had to wait for a connection in vain.
    #[track_caller]
    fn assert_connected(self, lab: &Lab) {
        let (mut inside, mut outside) = (Tally::default(), Tally::default());
        for load in self.outside {
            outside.add(load.finish());
        }
        for load in self.inside {
            inside.add(load.finish(&lab.cluster));
        }
        println!(
            "a node stopped, endpoints on all nodes: {inside:?} from pods, {outside:?} from the machine"
        );
        for tally in [inside, outside] {
            assert!(tally.answered > 0, "nothing was asked");
            let connecting = tally.failures.keys().find(|why| why.contains("connecting"));
            assert_eq!(connecting, None, "{tally:?}");
        }
    }
}

/// A headless Service of `web`'s pods, and where those of the third node are.
struct Names {
    third: Vec<String>,
}

/// Its name.
const PODS: &str = "pods-of-web.default.svc.cluster.local";

impl Names {
    fn of_pods(lab: &Lab) -> Names {
        lab.apply(&[
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "pods-of-web" },
            "spec": { "clusterIP": "None", "selector": { "app": "web" }, "ports": [{ "port": 8080 }] } }),
        ]);
        let pods = lab.cluster.pods("web").into_iter();
        let third: Vec<String> = pods
            .filter(|pod| pod.node == "node-3")
            .map(|pod| pod.ip)
            .collect();
        assert!(!third.is_empty(), "no pod of `web` is on the third node");
        let names = Names { third };
        for node in ["node-1", "node-2"] {
            eventually(WAIT, || match names.told(lab, node)? {
                (found, _) if found == names.third.len() => Ok(()),
                told => Err(format!("{told:?}")),
            });
        }
        names
    }

    /// How many of the third node's pods a node's DNS tells, and all that it says.
    fn told(&self, lab: &Lab, node: &str) -> Result<(usize, String), String> {
        let outcome = lab.cluster.exec(&asker(node), &["nslookup", "-type=a", PODS]);
        let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
        match outcome.code {
            Some(0) => Ok((
                self.third
                    .iter()
                    .filter(|ip| words.contains(&ip.as_str()))
                    .count(),
                outcome.stdout,
            )),
            _ => Err(format!("{outcome:?}")),
        }
    }

    /// The others' names leave them out before the API knows anything of it.
    fn leave_the_third_out(&self, lab: &Lab) {
        for node in ["node-1", "node-2"] {
            eventually(WAIT, || match self.told(lab, node)? {
                (0, _) => Ok(()),
                (_, all) => Err(all),
            });
        }
        let node = lab.cluster.get(&["node", "node-3"]);
        let conditions = node["status"]["conditions"].as_array().expect("a list");
        let ready = conditions
            .iter()
            .find(|one| one["type"] == "Ready")
            .expect("it has one");
        assert_eq!(ready["status"], "True", "the API knew before the DNS");
    }
}
