//! The documented defaults, on whole objects.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use serde_json::{Value, json};

fn defaulted(group: &str, kind: &str, mut object: Value) -> Value {
    let version = if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    };
    object["apiVersion"] = version.into();
    object["kind"] = kind.into();
    let kind = kinds::find_kind(group, "v1", kind).unwrap();
    let mut object = kind.decode(&object).unwrap().object;
    kind.default(&mut object);
    let once = object.clone();
    kind.default(&mut object);
    assert_eq!(object, once, "defaulting twice changes nothing");
    assert_eq!(
        kind.decode(&object).unwrap().object,
        object,
        "defaults belong to the type"
    );
    object
}

#[test]
fn a_small_pod() {
    let pod = defaulted(
        "",
        "Pod",
        json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}),
    );
    assert_eq!(
        pod["spec"],
        json!({
            "containers": [{
                "name": "a",
                "image": "a",
                "imagePullPolicy": "Always",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "serviceAccount": "default",
            "serviceAccountName": "default",
            "terminationGracePeriodSeconds": 30,
        })
    );
    assert_eq!(
        pod["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
}

#[test]
fn a_pod_with_everything() {
    let pod = defaulted(
        "",
        "Pod",
        json!({"spec": {
            "hostNetwork": true,
            "serviceAccountName": "robot",
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "a",
                "image": "a:1",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "readinessProbe": {"httpGet": {"port": 80}},
                "livenessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 3},
                "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            }],
            "volumes": [
                {"name": "a"},
                {"name": "b", "configMap": {"name": "b"}},
                {"name": "c", "secret": {"secretName": "c"}},
                {"name": "d", "hostPath": {"path": "/d"}},
                {"name": "e", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token"}},
                    {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                ]}},
            ],
        }}),
    );
    let spec = &pod["spec"];
    let container = &spec["containers"][0];
    assert_eq!(
        container["ports"],
        json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}])
    );
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(
        container["readinessProbe"],
        json!({
            "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        })
    );
    assert_eq!(container["livenessProbe"]["periodSeconds"], 3);
    assert_eq!(container["lifecycle"]["preStop"]["httpGet"]["scheme"], "HTTP");
    assert_eq!(
        container["resources"]["requests"],
        json!({"cpu": "1", "memory": "1Gi"})
    );
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(spec["volumes"][0], json!({"name": "a", "emptyDir": {}}));
    assert_eq!(spec["volumes"][1]["configMap"]["defaultMode"], 420);
    assert_eq!(spec["volumes"][2]["secret"]["defaultMode"], 420);
    assert_eq!(spec["volumes"][3]["hostPath"]["type"], "");
    assert_eq!(spec["volumes"][4]["projected"]["defaultMode"], 420);
    assert_eq!(
        spec["volumes"][4]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"],
        3600
    );
    assert_eq!(
        spec["volumes"][4]["projected"]["sources"][1]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"],
        "v1"
    );
    assert_eq!(spec["serviceAccount"], "robot");
    assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(pod["status"]["qosClass"], "Guaranteed");
}

#[test]
fn a_deployment_and_its_template() {
    let deployment = defaulted(
        "apps",
        "Deployment",
        json!({"spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}},
        }}),
    );
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Always");
    // What only pods get: templates stay as they were written.
    for field in [
        "tolerations",
        "serviceAccountName",
        "priority",
        "enableServiceLinks",
    ] {
        assert_eq!(pod.get(field), None, "{field}");
    }
}

#[test]
fn recreate_has_no_rolling_update() {
    let deployment = defaulted(
        "apps",
        "Deployment",
        json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}}),
    );
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(deployment["spec"]["replicas"], 0);
}

#[test]
fn services() {
    let service = defaulted(
        "",
        "Service",
        json!({"spec": {"clusterIP": "None", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}}),
    );
    assert_eq!(
        service["spec"],
        json!({
            "clusterIP": "None",
            "clusterIPs": ["None"],
            "internalTrafficPolicy": "Cluster",
            "ports": [
                {"port": 80, "protocol": "TCP", "targetPort": 80},
                {"port": 53, "protocol": "UDP", "targetPort": "dns"},
            ],
            "sessionAffinity": "None",
            "type": "ClusterIP",
        })
    );
    let service = defaulted(
        "",
        "Service",
        json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}}),
    );
    assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(service["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(
        service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"],
        10_800
    );
}

#[test]
fn namespaces_and_the_rest() {
    let namespace = defaulted("", "Namespace", json!({"metadata": {"name": "a"}}));
    assert_eq!(
        namespace["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "a"})
    );
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");
    let ending = defaulted(
        "",
        "Namespace",
        json!({"metadata": {"name": "a", "deletionTimestamp": "2024-01-01T00:00:00Z"}}),
    );
    assert_eq!(ending["spec"], json!({}));
    assert_eq!(defaulted("", "Secret", json!({}))["type"], "Opaque");
    let node = defaulted("", "Node", json!({"status": {"capacity": {"cpu": "2"}}}));
    assert_eq!(node["status"]["allocatable"], json!({"cpu": "2"}));
    let endpoints = defaulted("", "Endpoints", json!({"subsets": [{"ports": [{"port": 1}]}]}));
    assert_eq!(endpoints["subsets"][0]["ports"][0]["protocol"], "TCP");
    for kind in kinds::all() {
        let spec = if kind.group() == "apps" {
            json!({"selector": {}})
        } else {
            Value::Null
        };
        defaulted(
            kind.group(),
            kind.kind(),
            json!({"metadata": {"name": "a"}, "spec": spec}),
        );
    }
}
