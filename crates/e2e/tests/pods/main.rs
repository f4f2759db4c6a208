//! Pods as people write them: whatever a manifest asks for is seen from inside the containers, and what fails
//! says why in `kubectl describe`. One cluster for all.

mod debug;
mod failures;
mod fields;
mod life;

use std::net::TcpListener;
use std::time::Duration;

use e2e::{Cluster, Options, toolbox_archive};
use kernel::{NetNs, netns};
use testkit::{Registry, RegistryImage, Trouble};

const NODES: u32 = 2;

#[test]
fn what_manifests_ask_for_happens_and_what_fails_says_why() {
    let options = Options {
        nodes: NODES,
        ..Options::default()
    };
    let cluster = Cluster::up("e2e-pods", &options);
    let _registry = registry(&cluster);
    let apply = |text: &str| cluster.kubectl_with(&["apply", "-f", "-"], text).ok();
    // What takes its time to fail does so while the rest is looked at.
    apply(include_str!("manifests/failures.yaml"));
    for text in [
        include_str!("manifests/env.yaml"),
        include_str!("manifests/volumes.yaml"),
        include_str!("manifests/security.yaml"),
        include_str!("manifests/host.yaml"),
        include_str!("manifests/life.yaml"),
    ] {
        apply(text);
    }
    fields::environment(&cluster);
    fields::volumes(&cluster);
    fields::security(&cluster);
    fields::host(&cluster);
    debug::containers_come_to_running_pods(&cluster);
    debug::nodes(&cluster);
    life::order(&cluster);
    life::gates_and_rules(&cluster);
    failures::are_described(&cluster);
    cluster
        .kubectl(&["delete", "pods", "--all", "--grace-period=1"])
        .ok();
    std::fs::remove_dir_all("/tmp/ripstop-e2e-pods").ok();
}

/// A registry on the loopback of each node.
fn registry(cluster: &Cluster) -> Registry {
    let registry = Registry::default();
    for number in 1..=NODES {
        let name = format!("ripstop-{}-node-{number}", cluster.name());
        let namespace = NetNs::open(netns::named(&name)).expect("a node's namespace");
        let listener = namespace.run(|| TcpListener::bind("127.0.0.1:5000"));
        registry.serve(listener.expect("entered").expect("a free port"));
    }
    let image = RegistryImage::from_archive(&toolbox_archive(), "localhost/ripstop/toolbox:1");
    registry.push("team/app", "1", &image);
    registry.protect("team/app", "ann", "s3cret");
    let busy = Trouble::refuses(429, "TOOMANYREQUESTS", "come back tomorrow");
    registry.trouble("busy/app", busy);
    let denied = "requested access to the resource is denied";
    registry.trouble("denied/app", Trouble::refuses(403, "DENIED", denied));
    registry.push("corrupt/app", "1", &image.with_label("corrupt"));
    registry.trouble("corrupt/app", Trouble::Corrupt);
    registry
}

/// Waits for a condition, as in `condition=Ready`.
fn wait(cluster: &Cluster, what: &str, pod: &str) {
    let limit = format!("--timeout={}s", Duration::from_secs(60).as_secs());
    cluster
        .kubectl(&["wait", &format!("--for={what}"), &format!("pod/{pod}"), &limit])
        .ok();
}

/// What a command in a container prints.
fn sh(cluster: &Cluster, pod: &str, container: &str, script: &str) -> String {
    cluster
        .kubectl(&["exec", pod, "-c", container, "--", "sh", "-c", script])
        .ok()
}
