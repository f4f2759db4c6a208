//! What is there is listed, watched and explained, and what isn't is said.

use rstest::rstest;
use serde_json::json;
use testkit::WhichKubectl::{self, Installed, Packaged};

use super::{Kubectl, MANIFEST, texts};
use crate::support::PODS;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn typed_lists_and_watches_are_read(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    kubectl.run("create -f manifest.yaml").await;
    let raw = kubectl.running.raw();
    let node = json!({ "metadata": { "name": "n" } });
    raw.post("/api/v1/nodes", &node).await;
    let bind = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n" } });
    raw.post(&format!("{PODS}/p/binding"), &bind).await;
    // These read typed objects: pods by node, and the events of a watch.
    let drained = kubectl.run("drain n --force --dry-run=server").await;
    assert!(drained.contains("evicting pod default/p"), "{drained}");
    assert!(
        kubectl
            .run("describe node n")
            .await
            .contains("default                     p")
    );
    let others = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let event = json!({
            "metadata": { "name": "e" }, "reason": "Tested", "message": "seen", "type": "Normal",
            "involvedObject": { "kind": "Pod", "namespace": "default", "name": "p" },
            "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1,
        });
        raw.post("/api/v1/namespaces/default/events", &event).await.code
    };
    let watch = if kubectl.client.since(26) {
        "events"
    } else {
        "get events"
    };
    let watch = format!("{watch} --watch --request-timeout=3s");
    let (watched, code) = tokio::join!(kubectl.output(&watch), others);
    assert_eq!(code, 201);
    assert!(texts(&watched).0.contains("Tested"), "{watched:?}");
    let shown = kubectl.run("get events.events.k8s.io").await;
    assert!(shown.contains("Tested   pod/p    seen"), "{shown}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_api_explains_itself(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    let resources = kubectl.run("api-resources").await;
    assert!(
        resources.contains("deployments") && resources.contains("cm"),
        "{resources}"
    );
    let explained = kubectl.run("explain deployment.spec.replicas").await;
    assert!(explained.contains("Number of desired pods"), "{explained}");
    assert!(kubectl.run("version").await.contains("v1.36.0"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    let broken = MANIFEST.replace("replicas: 3", "replicass: 3");
    kubectl.file("broken.yaml", &broken);
    let error = kubectl.fail("apply -f broken.yaml").await;
    assert!(error.contains("replicass"), "{error}");
    let error = kubectl.fail("create -n nowhere -f manifest.yaml").await;
    assert!(error.contains("namespaces \"nowhere\" not found"), "{error}");
    kubectl.run("apply -f manifest.yaml").await;
    let error = kubectl.fail("exec p -c a -- true").await;
    assert!(error.contains("does not have a host assigned"), "{error}");
    assert!(kubectl.fail("get nonsense").await.contains("nonsense"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_and_a_wait_see_what_others_do(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    kubectl.run("create -f manifest.yaml").await;
    let watch = kubectl.output("get pods --watch --request-timeout=3s");
    let wait = kubectl.run("wait --for=condition=Ready pod/p --timeout=20s");
    let others = async {
        // The watch gets its time to start; what it shows doesn't depend on it.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        let path = format!("{PODS}/p/status");
        kubectl
            .running
            .raw()
            .patch(&path, "strategic-merge", &ready)
            .await
            .code
    };
    let (watched, waited, code) = tokio::join!(watch, wait, others);
    assert!(texts(&watched).0.contains("0/2"), "{watched:?}");
    assert_eq!((waited.trim(), code), ("pod/p condition met", 200));
}
