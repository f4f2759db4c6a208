//! Each verb once, in the words that people type.

use rstest::rstest;
use serde_json::json;
use testkit::WhichKubectl::{self, Installed, Packaged};

use super::{Kubectl, MANIFEST, texts};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn objects_are_shown_in_every_form(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    kubectl.run("create -f manifest.yaml").await;
    kubectl.run("run q --image=z:1 --labels=tier=front").await;
    let go =
        "go-template={{range.items}}{{.metadata.name}}:{{range.spec.containers}}{{.image}}{{end}};{{end}}";
    kubectl
        .shows(&[
            ("get pods -o name", &["pod/p\npod/q\n"]),
            ("get pods -o wide", &["NOMINATED NODE"]),
            ("get pods --no-headers", &["p     0/2   Pending"]),
            ("get pods --show-labels -L tier", &["TIER", "front   tier=front"]),
            ("get pods p -o json", &["\"kind\": \"Pod\""]),
            ("get pods,cm -o yaml", &["kind: ConfigMap", "kind: Pod"]),
            (
                "get pods -o jsonpath={.items[*].spec.containers[*].image}",
                &["i j z:1"],
            ),
            (&format!("get pods -o {go}"), &["p:ij;q:z:1;"]),
            (
                "get pods -o custom-columns=N:.metadata.name,I:.spec.containers[*].image",
                &["p     i,j", "q     z:1"],
            ),
            (
                "get pods --sort-by={.spec.containers[0].image}",
                &["p      0/2", "q      0/1"],
            ),
            (
                "get pods --field-selector=metadata.name=q,status.phase=Pending -o name",
                &["pod/q"],
            ),
            ("get pods -l tier=front,!other -o name", &["pod/q"]),
            ("get pods -A --chunk-size=1", &["default     p", "default     q"]),
            ("get pod/q cm/settings", &["pod/q", "configmap/settings"]),
            ("get deploy.apps,pods", &["deployment.apps/web", "pod/q"]),
            ("get deployments.v1.apps web", &["0/3"]),
            ("get pods nothing --ignore-not-found", &[]),
            ("describe pod p", &["QoS Class:", "Containers:"]),
            ("api-resources -o wide --sort-by=name", &["deletecollection"]),
            ("api-versions", &["networking.k8s.io/v1", "v1"]),
            ("cluster-info", &[&running_at(&kubectl)]),
            (
                "explain pod.spec --recursive",
                &["containerPort", "terminationGracePeriodSeconds"],
            ),
            (
                "auth can-i --list",
                &["*.*", "selfsubjectrulesreviews.authorization.k8s.io"],
            ),
            ("get --raw /", &["\"/apis/apps/v1\"", "\"/readyz\""]),
            ("get --raw /readyz?verbose", &["[+]ping ok\nreadyz check passed"]),
        ])
        .await;
    kubectl
        .refuses(&[
            (
                "get pods --field-selector=spec.nodeNam=x",
                "field label not supported: spec.nodeNam",
            ),
            ("get pods q nothing", "pods \"nothing\" not found"),
            (
                "get deployments.v1beta1.apps",
                "doesn't have a resource type \"deployments\"",
            ),
            ("explain pod.spec.nothing", "field \"nothing\" does not exist"),
            // Kubernetes without them says the same.
            ("get csr", "the server doesn't have a resource type \"csr\""),
            (
                "certificate approve c",
                "the server doesn't have a resource type \"certificatesigningrequests\"",
            ),
            ("top node", "Metrics API not available"),
            ("top pod", "Metrics API not available"),
            (
                "get --raw /livez/nothing",
                "the server could not find the requested resource",
            ),
        ])
        .await;
}

/// How `cluster-info` ends its line, in colours or not.
fn running_at(kubectl: &Kubectl) -> String {
    format!("https://{}", kubectl.running.address)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn objects_are_changed_by_every_verb(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    kubectl.run("apply -f manifest.yaml").await;
    let (changeable, _) = MANIFEST.rsplit_once("---").unwrap();
    kubectl.file("changeable.yaml", changeable);
    kubectl.editor("s/replicas: 3/replicas: 4/");
    kubectl
        .shows(&[
            ("edit deployment web", &["deployment.apps/web edited"]),
            ("edit deployment web", &["no changes made"]),
            ("label pod p tier=front", &["pod/p labeled"]),
            ("label pod p tier-", &["pod/p"]),
            ("annotate pods --all note=a", &["pod/p annotated"]),
            ("set image deploy/web c=other:2", &["image updated"]),
            ("set env deploy/web A=B", &["env updated"]),
            (
                "set resources deploy/web --limits=cpu=1",
                &["resource requirements updated"],
            ),
            ("set serviceaccount deploy/web robot", &["serviceaccount updated"]),
            ("rollout pause deploy/web", &["paused"]),
            ("rollout resume deploy/web", &["resumed"]),
            ("rollout restart deploy/web", &["restarted"]),
            ("rollout history deploy/web", &["deployment.apps/web"]),
            (
                "expose deployment web --port=80 --target-port=8080",
                &["service/web exposed"],
            ),
            ("set selector service web a=b", &["selector updated"]),
            ("apply view-last-applied cm settings", &["colour: red"]),
            (
                "apply set-last-applied -f manifest.yaml",
                &["deployment.apps/web configured"],
            ),
        ])
        .await;
    let fields = "{.spec.replicas} {.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env[0].value} {.spec.template.spec.containers[0].resources.limits.cpu} {.spec.template.spec.serviceAccountName}";
    let shown = kubectl
        .output_of(&["get", "deploy", "web", "-o", &format!("jsonpath={fields}")])
        .await;
    assert_eq!(texts(&shown).0, "4 other:2 B 1 robot");
    kubectl
        .refuses(&[
            ("annotate pod p note=b", "already has a value (a)"),
            (
                "label pod p a=b --resource-version=1",
                "the object has been modified",
            ),
            (
                "scale deploy web --replicas=2 --current-replicas=9",
                "xpected replicas to be 9, was 4",
            ),
            (
                "set image deploy/web nothing=x",
                "unable to find container named \"nothing\"",
            ),
            (
                r#"patch deploy web -p {"spec":{"replicas":"x"}}"#,
                "cannot unmarshal string",
            ),
            (
                r#"patch deploy web --type=json -p [{"op":"test","path":"/spec/replicas","value":9}]"#,
                "he request is invalid",
            ),
            (
                r#"patch pod p -p {"spec":{"nodeName":"q"}}"#,
                "pod updates may not change fields other than",
            ),
            (
                "wait --for=condition=Available deploy/web --timeout=0s",
                "condition",
            ),
        ])
        .await;
    kubectl
        .shows(&[
            (
                // A pod has more than its manifest by then, and that can't be taken out.
                "replace -f changeable.yaml",
                &["deployment.apps/web replaced", "configmap/settings replaced"],
            ),
            (
                "replace --force -f manifest.yaml",
                &["deployment.apps/web replaced"],
            ),
            ("delete cm settings --dry-run=server", &["(server dry run)"]),
            ("delete deploy web --cascade=background", &["\"web\" deleted"]),
            ("delete pods --field-selector=metadata.name=p", &["\"p\" deleted"]),
            (
                "delete svc,cm --all",
                &["\"web\" deleted", "\"settings\" deleted"],
            ),
        ])
        .await;
    assert_eq!(kubectl.run("get all,cm -o name").await, "");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_tainted_cordoned_and_drained(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    let node = json!({ "metadata": { "name": "n" } });
    assert_eq!(kubectl.running.raw().post("/api/v1/nodes", &node).await.code, 201);
    kubectl
        .shows(&[
            ("taint node n k=v:NoSchedule", &["node/n tainted"]),
            ("taint node n k=w:NoSchedule --overwrite", &["node/n modified"]),
            ("cordon n", &["node/n cordoned"]),
            ("get nodes", &["SchedulingDisabled"]),
            ("describe node n", &["k=w:NoSchedule", "Unschedulable:      true"]),
            ("drain n", &["node/n"]),
            ("uncordon n", &["node/n uncordoned"]),
            ("taint node n k:NoSchedule-", &["node/n untainted"]),
        ])
        .await;
    kubectl
        .refuses(&[("taint node n a=b:Wrong", "unsupported taint effect")])
        .await;
    let none = kubectl.run("get node n -o jsonpath={.spec}").await;
    assert!(
        !none.contains("taints") && !none.contains("unschedulable"),
        "{none}"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_newer_clients_know_works_too(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    kubectl.run("create -f manifest.yaml").await;
    for (since, command, words) in [
        (
            23,
            "wait --for=jsonpath={.spec.replicas}=3 deploy/web --timeout=10s",
            "condition met",
        ),
        (24, "create token default --duration=10m", "ey"),
        (26, "events", "No events found"),
        (27, "auth whoami", "system:masters"),
        (
            27,
            "get deploy web --subresource=scale",
            "NAME   DESIRED   AVAILABLE   AGE\nweb    3         0",
        ),
        (
            27,
            r#"patch deploy web --subresource=status --type=merge -p {"status":{"replicas":1}}"#,
            "patched",
        ),
        (27, "debug p --image=i -c look --target=a", ""),
    ] {
        if kubectl.client.since(since) {
            kubectl.shows(&[(command, &[words])]).await;
        } else {
            // It says itself that it doesn't know the word.
            kubectl.fail(command).await;
        }
    }
}
