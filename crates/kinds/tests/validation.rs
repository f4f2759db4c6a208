//! Broken manifests, and what the server says to them.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use rstest::rstest;
use serde_json::{Value, json};

fn prepare(group: &str, kind: &str, mut object: Value) -> Value {
    object["apiVersion"] = if group.is_empty() {
        "v1".into()
    } else {
        format!("{group}/v1").into()
    };
    object["kind"] = kind.into();
    let kind = kinds::find_kind(group, "v1", kind).unwrap();
    let mut object = kind.decode(&object).unwrap().object;
    kind.default(&mut object);
    object
}

fn check(group: &str, kind: &str, object: Value) -> Vec<String> {
    let object = prepare(group, kind, object);
    let kind = kinds::find_kind(group, "v1", kind).unwrap();
    kind.validate(&object, None)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn check_change(group: &str, kind: &str, old: Value, new: Value) -> Vec<String> {
    let (old, new) = (prepare(group, kind, old), prepare(group, kind, new));
    let kind = kinds::find_kind(group, "v1", kind).unwrap();
    kind.validate(&new, Some(&old))
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// `base` with some fields replaced or, where null, removed.
fn with(mut base: Value, changes: Value) -> Value {
    fn merge(base: &mut Value, changes: Value) {
        match (base, changes) {
            (Value::Object(base), Value::Object(changes)) => {
                for (key, value) in changes {
                    if value.is_null() {
                        base.remove(&key);
                    } else {
                        merge(base.entry(key).or_insert(Value::Null), value);
                    }
                }
            }
            (base, changes) => *base = changes,
        }
    }
    merge(&mut base, changes);
    base
}

fn pod(spec: Value) -> Value {
    let base = json!({
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"containers": [{"name": "a", "image": "a:1"}]},
    });
    with(base, json!({"spec": spec}))
}

fn container(container: Value) -> Value {
    pod(json!({"containers": [with(json!({"name": "a", "image": "a:1"}), container)]}))
}

fn deployment(changes: Value) -> Value {
    let base = json!({
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {"containers": [{"name": "a", "image": "a:1"}]},
            },
        },
    });
    with(base, changes)
}

fn service(spec: Value) -> Value {
    let base = json!({
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "a"}},
    });
    with(base, json!({"spec": spec}))
}

#[test]
fn ordinary_objects_are_valid() {
    let nothing: [String; 0] = [];
    assert_eq!(check("", "Pod", pod(json!({}))), nothing);
    assert_eq!(check("apps", "Deployment", deployment(json!({}))), nothing);
    assert_eq!(check("apps", "ReplicaSet", deployment(json!({}))), nothing);
    assert_eq!(check("", "Service", service(json!({}))), nothing);
    assert_eq!(
        check(
            "",
            "Service",
            service(json!({"clusterIP": "None", "ports": null}))
        ),
        nothing
    );
    assert_eq!(
        check(
            "",
            "Node",
            json!({"metadata": {"name": "node-1"}, "spec": {"podCIDRs": ["10.244.0.0/24", "fd00::/64"]}})
        ),
        nothing
    );
    assert_eq!(
        check("", "Namespace", json!({"metadata": {"name": "a"}})),
        nothing
    );
    let rich = container(json!({
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}, {"name": "B"}],
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "example.com/gpu": "1"}},
        "readinessProbe": {"httpGet": {"port": "http"}, "successThreshold": 2},
        "livenessProbe": {"exec": {"command": ["true"]}},
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
        "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a/b"}],
    }));
    let rich = with(
        rich,
        json!({"spec": {
            "volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "a", "path": "b/c"}]}}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"a": "b"}}}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}]}},
            "initContainers": [{"name": "i", "image": "a:1"}, {"name": "s", "image": "a:1", "restartPolicy": "Always", "readinessProbe": {"tcpSocket": {"port": 1}}}],
            "dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.96.0.10"], "searches": ["a.b."], "options": [{"name": "ndots", "value": "5"}]},
        }}),
    );
    assert_eq!(check("", "Pod", rich), nothing);
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

#[test]
fn names() {
    let mut object = pod(json!({}));
    object["metadata"]["name"] = "A_b".into();
    assert_eq!(
        check("", "Pod", object),
        [format!("metadata.name: Invalid value: \"A_b\": {SUBDOMAIN}")]
    );
    let mut object = pod(json!({}));
    object["metadata"] = json!({"namespace": "default"});
    assert_eq!(
        check("", "Pod", object),
        ["metadata.name: Required value: name or generateName is required"]
    );
    let mut object = pod(json!({}));
    object["metadata"]["generateName"] = "a-".into();
    assert!(check("", "Pod", object).is_empty());
}

#[rstest]
#[case(json!({"labels": {"a b": "x"}}), "metadata.labels: Invalid value: \"a b\": name part must consist of")]
#[case(json!({"labels": {"a": "-x"}}), "metadata.labels: Invalid value: \"-x\": a valid label must be an empty string or")]
#[case(json!({"annotations": {"a/b/c": "x"}}), "metadata.annotations: Invalid value: \"a/b/c\": a qualified name must consist of")]
#[case(json!({"finalizers": ["mine"]}), "metadata.finalizers: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified")]
#[case(json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "a"}]}), "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty")]
#[case(json!({"annotations": {"a": "x".repeat(300_000)}}), "metadata.annotations: Too long: may not be more than 262144 bytes")]
fn wrong_metadata(#[case] metadata: Value, #[case] message: &str) {
    let errors = check("", "Pod", with(pod(json!({})), json!({"metadata": metadata})));
    assert!(errors[0].starts_with(message), "{errors:?}");
}

#[rstest]
#[case::no_containers(pod(json!({"containers": []})), &["spec.containers: Required value"])]
#[case::no_image(pod(json!({"containers": [{"name": "a"}]})), &["spec.containers[0].image: Required value"])]
#[case::same_name(
    pod(json!({"containers": [{"name": "a", "image": "a"}, {"name": "a", "image": "a"}]})),
    &["spec.containers[1].name: Duplicate value: \"a\""]
)]
#[case::init_and_main_share_a_name(
    pod(json!({"initContainers": [{"name": "a", "image": "a"}]})),
    &["spec.initContainers[0].name: Duplicate value: \"a\""]
)]
#[case::restart_policy(
    pod(json!({"restartPolicy": "Sometimes"})),
    &["spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\""]
)]
#[case::missing_volume(
    container(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
    &["spec.containers[0].volumeMounts[0].name: Not found: \"v\""]
)]
#[case::ports(
    container(json!({"ports": [{"containerPort": 70000}, {"containerPort": 1, "name": "Web"}]})),
    &[
        "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        "spec.containers[0].ports[1].name: Invalid value: \"Web\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    ]
)]
#[case::host_ports(
    container(json!({"ports": [{"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 80}]})),
    &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""]
)]
#[case::probe_without_handler(
    container(json!({"livenessProbe": {"periodSeconds": 1}})),
    &["spec.containers[0].livenessProbe: Required value: must specify a handler type"]
)]
#[case::probe_with_two_handlers(
    container(json!({"livenessProbe": {"successThreshold": 2, "exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}})),
    &[
        "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
    ]
)]
#[case::request_above_limit(
    container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
    &["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"]
)]
#[case::resources(
    container(json!({"resources": {"limits": {"cpu": "-1", "example.com/gpu": "500m"}, "requests": {"cpu": "-1"}}})),
    &[
        "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        "spec.containers[0].resources.limits[example.com/gpu]: Invalid value: \"500m\": must be an integer",
        "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        "spec.containers[0].resources.requests[example.com/gpu]: Invalid value: \"500m\": must be an integer",
    ]
)]
#[case::environment(
    container(json!({"env": [{"name": ""}, {"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.foo"}}}]})),
    &[
        "spec.containers[0].env[0].name: Required value",
        "spec.containers[0].env[1].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        "spec.containers[0].env[2].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.foo\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
    ]
)]
#[case::init_container_with_a_probe(
    pod(json!({"initContainers": [{"name": "i", "image": "a", "readinessProbe": {"tcpSocket": {"port": 1}}}]})),
    &["spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"]
)]
#[case::volumes(
    pod(json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/a/../b"}}, {"name": "v", "secret": {"defaultMode": 4096}}]})),
    &[
        "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        "spec.volumes[1].name: Duplicate value: \"v\"",
        "spec.volumes[1].secret.secretName: Required value",
        "spec.volumes[1].secret.defaultMode: Invalid value: 4096: must be a number between 0 and 0777 (octal), both inclusive",
    ]
)]
#[case::scheduling(
    pod(json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}], "topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "x"}]})),
    &[
        "spec.tolerations[0].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
        "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
        "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"x\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
    ]
)]
#[case::dns(
    pod(json!({"dnsPolicy": "None"})),
    &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]
)]
#[case::privileges(
    container(json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}})),
    &["spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"]
)]
fn pods(#[case] object: Value, #[case] messages: &[&str]) {
    assert_eq!(check("", "Pod", object), messages);
}

#[test]
fn pods_change_little() {
    let old = container(json!({}));
    let nothing: [String; 0] = [];
    assert_eq!(
        check_change("", "Pod", old.clone(), container(json!({"image": "a:2"}))),
        nothing
    );
    assert_eq!(
        check_change(
            "",
            "Pod",
            old.clone(),
            with(old.clone(), json!({"metadata": {"labels": {"a": "b"}}}))
        ),
        nothing
    );
    let longer = with(
        old.clone(),
        json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}}),
    );
    assert_eq!(check_change("", "Pod", old.clone(), longer.clone()), nothing);
    assert_eq!(
        check_change("", "Pod", longer, old.clone()),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
    let errors = check_change("", "Pod", old.clone(), container(json!({"command": ["x"]})));
    assert!(
        errors[0].starts_with(
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        ),
        "{errors:?}"
    );
    assert!(
        errors[0].ends_with("changed: spec.containers[0].command"),
        "{errors:?}"
    );
    let empty = with(
        old.clone(),
        json!({"spec": {"nodeSelector": {}, "hostAliases": []}}),
    );
    assert_eq!(check_change("", "Pod", old.clone(), empty), nothing);
    let two = pod(json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "a:1"}]}));
    assert_eq!(
        check_change("", "Pod", old.clone(), two),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let renamed = with(old.clone(), json!({"metadata": {"uid": "1"}}));
    assert_eq!(
        check_change("", "Pod", old, renamed),
        ["metadata.uid: Invalid value: \"1\": field is immutable"]
    );
}

#[rstest]
#[case::selector_of_others(
    json!({"spec": {"selector": {"matchLabels": {"app": "b"}}}}),
    &["spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"]
)]
#[case::no_selector(
    json!({"spec": {"selector": null}}),
    &[
        "spec.selector: Required value",
        "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
    ]
)]
#[case::negative(json!({"spec": {"replicas": -1}}), &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"])]
#[case::no_room_to_move(
    json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}}),
    &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"]
)]
#[case::percent(
    json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": "some", "maxUnavailable": "101%"}}}}),
    &[
        "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"some\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
    ]
)]
#[case::recreate_with_rolling_update(
    json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}}),
    &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]
)]
#[case::restart_policy(
    json!({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}}),
    &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""]
)]
#[case::template(
    json!({"spec": {"template": {"spec": {"containers": [{"name": "A", "image": "a"}]}}}}),
    &["spec.template.spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]
)]
#[case::deadline(
    json!({"spec": {"minReadySeconds": 600}}),
    &["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"]
)]
fn deployments(#[case] changes: Value, #[case] messages: &[&str]) {
    assert_eq!(check("apps", "Deployment", deployment(changes)), messages);
}

#[test]
fn a_deployments_selector_stays() {
    let changed = json!({"spec": {"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b"}}}}});
    assert_eq!(
        check_change("apps", "Deployment", deployment(json!({})), deployment(changed)),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"]
    );
}

#[rstest]
#[case::no_ports(service(json!({"ports": null})), &["spec.ports: Required value"])]
#[case::name_of_ports(
    service(json!({"ports": [{"port": 1}, {"port": 2, "name": "a"}]})),
    &["spec.ports[0].name: Required value"]
)]
#[case::port(service(json!({"ports": [{"port": 0}]})), &[
    "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
    "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
])]
#[case::same_port(
    service(json!({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]})),
    &["spec.ports[1]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}"]
)]
#[case::node_port_of_cluster_ip(
    service(json!({"ports": [{"port": 1, "nodePort": 30000}]})),
    &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
)]
#[case::kind(
    service(json!({"type": "Nodeport"})),
    &["spec.type: Unsupported value: \"Nodeport\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""]
)]
#[case::address(
    service(json!({"clusterIP": "10.96.0.300"})),
    &["spec.clusterIPs[0]: Invalid value: \"10.96.0.300\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
)]
#[case::external_name(
    service(json!({"type": "ExternalName", "ports": null})),
    &["spec.externalName: Required value"]
)]
#[case::headless_node_port(
    service(json!({"type": "NodePort", "clusterIP": "None"})),
    &["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"]
)]
fn services(#[case] object: Value, #[case] messages: &[&str]) {
    assert_eq!(check("", "Service", object), messages);
}

#[test]
fn a_services_address_stays() {
    let at = |ip: &str| service(json!({"clusterIP": ip}));
    assert_eq!(
        check_change("", "Service", at("10.96.0.1"), at("10.96.0.2")),
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.2\"]: may not change once set"]
    );
    assert_eq!(
        check_change("", "Service", at("10.96.0.1"), service(json!({}))),
        ["spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset"]
    );
    assert!(check_change("", "Service", service(json!({})), at("10.96.0.1")).is_empty());
}

#[test]
fn config_maps_and_secrets() {
    let map = |changes: Value| {
        with(
            json!({"metadata": {"name": "a", "namespace": "default"}, "data": {"a": "1"}}),
            changes,
        )
    };
    let errors = check("", "ConfigMap", map(json!({"data": {"a b": ""}})));
    assert!(
        errors[0].starts_with("data[a b]: Invalid value: \"a b\": a valid config key must consist of"),
        "{errors:?}"
    );
    assert_eq!(
        check("", "ConfigMap", map(json!({"data": {"b": "x".repeat(1 << 20)}}))),
        [": Too long: may not be more than 1048576 bytes"]
    );
    assert_eq!(
        check_change(
            "",
            "ConfigMap",
            map(json!({"immutable": true})),
            map(json!({"data": {"a": "2"}}))
        ),
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ]
    );
    let secret = |kind: &str| json!({"metadata": {"name": "a", "namespace": "default"}, "type": kind});
    assert_eq!(
        check("", "Secret", secret("kubernetes.io/tls")),
        ["data[tls.crt]: Required value", "data[tls.key]: Required value"]
    );
    assert_eq!(
        check_change("", "Secret", secret("Opaque"), secret("a")),
        ["type: Invalid value: \"a\": field is immutable"]
    );
}

#[test]
fn nodes_endpoints_leases_and_events() {
    let node = json!({"metadata": {"name": "a"}, "spec": {"taints": [{"key": "a", "effect": "No"}], "podCIDRs": ["10.0.0.0/40"]}});
    assert_eq!(
        check("", "Node", node),
        [
            "spec.taints[0].effect: Unsupported value: \"No\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            "spec.podCIDRs[0]: Invalid value: \"10.0.0.0/40\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ]
    );
    let node = |cidr: &str| json!({"metadata": {"name": "a"}, "spec": {"podCIDRs": [cidr]}});
    assert_eq!(
        check_change("", "Node", node("10.244.0.0/24"), node("10.244.1.0/24")),
        ["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"]
    );
    let metadata = json!({"name": "a", "namespace": "default"});
    let endpoints = json!({"metadata": metadata, "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 1}]}]});
    assert_eq!(
        check("", "Endpoints", endpoints),
        [
            "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
        ]
    );
    let lease = json!({"metadata": metadata, "spec": {"leaseDurationSeconds": 0}});
    assert_eq!(
        check("coordination.k8s.io", "Lease", lease),
        ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]
    );
    let event =
        json!({"metadata": metadata, "involvedObject": {"kind": "Pod", "name": "a", "namespace": "other"}});
    assert_eq!(
        check("", "Event", event),
        ["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"]
    );
    assert_eq!(
        check(
            "",
            "Namespace",
            json!({"metadata": {"name": "a.b", "namespace": "x"}})
        ),
        [
            "metadata.name: Invalid value: \"a.b\": must not contain dots",
            "metadata.namespace: Forbidden: not allowed on this type"
        ]
    );
}

#[test]
fn a_rule_is_about_resources_or_about_paths() {
    let role = |kind: &str, rule: Value| {
        check(
            "rbac.authorization.k8s.io",
            kind,
            with(
                json!({ "metadata": { "name": "system:any/thing".replace('/', ":") }, "rules": [rule] }),
                match kind {
                    "Role" => json!({ "metadata": { "namespace": "ns" } }),
                    _ => json!({}),
                },
            ),
        )
    };
    let pods = json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] });
    let path = json!({ "verbs": ["get"], "nonResourceURLs": ["/healthz"] });
    assert_eq!(role("Role", pods.clone()), [""; 0]);
    assert_eq!(role("ClusterRole", pods), [""; 0]);
    assert_eq!(role("ClusterRole", path.clone()), [""; 0]);
    assert_eq!(
        role("Role", path),
        [
            r#"rules[0].nonResourceURLs: Invalid value: ["/healthz"]: namespaced rules cannot apply to non-resource URLs"#
        ]
    );
    assert_eq!(
        role("Role", json!({})),
        [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ]
    );
}

#[test]
fn a_binding_gives_a_role_of_its_scope_to_somebody() {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": { "name": "b" },
        "roleRef": { "kind": "ClusterRole", "name": "view" },
        "subjects": [
            { "kind": "User", "name": "jane" },
            { "kind": "ServiceAccount", "name": "robot", "namespace": "ns" },
        ],
    });
    let wrong = |changes: Value| check(GROUP, "ClusterRoleBinding", with(binding.clone(), changes));
    assert_eq!(wrong(json!({})), [""; 0]);
    assert_eq!(
        wrong(json!({ "roleRef": { "kind": "Role", "apiGroup": "x", "name": "" } })),
        [
            r#"roleRef.apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io""#,
            r#"roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole""#,
            "roleRef.name: Required value",
        ]
    );
    assert_eq!(
        wrong(json!({ "subjects": [{ "kind": "ServiceAccount", "name": "N", "apiGroup": "y" }, { "kind": "Robot", "name": "x" }] })).len(),
        4
    );
    let other = with(binding.clone(), json!({ "roleRef": { "name": "edit" } }));
    assert_eq!(
        check_change(GROUP, "ClusterRoleBinding", binding, other),
        [
            r#"roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"edit"}: cannot change roleRef"#
        ]
    );
}

#[test]
fn a_containers_own_restart_rules_are_checked() {
    let nothing: [String; 0] = [];
    let rules = |operator: &str, values: Value| {
        json!({"restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": operator, "values": values}}]})
    };
    let found = |container_: Value| check("", "Pod", container(container_));
    assert_eq!(found(rules("In", json!([42]))), nothing);
    let text = found(rules("Is", json!([]))).join("\n");
    assert!(
        text.contains("exitCodes.operator: Unsupported value") && text.contains("at least one exit code"),
        "{text}"
    );
    let mut without = rules("In", json!([1]));
    without["restartPolicy"] = Value::Null;
    assert_eq!(
        found(without),
        [
            "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used"
        ]
    );
}

#[test]
fn profiles_name_a_file_when_they_need_one_and_only_then() {
    let found = |profile: Value| {
        check(
            "",
            "Pod",
            container(json!({"securityContext": {"seccompProfile": profile}})),
        )
    };
    let at = "spec.containers[0].securityContext.seccompProfile";
    assert_eq!(
        found(json!({"type": "Localhost"})),
        [format!(
            "{at}.localhostProfile: Required value: must be set when seccomp type is Localhost"
        )]
    );
    assert_eq!(
        found(json!({"type": "Localhost", "localhostProfile": "../../etc/x"})),
        [format!(
            "{at}.localhostProfile: Invalid value: \"../../etc/x\": must not contain '..'"
        )]
    );
    assert_eq!(
        found(json!({"type": "RuntimeDefault", "localhostProfile": "x"})),
        [format!(
            "{at}.localhostProfile: Invalid value: \"x\": can only be set when seccomp type is Localhost"
        )]
    );
}
