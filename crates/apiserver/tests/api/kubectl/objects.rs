//! Objects are made, shown, changed and deleted.

use rstest::rstest;
use testkit::WhichKubectl::{self, Installed, Packaged};

use super::{Kubectl, texts};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn objects_are_applied_shown_changed_and_deleted(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
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

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn objects_are_created_by_typed_commands(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    std::fs::write(kubectl.running.dir.path().join("bytes"), [0, 255]).unwrap();
    let dry = kubectl
        .run("create deployment web --image=i --dry-run=server -o name")
        .await;
    assert_eq!(dry.trim(), "deployment.apps/web");
    assert_eq!(kubectl.run("get deployments -o name").await, "");
    // Kinds whose first version is gone, which is the one that old clients know.
    let newer = [
        (
            "cronjob hourly --image=i --schedule=@hourly",
            "cronjob/hourly",
            "{.spec.schedule}=@hourly",
        ),
        (
            "pdb enough --selector=app=web --min-available=1",
            "pdb/enough",
            "{.spec.minAvailable}=1",
        ),
    ];
    let newer: &[_] = if kubectl.client.since(21) { &newer } else { &[] };
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
        (
            "service loadbalancer front --tcp=80",
            "service/front",
            "{.spec.type}=LoadBalancer",
        ),
        (
            "secret tls keys --cert=admin-client.crt --key=admin-client.key",
            "secret/keys",
            "{.type}=kubernetes.io/tls",
        ),
        ("job once --image=i", "job/once", "{.spec.completions}=1"),
        (
            "ingress way --rule=example.test/a=web:80,tls=keys",
            "ingress/way",
            "{.spec.rules[0].http.paths[0].backend.service.port.number}=80",
        ),
        ("quota few --hard=pods=2", "quota/few", "{.spec.hard.pods}=2"),
        ("priorityclass high --value=7", "pc/high", "{.value}=7"),
        (
            "role reader --verb=get --resource=pods",
            "role/reader",
            "{.rules[0].resources[0]}=pods",
        ),
        (
            "rolebinding readers --role=reader --user=u",
            "rolebinding/readers",
            "{.subjects[0].name}=u",
        ),
        (
            "clusterrole seer --verb=get,list --resource=nodes",
            "clusterrole/seer",
            "{.rules[0].verbs[1]}=list",
        ),
        (
            "clusterrolebinding seers --clusterrole=seer --serviceaccount=default:robot",
            "clusterrolebinding/seers",
            "{.subjects[0].kind}=ServiceAccount",
        ),
    ]
    .iter()
    .chain(newer)
    {
        let (fields, expected) = fields.split_once('=').unwrap();
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
    let denied = kubectl.output("auth can-i create pods --as=joe").await;
    assert_eq!((denied.status.code(), texts(&denied).0.trim()), (Some(1), "no"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn autoscalers_are_shown_in_both_versions(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    kubectl.run("create -f manifest.yaml").await;
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
    // Old clients write more about less.
    let word = if kubectl.client.since(23) {
        "resource cpu on pods"
    } else {
        "Deployment/web"
    };
    assert!(kubectl.run("describe hpa web").await.contains(word));
}
