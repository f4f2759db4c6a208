//! kubectl as people use it. Any version will do; a fresh machine gets one from `make up`.

use std::path::PathBuf;
use std::process::Output;

use serde_json::json;
use tokio::process::Command;

use crate::support::{PODS, Running};

struct Kubectl {
    config: PathBuf,
    // Keeps the server.
    running: Running,
}

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: localhost/image:1}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: a, image: i}, {name: b, image: j}]}
"#;

impl Kubectl {
    async fn start() -> Kubectl {
        let running = Running::start().await;
        let kubectl = Kubectl {
            config: running.kubeconfig("admin", "system:masters"),
            running,
        };
        let path = kubectl.running.dir.path().join("manifest.yaml");
        std::fs::write(path, MANIFEST).unwrap();
        kubectl
    }

    async fn output(&self, line: &str) -> Output {
        Command::new("kubectl")
            .args(line.split(' '))
            .current_dir(self.running.dir.path())
            .env("KUBECONFIG", &self.config)
            .env("HOME", self.running.dir.path())
            .env("EDITOR", "./editor")
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .expect("kubectl is installed: `make up` does that")
    }

    /// What a command prints, which must succeed.
    async fn run(&self, line: &str) -> String {
        let output = self.output(line).await;
        let (out, error) = texts(&output);
        assert!(output.status.success(), "kubectl {line}: {out}{error}");
        out
    }

    /// What a command complains of, which must fail.
    async fn fail(&self, line: &str) -> String {
        let output = self.output(line).await;
        let (out, error) = texts(&output);
        assert!(!output.status.success(), "kubectl {line}: {out}{error}");
        error
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_applied_shown_changed_and_deleted() {
    let kubectl = Kubectl::start().await;
    let applied = kubectl.run("apply -f manifest.yaml").await;
    assert_eq!(applied.matches(" created").count(), 3, "{applied}");
    let again = kubectl.run("apply -f manifest.yaml").await;
    assert_eq!(again.matches(" unchanged").count(), 3, "{again}");

    let wide = kubectl.run("get deployments -o wide").await;
    assert!(
        wide.contains("0/3") && wide.contains("localhost/image:1"),
        "{wide}"
    );
    kubectl.run("label cm settings tier=front").await;
    assert!(
        kubectl
            .run("get cm -l tier=front -o name")
            .await
            .contains("configmap/settings")
    );
    kubectl.run("scale deployment web --replicas=5").await;
    for patch in [
        r#"--type=json -p [{"op":"replace","path":"/spec/minReadySeconds","value":1}]"#,
        r#"--type=merge -p {"spec":{"revisionHistoryLimit":3}}"#,
        r#"--type=strategic -p {"spec":{"template":{"spec":{"containers":[{"name":"d","image":"x"}]}}}}"#,
    ] {
        let operation = patch.replace("\"op\":\"replace\"", "\"op\":\"add\"");
        kubectl.run(&format!("patch deployment web {operation}")).await;
    }
    let fields = "{.spec.replicas}{.spec.minReadySeconds}{.spec.revisionHistoryLimit}{.spec.template.spec.containers[*].name}";
    let shown = kubectl
        .run(&format!("get deployment web -o jsonpath={fields}"))
        .await;
    assert!(shown == "513d c" || shown == "513c d", "{shown}");
    assert!(kubectl.run("describe deployment web").await.contains("5 desired"));

    kubectl.run("delete -f manifest.yaml --wait").await;
    assert!(kubectl.fail("get pod p").await.contains("pods \"p\" not found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_created_by_typed_commands() {
    let kubectl = Kubectl::start().await;
    std::fs::write(kubectl.running.dir.path().join("bytes"), [0, 255]).unwrap();
    for (command, shown, fields) in [
        ("namespace team", "namespace/team", "{.status.phase}=Active"),
        (
            "deployment web --image=i:1 --replicas=2 --port=80",
            "deployment/web",
            "{.spec.replicas}{.spec.template.spec.containers[0].ports[0].containerPort}=280",
        ),
        (
            "configmap words --from-literal=a=b --from-file=bytes",
            "configmap/words",
            "{.data.a}{.binaryData.bytes}=bAP8=",
        ),
        (
            "secret generic password --from-literal=k=v",
            "secret/password",
            "{.type}{.data.k}=Opaquedg==",
        ),
        (
            "secret docker-registry pull --docker-server=x --docker-username=u --docker-password=p",
            "secret/pull",
            "{.type}=kubernetes.io/dockerconfigjson",
        ),
        (
            "serviceaccount robot",
            "serviceaccount/robot",
            "{.metadata.namespace}=default",
        ),
        (
            "service clusterip inner --tcp=80:8080",
            "service/inner",
            "{.spec.ports[0].targetPort}{.spec.selector.app}=8080inner",
        ),
        (
            "service nodeport outer --tcp=80",
            "service/outer",
            "{.spec.type}=NodePort",
        ),
        (
            "service externalname away --external-name=example.test",
            "service/away",
            "{.spec.externalName}=example.test",
        ),
    ] {
        let (fields, expected) = fields.split_once('=').unwrap();
        let dry = kubectl
            .run(&format!("create {command} --dry-run=server -o name"))
            .await;
        assert!(dry.contains(shown.split_once('/').unwrap().1), "{dry}");
        kubectl.run(&format!("create {command}")).await;
        assert_eq!(
            kubectl.run(&format!("get {shown} -o jsonpath={fields}")).await,
            expected
        );
    }
    let error = kubectl.fail("create deployment web --image=i").await;
    assert!(
        error.contains("deployments.apps \"web\" already exists"),
        "{error}"
    );
    let error = kubectl.fail("create namespace N!").await;
    assert!(error.contains("lowercase RFC 1123 label"), "{error}");
    assert_eq!(kubectl.run("auth can-i create pods").await.trim(), "yes");
    assert!(kubectl.run("auth whoami").await.contains("system:masters"));
    kubectl
        .run("autoscale deployment web --min=2 --max=5 --cpu-percent=70")
        .await;
    let shown = kubectl.run("get hpa").await;
    assert!(
        shown.contains("Deployment/web   cpu: <unknown>/70%   2         5         0"),
        "{shown}"
    );
    let old = kubectl.run(
        "get horizontalpodautoscalers.v1.autoscaling web -o jsonpath={.spec.targetCPUUtilizationPercentage}",
    );
    assert_eq!(old.await, "70");
    assert!(
        kubectl
            .run("describe hpa web")
            .await
            .contains("resource cpu on pods")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_lists_and_watches_are_read() {
    let kubectl = Kubectl::start().await;
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
    let (watched, code) = tokio::join!(kubectl.output("events --watch --request-timeout=3s"), others);
    assert_eq!(code, 201);
    assert!(texts(&watched).0.contains("Tested"), "{watched:?}");
    let shown = kubectl.run("get events.events.k8s.io").await;
    assert!(shown.contains("Tested   pod/p    seen"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_explains_itself() {
    let kubectl = Kubectl::start().await;
    let resources = kubectl.run("api-resources").await;
    assert!(
        resources.contains("deployments") && resources.contains("cm"),
        "{resources}"
    );
    let explained = kubectl.run("explain deployment.spec.replicas").await;
    assert!(explained.contains("Number of desired pods"), "{explained}");
    assert!(kubectl.run("version").await.contains("v1.36.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named() {
    let kubectl = Kubectl::start().await;
    let broken = MANIFEST.replace("replicas: 3", "replicass: 3");
    std::fs::write(kubectl.running.dir.path().join("broken.yaml"), broken).unwrap();
    let error = kubectl.fail("apply -f broken.yaml").await;
    assert!(error.contains("replicass"), "{error}");
    let error = kubectl.fail("create -n nowhere -f manifest.yaml").await;
    assert!(error.contains("namespaces \"nowhere\" not found"), "{error}");
    kubectl.run("apply -f manifest.yaml").await;
    let error = kubectl.fail("exec p -c a -- true").await;
    assert!(error.contains("does not have a host assigned"), "{error}");
    assert!(kubectl.fail("get nonsense").await.contains("nonsense"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_and_a_wait_see_what_others_do() {
    let kubectl = Kubectl::start().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_applied_on_the_servers_side() {
    let kubectl = Kubectl::start().await;
    let applied = kubectl.run("apply --server-side -f manifest.yaml").await;
    assert_eq!(applied.matches(" serverside-applied").count(), 3, "{applied}");
    kubectl.run("apply --server-side -f manifest.yaml").await;
    // No difference: diff ends with 0.
    kubectl.run("diff --server-side -f manifest.yaml").await;

    kubectl.run("scale deployment web --replicas=5").await;
    let conflict = kubectl.fail("apply --server-side -f manifest.yaml").await;
    assert!(
        conflict.contains(
            "Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas"
        ),
        "{conflict}"
    );
    let differs = kubectl
        .output("diff --server-side --force-conflicts -f manifest.yaml")
        .await;
    let shown = texts(&differs).0;
    assert!(
        differs.status.code() == Some(1)
            && shown.contains("-  replicas: 5")
            && shown.contains("+  replicas: 3"),
        "{shown}"
    );
    kubectl
        .run("apply --server-side --force-conflicts -f manifest.yaml")
        .await;
    let owners = kubectl
        .run("get deployment web --show-managed-fields -o jsonpath={.metadata.managedFields[*].manager}{.spec.replicas}")
        .await;
    assert_eq!(owners, "kubectl3");
    let hidden = kubectl.run("get deployment web -o yaml").await;
    assert!(!hidden.contains("managedFields"), "{hidden}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_by_the_client_goes_over_to_the_server() {
    let kubectl = Kubectl::start().await;
    kubectl.run("apply -f manifest.yaml").await;
    let changed = MANIFEST
        .replace("colour: red", "colour: blue")
        .replace("replicas: 3", "replicas: 4");
    std::fs::write(kubectl.running.dir.path().join("changed.yaml"), changed).unwrap();
    let applied = kubectl.run("apply --server-side -f changed.yaml").await;
    assert_eq!(applied.matches(" serverside-applied").count(), 3, "{applied}");
    let shown = kubectl
        .run("get deployment/web cm/settings -o jsonpath={.items[*].spec.replicas}{.items[*].data.colour}")
        .await;
    assert_eq!(shown, "4blue");
    // And back again: the note of what was applied last has followed.
    let back = kubectl.run("apply -f manifest.yaml").await;
    assert!(back.contains("deployment.apps/web configured"), "{back}");
    let shown = kubectl.run("get cm settings -o jsonpath={.data.colour}").await;
    assert_eq!(shown, "red");
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_objects_are_like_any_other() {
    let kubectl = Kubectl::start().await;
    let dir = kubectl.running.dir.path().to_owned();
    std::fs::write(
        dir.join("definition.json"),
        crate::definitions::widgets().to_string(),
    )
    .unwrap();
    kubectl.run("apply -f definition.json").await;
    kubectl
        .run("wait --for=condition=Established crd/widgets.example.com")
        .await;
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 2}\n";
    std::fs::write(dir.join("widget.yaml"), widget).unwrap();
    assert!(kubectl.run("apply -f widget.yaml").await.contains("created"));
    assert!(kubectl.run("apply -f widget.yaml").await.contains("unchanged"));
    assert!(
        kubectl
            .run("apply --server-side -f widget.yaml")
            .await
            .contains("serverside-applied")
    );
    assert!(kubectl.run("get wd").await.contains("SIZE"));
    assert!(kubectl.run("get all").await.contains("widget.example.com/w"));
    assert!(kubectl.run("describe widget w").await.contains("Colour:  red"));
    assert!(
        kubectl
            .run("explain widget.spec")
            .await
            .contains("How large it is.")
    );
    assert!(
        kubectl
            .run("api-resources --api-group=example.com")
            .await
            .contains("widgets")
    );
    kubectl.run("scale widget w --replicas=3").await;
    kubectl
        .run(r#"patch widget w --type=merge -p {"spec":{"size":4}}"#)
        .await;
    kubectl.run("label widget w tier=front").await;
    let shown = kubectl
        .run("get widget w -o jsonpath={.spec.size}{.spec.replicas}{.metadata.labels.tier}")
        .await;
    assert_eq!(shown, "43front");
    std::fs::write(
        dir.join("wrong.yaml"),
        widget.replace("size: 2", "size: 2, shape: round"),
    )
    .unwrap();
    let error = kubectl.fail("create -f wrong.yaml").await;
    assert!(
        error.contains("unknown field \"spec.shape\"") || error.contains("unknown field \"shape\""),
        "{error}"
    );
    std::fs::write(
        dir.join("editor"),
        "#!/bin/sh\nsed -i 's/size: 4/size: 5/' \"$1\"\n",
    )
    .unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.join("editor"), permissions).unwrap();
    kubectl.run("edit widget w").await;
    assert_eq!(kubectl.run("get widget w -o jsonpath={.spec.size}").await, "5");
    kubectl.run("delete crd widgets.example.com --wait").await;
    let error = kubectl.fail("get widgets.v1.example.com").await;
    assert!(
        error.contains("the server doesn't have a resource type")
            || error.contains("the server could not find the requested resource"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_is_installed_upgraded_and_taken_out_without_a_warning() {
    let kubectl = Kubectl::start().await;
    let dir = kubectl.running.dir.path();
    std::fs::write(
        dir.join("first.yaml"),
        include_str!("../../../e2e/fixtures/chart/first.yaml"),
    )
    .unwrap();
    std::fs::write(
        dir.join("second.yaml"),
        include_str!("../../../e2e/fixtures/chart/second.yaml"),
    )
    .unwrap();
    let objects = include_str!("../../../e2e/fixtures/chart/first.yaml")
        .matches("\nkind: ")
        .count();
    // Twice: nothing changes, and nothing is complained of.
    for done in ["created", "unchanged"] {
        let output = kubectl.output("apply -f first.yaml").await;
        let (out, error) = texts(&output);
        assert!(output.status.success() && error.is_empty(), "{out}{error}");
        // A Secret is written with texts and read without: kubectl sees a change where there is none.
        let told = out
            .lines()
            .filter(|line| line.ends_with(done) || line.starts_with("secret/"));
        assert_eq!(told.count(), objects, "{out}");
    }
    assert_eq!(kubectl.output("diff -f first.yaml").await.status.code(), Some(0));
    assert_eq!(kubectl.output("diff -f second.yaml").await.status.code(), Some(1));
    let selector = "-l app.kubernetes.io/instance=shop";
    let pruned = "--prune --prune-allowlist=networking.k8s.io/v1/Ingress";
    let output = kubectl
        .output(&format!("apply -f second.yaml {selector} {pruned}"))
        .await;
    let (out, error) = texts(&output);
    assert!(output.status.success(), "{out}{error}");
    assert!(out.contains("ingress.networking.k8s.io/shop-web pruned"), "{out}");
    assert!(
        out.contains("horizontalpodautoscaler.autoscaling/shop-web configured"),
        "{out}"
    );
    let shown = kubectl
        .run(&format!(
            "get all,cm,secret,sa,role,rolebinding,pdb,netpol,hpa {selector} -o name"
        ))
        .await;
    // `all` has the autoscaler as well.
    assert_eq!(
        shown.lines().collect::<std::collections::BTreeSet<_>>().len(),
        objects - 1,
        "{shown}"
    );
    kubectl
        .run("apply --server-side --force-conflicts -f second.yaml")
        .await;
    kubectl.run("delete -f second.yaml --wait=false").await;
    for _ in 0..100 {
        if kubectl
            .run(&format!(
                "get all,cm,secret,sa,role,rolebinding,pdb,netpol,hpa {selector} -o name"
            ))
            .await
            .is_empty()
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("some of it is still there");
}
