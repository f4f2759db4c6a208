//! What `kubectl get` shows.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use rstest::rstest;
use serde_json::{Value, json};

/// 2024-01-01T00:00:00Z.
const NOW: i64 = 1_704_067_200;

/// The row as `kubectl get -o wide` prints it, with headings.
fn wide(group: &str, kind: &str, object: Value) -> String {
    let kind = kinds::find_kind(group, "v1", kind).unwrap();
    let cells = kind.row(&object, NOW);
    assert_eq!(cells.len(), kind.columns().len(), "{}", kind.kind());
    let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let columns = kind.columns();
    let pairs = columns.iter().zip(&cells);
    pairs
        .map(|(column, value)| format!("{}={}", column.name, cell(value)))
        .collect::<Vec<_>>()
        .join(" | ")
}

fn metadata() -> Value {
    json!({"name": "a", "namespace": "default", "creationTimestamp": "2023-12-31T23:55:00Z"})
}

#[rstest]
#[case(-5, "<invalid>")]
#[case(-1, "0s")]
#[case(0, "0s")]
#[case(119, "119s")]
#[case(120, "2m")]
#[case(192, "3m12s")]
#[case(600, "10m")]
#[case(10_799, "179m")]
#[case(10_800, "3h")]
#[case(11_100, "3h5m")]
#[case(28_800, "8h")]
#[case(172_799, "47h")]
#[case(187_200, "2d4h")]
#[case(691_200, "8d")]
#[case(63_072_000, "2y")]
#[case(63_158_400, "2y1d")]
#[case(252_288_000, "8y")]
fn ages(#[case] seconds: i64, #[case] text: &str) {
    assert_eq!(kinds::human_duration(seconds), text);
}

fn status(status: Value) -> String {
    pod_row(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        status,
        false,
    )
}

fn pod_row(spec: Value, status: Value, deleted: bool) -> String {
    let mut metadata = metadata();
    if deleted {
        metadata["deletionTimestamp"] = "2024-01-01T00:00:30Z".into();
    }
    let kind = kinds::find("", "v1", "pods").unwrap();
    let cells = kind.row(
        &json!({"metadata": metadata, "spec": spec, "status": status}),
        NOW,
    );
    cells[1..4]
        .iter()
        .map(|cell| cell.as_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

fn running(ready: bool) -> Value {
    json!({"ready": ready, "restartCount": 0, "state": {"running": {}}})
}

fn ended(code: i32, reason: &str) -> Value {
    json!({"restartCount": 0, "state": {"terminated": {"exitCode": code, "reason": reason}}})
}

#[rstest]
#[case::unscheduled(json!({"phase": "Pending"}), "0/2 Pending 0")]
#[case::creating(
    json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}),
    "0/2 ContainerCreating 0"
)]
#[case::running(json!({"phase": "Running", "containerStatuses": [running(true), running(true)]}), "2/2 Running 0")]
#[case::not_ready(json!({"phase": "Running", "containerStatuses": [running(true), running(false)]}), "1/2 Running 0")]
#[case::crash_loop(
    json!({"phase": "Running", "containerStatuses": [{
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2023-12-31T23:59:48Z"}},
    }]}),
    "0/2 CrashLoopBackOff 3 (12s ago)"
)]
#[case::completed(json!({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}), "0/2 Completed 0")]
#[case::error(json!({"phase": "Failed", "containerStatuses": [ended(1, "Error")]}), "0/2 Error 0")]
#[case::signal(
    json!({"containerStatuses": [{"state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
    "0/2 Signal:9 0"
)]
#[case::one_of_two_ended(
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [ended(0, "Completed"), running(true)]}),
    "1/2 NotReady 0"
)]
#[case::evicted(json!({"phase": "Failed", "reason": "Evicted"}), "0/2 Evicted 0")]
#[case::gated(
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
    "0/2 SchedulingGated 0"
)]
fn pod_statuses(#[case] given: Value, #[case] shown: &str) {
    assert_eq!(status(given), shown);
}

#[rstest]
#[case(json!([{"name": "i", "state": {"running": {}}}, {"name": "j", "state": {"waiting": {"reason": "PodInitializing"}}}]), "0/1 Init:0/2 0")]
#[case(json!([{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]), "0/1 Init:1/2 0")]
#[case(json!([{"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]), "0/1 Init:CrashLoopBackOff 2")]
#[case(json!([{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]), "0/1 Init:Error 0")]
#[case(json!([{"name": "i", "state": {"terminated": {"exitCode": 2}}}]), "0/1 Init:ExitCode:2 0")]
fn init_containers(#[case] statuses: Value, #[case] shown: &str) {
    let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
    assert_eq!(
        pod_row(
            spec,
            json!({"phase": "Pending", "initContainerStatuses": statuses}),
            false
        ),
        shown
    );
}

#[test]
fn sidecars_count_as_containers() {
    let spec =
        json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
    let status = json!({
        "phase": "Running",
        "conditions": [{"type": "Initialized", "status": "True"}],
        "initContainerStatuses": [{"name": "s", "ready": true, "started": true, "restartCount": 1, "state": {"running": {}}}],
        "containerStatuses": [running(true)],
    });
    assert_eq!(pod_row(spec, status, false), "2/2 Running 1");
}

#[test]
fn pods_on_their_way_out() {
    let spec = json!({"containers": [{"name": "a"}]});
    let status = json!({"phase": "Running", "containerStatuses": [running(true)]});
    assert_eq!(pod_row(spec.clone(), status, true), "1/1 Terminating 0");
    let ended = json!({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]});
    assert_eq!(pod_row(spec.clone(), ended, true), "0/1 Completed 0");
    assert_eq!(
        pod_row(spec, json!({"phase": "Running", "reason": "NodeLost"}), true),
        "0/1 Unknown 0"
    );
}

#[test]
fn rows() {
    let rows = [
        wide(
            "",
            "Pod",
            json!({"metadata": metadata(), "spec": {"nodeName": "n1", "containers": [{}], "readinessGates": [{"conditionType": "x"}]}, "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.2"}], "conditions": [{"type": "x", "status": "True"}]}}),
        ),
        wide(
            "",
            "Node",
            json!({
                "metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}, "creationTimestamp": "2023-12-30T00:00:00Z"},
                "spec": {"unschedulable": true},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "172.30.0.11"}, {"type": "Hostname", "address": "n1"}],
                    "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian GNU/Linux 12", "kernelVersion": "6.1", "containerRuntimeVersion": "containerd://1.6.20"},
                },
            }),
        ),
        wide("", "Node", json!({"metadata": {"name": "n2"}})),
        wide(
            "apps",
            "Deployment",
            json!({
                "metadata": metadata(),
                "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a"}}, "template": {"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:2"}]}}},
                "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2},
            }),
        ),
        wide(
            "apps",
            "ReplicaSet",
            json!({
                "metadata": metadata(),
                "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a"}}, "template": {"spec": {"containers": [{"name": "a", "image": "x:1"}]}}},
                "status": {"replicas": 3, "readyReplicas": 2},
            }),
        ),
        wide(
            "",
            "Service",
            json!({"metadata": metadata(), "spec": {"type": "NodePort", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"app": "a"}}}),
        ),
        wide(
            "",
            "Service",
            json!({"metadata": metadata(), "spec": {"type": "LoadBalancer"}}),
        ),
        wide(
            "",
            "Namespace",
            json!({"metadata": metadata(), "status": {"phase": "Active"}}),
        ),
        wide(
            "",
            "ConfigMap",
            json!({"metadata": metadata(), "data": {"a": "", "b": ""}, "binaryData": {"c": ""}}),
        ),
        wide(
            "",
            "Secret",
            json!({"metadata": metadata(), "type": "Opaque", "data": {"a": ""}}),
        ),
        wide("", "ServiceAccount", json!({"metadata": metadata()})),
        wide(
            "",
            "Event",
            json!({
                "metadata": metadata(), "type": "Normal", "reason": "Scheduled", "message": " assigned\n", "count": 2,
                "involvedObject": {"kind": "Pod", "name": "a", "fieldPath": "spec"},
                "source": {"component": "scheduler", "host": "n1"},
                "firstTimestamp": "2023-12-31T23:59:00Z", "lastTimestamp": "2023-12-31T23:59:50Z",
            }),
        ),
        wide(
            "",
            "Event",
            json!({"metadata": metadata(), "involvedObject": {"kind": "Node", "name": "n1"}, "eventTime": "2023-12-31T23:59:50.000000Z", "reportingComponent": "kubelet"}),
        ),
        wide(
            "coordination.k8s.io",
            "Lease",
            json!({"metadata": metadata(), "spec": {"holderIdentity": "n1"}}),
        ),
        wide(
            "",
            "Endpoints",
            json!({"metadata": metadata(), "subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}, {"port": 81}]}]}),
        ),
    ];
    insta::assert_snapshot!(rows.join("\n"), @r"
    Name=a | Ready=0/1 | Status=Running | Restarts=0 | Age=5m | IP=10.244.1.2 | Node=n1 | Nominated Node=<none> | Readiness Gates=1/1
    Name=n1 | Status=Ready,SchedulingDisabled | Roles=edge,worker | Age=2d | Version=v1.36.0 | Internal-IP=172.30.0.11 | External-IP=<none> | OS-Image=Debian GNU/Linux 12 | Kernel-Version=6.1 | Container-Runtime=containerd://1.6.20
    Name=n2 | Status=Unknown | Roles=<none> | Age=<unknown> | Version= | Internal-IP=<none> | External-IP=<none> | OS-Image=<unknown> | Kernel-Version=<unknown> | Container-Runtime=<unknown>
    Name=a | Ready=2/3 | Up-to-date=3 | Available=2 | Age=5m | Containers=a,b | Images=x:1,y:2 | Selector=app=a
    Name=a | Desired=3 | Current=3 | Ready=2 | Age=5m | Containers=a | Images=x:1 | Selector=app=a
    Name=a | Type=NodePort | Cluster-IP=10.96.0.1 | External-IP=<none> | Port(s)=80:30080/TCP,53/UDP | Age=5m | Selector=app=a
    Name=a | Type=LoadBalancer | Cluster-IP=<none> | External-IP=<pending> | Port(s)=<none> | Age=5m | Selector=<none>
    Name=a | Status=Active | Age=5m
    Name=a | Data=3 | Age=5m
    Name=a | Type=Opaque | Data=1 | Age=5m
    Name=a | Age=5m
    Last Seen=10s | Type=Normal | Reason=Scheduled | Object=pod/a | Subobject=spec | Source=scheduler, n1 | Message=assigned | First Seen=60s | Count=2 | Name=a
    Last Seen=10s | Type= | Reason= | Object=node/n1 | Subobject= | Source=kubelet | Message= | First Seen=10s | Count=1 | Name=a
    Name=a | Holder=n1 | Age=5m
    Name=a | Endpoints=10.0.0.1:80,[fd00::1]:80,10.0.0.1:81 + 1 more... | Age=5m
    ");
}

#[test]
fn every_row_fits_its_columns_even_for_an_empty_object() {
    for kind in kinds::all() {
        assert_eq!(
            kind.row(&json!({}), NOW).len(),
            kind.columns().len(),
            "{}",
            kind.kind()
        );
        for (_, field) in kind.fields() {
            field.text(&json!({}));
        }
    }
}

#[test]
fn selectable_fields() {
    let pod = kinds::find("", "v1", "pods").unwrap();
    let object = json!({"spec": {"nodeName": "n1", "hostNetwork": true}, "status": {"phase": "Running"}});
    let fields = pod.fields();
    let text = |label: &str| {
        fields
            .iter()
            .find(|(name, _)| *name == label)
            .unwrap()
            .1
            .text(&object)
    };
    assert_eq!(text("spec.nodeName"), "n1");
    assert_eq!(text("spec.hostNetwork"), "true");
    assert_eq!(text("status.phase"), "Running");
    assert_eq!(text("status.podIP"), "");
}

#[test]
fn a_binding_shows_who_gets_what() {
    let object = json!({
        "metadata": metadata(),
        "roleRef": { "kind": "ClusterRole", "name": "view" },
        "subjects": [
            { "kind": "User", "name": "jane" },
            { "kind": "Group", "name": "dev" },
            { "kind": "User", "name": "joe" },
            { "kind": "ServiceAccount", "name": "robot", "namespace": "ns" },
        ],
    });
    assert_eq!(
        wide("rbac.authorization.k8s.io", "RoleBinding", object),
        "Name=a | Role=ClusterRole/view | Age=5m | Users=jane, joe | Groups=dev | ServiceAccounts=ns/robot"
    );
}
