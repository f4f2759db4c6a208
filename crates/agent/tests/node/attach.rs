//! Pods attached by the real plugin, through the network part, in the real kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Agent, TestNode, address};
use kernel::NetNs;
use plan::PolicyChange;
use serde_json::json;
use testkit::{Pong, TestNs, eventually_async, ping};

const DUAL: &[&str] = &["10.244.1.0/24", "fd00:10:244:1::/64"];

/// Without our programs a pod could say anything in anybody's name: it waits.
#[tokio::test(flavor = "multi_thread")]
async fn no_pod_is_attached_until_our_programs_can_be_kept_in_the_kernel() {
    let mut node = TestNode::new(DUAL).await;
    let bpffs = node.netns().pins();
    node.spec.pins = bpffs.join("node");
    std::os::unix::fs::symlink("/nowhere/at/all", &node.spec.pins).expect("a bpffs has links");
    let agent = Agent::begin(&node.spec).await;
    let place = node.spec.pins.display().to_string();
    let says_where = |state: &Result<(), String>| state.as_ref().is_err_and(|reason| reason.contains(&place));
    agent.until(says_where).await.expect_err("unready");

    let pod = TestNs::new("pod").await;
    let add = || node.call("ADD", "web", &pod.path()).run();
    let refusal = add().await.expect_err("refused");
    assert_eq!(refusal["code"], 11, "try again later: {refusal}");
    assert!(refusal.to_string().contains(&place), "{refusal}");
    assert_eq!(node.kernel_state().await.0, 0);

    std::fs::remove_file(&node.spec.pins).expect("the link is there");
    agent.until(Result::is_ok).await.expect("ready");
    add().await.expect("attached");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_attached_checked_and_detached() {
    let node = TestNode::new(DUAL).await;
    let agent = Agent::start(&node.spec).await;
    let pod = TestNs::new("pod").await;
    let before = node.kernel_state().await;

    let result = node
        .call("ADD", "web", &pod.path())
        .run()
        .await
        .expect("attached");
    for ip in result["ips"].as_array().expect("a list") {
        let own = ip["address"]
            .as_str()
            .and_then(|text| text.split('/').next())
            .expect("an address");
        let own: IpAddr = own.parse().expect("an address");
        assert_eq!(
            ping(node.netns(), own, 56).expect("sent"),
            Pong::Reply,
            "node to pod {own}"
        );
        let like = |address: &&IpAddr| address.is_ipv4() == own.is_ipv4();
        let node_ip = *node
            .spec
            .node
            .addresses
            .iter()
            .find(like)
            .expect("an address of the family");
        assert_eq!(
            ping(&pod, node_ip, 56).expect("sent"),
            Pong::Reply,
            "pod to node {node_ip}"
        );
    }
    assert_eq!(result["ips"].as_array().map(Vec::len), Some(2));

    let again = node
        .call("ADD", "web", &pod.path())
        .run()
        .await
        .expect("attached");
    assert_eq!(again, result);
    let check = || {
        node.call("CHECK", "web", &pod.path())
            .with("prevResult", result.clone())
    };
    check().run().await.expect("as it was made");
    node.call("STATUS", "", Path::new("")).run().await.expect("ready");

    let inside = pod.netlink();
    let link = inside.link_index("eth0").await.expect("the pod's link");
    inside
        .delete_address(link, "10.244.1.1/32".parse().expect("a prefix"))
        .await
        .expect("deleted");
    let error = check().run().await.expect_err("an address is gone");
    assert_eq!(error["code"], 100);
    assert!(
        error["details"]
            .as_str()
            .is_some_and(|text| text.contains("no address 10.244.1.1/32")),
        "{error}"
    );

    node.call("DEL", "web", &pod.path())
        .run()
        .await
        .expect("detached");
    assert_eq!(node.kernel_state().await, before);
    assert!(inside.link("eth0").await.expect("asked").is_none());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_isolation_somebody_took_from_the_kernel_is_not_as_it_was_made() {
    let node = TestNode::new(DUAL).await;
    let agent = Agent::start(&node.spec).await;
    let pod = TestNs::new("pod").await;
    let add = node.call("ADD", "web", &pod.path()).run();
    let result = add.await.expect("attached");
    let check = || {
        node.call("CHECK", "web", &pod.path())
            .with("prevResult", result.clone())
    };
    check().run().await.expect("as it was made");

    let own = NetNs::open(&node.spec.netns).expect("the node's namespace");
    let kernel = kernel::Kernel::open(own, node.spec.pins.clone()).expect("its kernel");
    let mut change = PolicyChange::default();
    change.isolation.removed.push(address(&result));
    kernel.change_policies(&change).expect("somebody's change");
    let error = check()
        .run()
        .await
        .expect_err("nothing says what holds for the pod");
    let said = format!("no isolation of {}", address(&result));
    assert_eq!(error["code"], 100, "{error}");
    assert!(
        error["details"].as_str().is_some_and(|text| text.contains(&said)),
        "{error}"
    );

    // The agent has heard of it, and puts it right.
    eventually_async(Duration::from_secs(20), async || check().run().await.is_ok()).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_on_one_node_reach_each_other_and_go_on_doing_so_without_an_agent() {
    let node = TestNode::new(DUAL).await;
    let agent = Agent::start(&node.spec).await;
    let (one, two) = (TestNs::new("one").await, TestNs::new("two").await);
    node.call("ADD", "one", &one.path())
        .run()
        .await
        .expect("attached");
    let result = node
        .call("ADD", "two", &two.path())
        .run()
        .await
        .expect("attached");
    let before = node.kernel_state().await;
    agent.stop().await;
    assert_eq!(ping(&one, address(&result), 1400).expect("sent"), Pong::Reply);

    let agent = Agent::start(&node.spec).await;
    assert_eq!(
        agent.network.counters().counts().kernel_writes,
        0,
        "a restart rewrites nothing"
    );
    assert_eq!(node.kernel_state().await, before);
    assert_eq!(ping(&one, address(&result), 1400).expect("sent"), Pong::Reply);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_gone_is_an_unknown_container_and_its_del_succeeds() {
    let node = TestNode::new(DUAL).await;
    let agent = Agent::start(&node.spec).await;
    let error = node
        .call("ADD", "gone", Path::new("/run/netns/rt-none"))
        .run()
        .await
        .expect_err("no namespace");
    assert_eq!(error["code"], 3);
    assert!(agent.network.attachments().is_empty());

    let pod = TestNs::new("pod").await;
    let path = pod.path();
    node.call("ADD", "web", &path).run().await.expect("attached");
    drop(pod);
    node.call("DEL", "web", &path).run().await.expect("detached");
    node.call("DEL", "web", Path::new("")).run().await.expect("again");
    assert!(agent.network.attachments().is_empty());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_of_somebody_elses_is_left_alone() {
    let node = TestNode::new(DUAL).await;
    let agent = Agent::start(&node.spec).await;
    let pod = TestNs::new("pod").await;
    let end = |name| kernel::link::VethEnd {
        name,
        ..kernel::link::VethEnd::default()
    };
    pod.netlink()
        .add_veth(&end("eth0"), &end("other"))
        .await
        .expect("a link of somebody else's");
    let error = node
        .call("ADD", "web", &pod.path())
        .run()
        .await
        .expect_err("taken");
    assert_eq!(error["code"], 101, "{error}");
    assert!(pod.netlink().link("eth0").await.expect("asked").is_some());
    assert!(agent.network.attachments().is_empty());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_whose_pods_went_while_nobody_watched_are_released() {
    let node = TestNode::new(DUAL).await;
    let agent = Agent::start(&node.spec).await;
    let (stays, goes) = (TestNs::new("stays").await, TestNs::new("goes").await);
    node.call("ADD", "stays", &stays.path())
        .run()
        .await
        .expect("attached");
    node.call("ADD", "goes", &goes.path())
        .run()
        .await
        .expect("attached");
    agent.stop().await;
    drop(goes);
    // The kernel takes a namespace apart in its own time.
    let netlink = node.netns().netlink();
    let one_left = async || {
        let links = netlink.links().await.expect("links");
        links
            .iter()
            .filter(|link| link.name.starts_with(model::LINK_PREFIX))
            .count()
            == 1
    };
    eventually_async(Duration::from_secs(20), one_left).await;

    let agent = Agent::start(&node.spec).await;
    let left: Vec<String> = agent
        .network
        .attachments()
        .into_keys()
        .map(|id| id.container)
        .collect();
    assert_eq!(left, ["stays"]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_takes_what_the_runtime_does_not_know() {
    let node = TestNode::new(DUAL).await;
    let agent = Agent::start(&node.spec).await;
    let (keep, go) = (TestNs::new("keep").await, TestNs::new("go").await);
    node.call("ADD", "keep", &keep.path())
        .run()
        .await
        .expect("attached");
    node.call("ADD", "go", &go.path()).run().await.expect("attached");
    let valid = json!([{"containerID": "keep", "ifname": "eth0"}]);
    let gc = node
        .call("GC", "", Path::new(""))
        .with("cni.dev/valid-attachments", valid);
    gc.run().await.expect("done");
    assert!(go.netlink().link("eth0").await.expect("asked").is_none());
    assert!(keep.netlink().link("eth0").await.expect("asked").is_some());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_whose_plugin_was_killed_leaves_nothing_once_its_del_came() {
    let node = Arc::new(TestNode::new(DUAL).await);
    let agent = Agent::start(&node.spec).await;
    let before = node.kernel_state().await;
    let pod = TestNs::new("pod").await;
    for round in 0..40u32 {
        let container = format!("c{round}");
        let (call, path) = (node.call("ADD", &container, &pod.path()), pod.path());
        tokio::task::spawn_blocking(move || {
            let mut child = call.spawn();
            // From before it has connected to after it has its answer.
            std::thread::sleep(Duration::from_micros(u64::from(round) * 150));
            child.kill().expect("killed, or ended already");
            child.wait().expect("reaped");
        })
        .await
        .expect("no panic");
        node.call("DEL", &container, &path).run().await.expect("detached");
    }
    eventually_async(Duration::from_secs(20), async || {
        agent.network.attachments().is_empty()
    })
    .await;
    assert_eq!(node.kernel_state().await, before);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pods_at_once_have_an_address_each() {
    let node = Arc::new(TestNode::new(DUAL).await);
    let agent = Agent::start(&node.spec).await;
    let mut pods = Vec::new();
    for number in 0..30 {
        let node = node.clone();
        pods.push(tokio::spawn(async move {
            let pod = TestNs::new("pod").await;
            let result = node
                .call("ADD", &format!("c{number}"), &pod.path())
                .run()
                .await
                .expect("attached");
            (pod, address(&result))
        }));
    }
    let mut attached = Vec::new();
    for pod in pods {
        attached.push(pod.await.expect("no panic"));
    }
    let addresses: BTreeSet<IpAddr> = attached.iter().map(|(_, address)| *address).collect();
    assert_eq!(addresses.len(), attached.len());
    for (pod, address) in &attached[1..] {
        assert_eq!(
            ping(pod, attached[0].1, 56).expect("sent"),
            Pong::Reply,
            "from {address}"
        );
    }
    agent.stop().await;
}
