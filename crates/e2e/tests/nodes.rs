//! A cluster from a file: where pods go, and what becomes of them when their node is lost.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use e2e::resolver::Asker;
use e2e::{Cluster, Options, Pod, Traces, eventually, toolbox_archive};
use serde_json::Value;
use testkit::{Registry, RegistryImage};

const CONFIG: &str = r#"
apiVersion: ripstop.dev/v1alpha1
kind: Cluster
nodes:
- {name: a1, zone: a, labels: {disk: fast}}
- {name: a2, zone: a}
- name: b1
  zone: b
  taints: [{key: dedicated, value: db, effect: NoSchedule}]
  mounts: [{machinePath: data, nodePath: /mnt, readOnly: true}]
  maxPods: 20
ports:
- {port: 38080, nodePort: 30080}
- {port: 38053, protocol: UDP, node: a1, nodePort: 53}
registries:
- {host: mirrored.test, mirrors: ["http://machine:38500"]}
manifests: [objects.yaml]
nodeMonitorGracePeriod: 5s
notReadyToleration: 5s
unreachableToleration: 5s
"#;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: made}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: made}
"#;

/// Pods of the toolbox image, with more in their spec.
fn deployment(name: &str, replicas: u32, spec: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec:\n      terminationGracePeriodSeconds: 1\n      \
         containers: [{{name: c, image: 'localhost/ripstop/toolbox:1'}}]\n{spec}"
    )
}

fn apply(cluster: &Cluster, manifest: &str) {
    cluster.kubectl_with(&["apply", "-f", "-"], manifest).ok();
}

fn available(cluster: &Cluster, name: &str) -> Vec<Pod> {
    let what = format!("deployment/{name}");
    cluster
        .kubectl(&["rollout", "status", "--timeout=60s", &what])
        .ok();
    cluster.pods(name)
}

fn nodes(pods: &[Pod]) -> Vec<&str> {
    let mut nodes: Vec<_> = pods.iter().map(|pod| pod.node.as_str()).collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn a_cluster_from_a_file_places_pods_and_outlives_a_node() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("data")).expect("made");
    std::fs::write(dir.path().join("data/hello"), "from the machine").expect("written");
    std::fs::write(dir.path().join("objects.yaml"), OBJECTS).expect("written");
    let file = dir.path().join("cluster.yaml");
    std::fs::write(&file, CONFIG).expect("written");
    let config = file.to_str().expect("UTF-8");
    let held = TcpListener::bind("127.0.0.1:38080").expect("a free port");
    let cluster = Cluster::up_with("e2e-nodes", &Options::default(), &["--config", config]);

    ports_of_the_machine_lead_to_nodes(&cluster, held);
    the_file_is_what_there_is(&cluster, &file);
    pods_go_where_their_fields_say(&cluster);
    a_drained_node_is_empty_until_it_is_uncordoned(&cluster);
    pods_of_a_lost_node_come_back_elsewhere(&cluster);

    let name = cluster.name().to_owned();
    drop(cluster);
    Traces::of(&name).assert_none();
}

fn ports_of_the_machine_lead_to_nodes(cluster: &Cluster, held: TcpListener) {
    let told = || {
        let status = cluster.ripstop(&["status"]).ok();
        status.contains("127.0.0.1:38080 doesn't lead to a node")
    };
    assert!(told());
    drop(held);
    eventually(Duration::from_secs(30), || match told() {
        true => Err("it is told still".to_owned()),
        false => Ok(()),
    });
    // A node's DNS, by datagrams.
    let mut asker = Asker::new("127.0.0.1:38053".parse().expect("an address"));
    let reply = eventually(Duration::from_secs(30), || {
        asker.ask("web.made.svc.cluster.local")
    });
    let service = cluster.get(&["service", "web", "-n", "made"]);
    let address = reply.address.map(|address| address.to_string());
    assert_eq!(address.as_deref(), service["spec"]["clusterIP"].as_str());
}

fn the_file_is_what_there_is(cluster: &Cluster, file: &Path) {
    let labels = |node: &str| cluster.get(&["node", node])["metadata"]["labels"].clone();
    assert_eq!(labels("a1")["disk"], "fast");
    assert_eq!(labels("b1")["topology.kubernetes.io/zone"], "b");
    let node = cluster.get(&["node", "b1"]);
    assert_eq!(node["spec"]["taints"][0]["key"], "dedicated");
    assert_eq!(node["status"]["allocatable"]["pods"], "20");
    cluster.kubectl(&["get", "service", "web", "-n", "made"]).ok();
    let again = cluster.ripstop(&["up", "--no-kubeconfig", "--config", file.to_str().expect("UTF-8")]);
    assert!(again.ok().contains("already running"));
    let other = CONFIG.replace("maxPods: 20", "maxPods: 21");
    let changed = file.with_file_name("changed.yaml");
    std::fs::write(&changed, other).expect("written");
    let error = cluster
        .ripstop(&[
            "up",
            "--no-kubeconfig",
            "--config",
            changed.to_str().expect("UTF-8"),
        ])
        .refused();
    assert!(error.contains("down --name e2e-nodes --keep-data"), "{error}");
    std::fs::write(&changed, CONFIG.replace("zone: b", "zon: b")).expect("written");
    let error = cluster
        .ripstop(&[
            "up",
            "--no-kubeconfig",
            "--config",
            changed.to_str().expect("UTF-8"),
        ])
        .refused();
    assert!(error.contains("changed.yaml:8:3: unknown field `zon`"), "{error}");
    assert!(error.contains("did you mean `zone`?"), "{error}");
}

/// A registry at the machine's address in the node network, which is the first of it.
fn mirror(cluster: &Cluster) -> Registry {
    let addresses = cluster.get(&["node", "a1"])["status"]["addresses"].clone();
    let node: Ipv4Addr = addresses[0]["address"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    let [a, b, c, _] = node.octets();
    let registry = Registry::default();
    registry.serve(TcpListener::bind((Ipv4Addr::new(a, b, c, 1), 38500)).expect("a free port"));
    let image = RegistryImage::from_archive(&toolbox_archive(), "localhost/ripstop/toolbox:1");
    registry.push("team/app", "1", &image);
    registry
}

fn pods_go_where_their_fields_say(cluster: &Cluster) {
    // To the tainted node alone, from the machine's registry, and what the machine shows there.
    let registry = mirror(cluster);
    let picky = "      nodeSelector: {topology.kubernetes.io/zone: b}\n      \
                 tolerations: [{key: dedicated, operator: Equal, value: db}]\n      \
                 volumes: [{name: m, hostPath: {path: /mnt}}]\n";
    let mounted = "image: 'mirrored.test/team/app:1', volumeMounts: [{name: m, mountPath: /m}]";
    let manifest = deployment("db", 1, picky).replace("image: 'localhost/ripstop/toolbox:1'", mounted);
    apply(cluster, &manifest);
    let db = available(cluster, "db");
    assert_eq!(nodes(&db), ["b1"]);
    let pulled = registry.requests();
    assert!(
        pulled.iter().any(|line| line.contains("/v2/team/app/")),
        "{pulled:?}"
    );
    assert_eq!(
        cluster.exec(&db[0].name, &["cat", "/m/hello"]).ok(),
        "from the machine"
    );
    assert_ne!(cluster.exec(&db[0].name, &["touch", "/m/x"]).code, Some(0));

    // One a node, and none where the taint is; the third waits and says why.
    let apart = "      affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
                 [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: apart}}}]}}\n";
    apply(cluster, &deployment("apart", 3, apart));
    let why = eventually(Duration::from_secs(30), || {
        let list = cluster.get(&["pods", "-l", "app=apart"]);
        let pods = list["items"].as_array().expect("items");
        let placed = pods
            .iter()
            .filter(|pod| pod["spec"]["nodeName"].is_string())
            .count();
        let conditions = pods
            .iter()
            .filter_map(|pod| pod["status"]["conditions"].as_array());
        let why = conditions.flatten().find(|c| c["reason"] == "Unschedulable");
        match why {
            Some(why) if placed == 2 => Ok(why["message"].as_str().unwrap_or_default().to_owned()),
            _ => Err(format!("{placed} of {pods:?}")),
        }
    });
    assert_eq!(
        why,
        "0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: db}, 2 node(s) didn't match pod \
         anti-affinity rules. preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 \
         No preemption victims found for incoming pod."
    );
    cluster
        .kubectl(&["scale", "deployment/apart", "--replicas=2"])
        .ok();
    let apart = available(cluster, "apart");
    assert_eq!(
        nodes(&apart).into_iter().collect::<BTreeSet<_>>(),
        ["a1", "a2"].into()
    );

    // Near those of a node, and evenly over zones.
    let near = "      affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
                [{topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: db}}}]}}\n      \
                tolerations: [{operator: Exists}]\n";
    apply(cluster, &deployment("near", 2, near));
    assert_eq!(nodes(&available(cluster, "near")), ["b1", "b1"]);
    let even = "      tolerations: [{operator: Exists}]\n      \
                topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, \
                whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: even}}}]\n";
    apply(cluster, &deployment("even", 4, even));
    let even = available(cluster, "even");
    assert_eq!(
        nodes(&even).iter().filter(|node| **node == "b1").count(),
        2,
        "{even:?}"
    );
    let all = ["delete", "deployment", "db", "apart", "near", "even"];
    cluster.kubectl(&all).ok();
}

fn a_drained_node_is_empty_until_it_is_uncordoned(cluster: &Cluster) {
    cluster.deployment("web", 4);
    cluster
        .kubectl(&["drain", "a2", "--ignore-daemonsets", "--timeout=60s"])
        .ok();
    assert_eq!(nodes(&available(cluster, "web")), ["a1"; 4]);
    let listed = cluster.kubectl(&["get", "node", "a2"]).ok();
    assert!(listed.contains("Ready,SchedulingDisabled"), "{listed}");
    cluster.kubectl(&["uncordon", "a2"]).ok();
    cluster.kubectl(&["rollout", "restart", "deployment/web"]).ok();
    assert!(nodes(&available(cluster, "web")).contains(&"a2"));

    let path = "/api/v1/nodes/a2/proxy/stats/summary";
    let summary: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", path]).ok()).expect("JSON");
    assert_eq!(summary["node"]["nodeName"], "a2");
    let pods = summary["pods"].as_array().expect("pods");
    let used = |pod: &Value| pod["containers"][0]["memory"]["workingSetBytes"].as_u64();
    assert!(pods.iter().any(|pod| used(pod) > Some(0)), "{summary:#}");
    let path = "/api/v1/nodes/a2/proxy/metrics/resource";
    let metrics = cluster.kubectl(&["get", "--raw", path]).ok();
    assert!(
        metrics.contains("container_cpu_usage_seconds_total{container=\"toolbox\""),
        "{metrics}"
    );
}

fn asked(at: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.write_all(b"GET /mapped HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn pods_of_a_lost_node_come_back_elsewhere(cluster: &Cluster) {
    cluster
        .kubectl(&[
            "create",
            "deployment",
            "web",
            "-n",
            "made",
            "--image=localhost/ripstop/toolbox:1",
        ])
        .ok();
    cluster
        .kubectl(&[
            "rollout",
            "status",
            "-n",
            "made",
            "--timeout=60s",
            "deployment/web",
        ])
        .ok();
    let before = available(cluster, "web");
    cluster.ripstop(&["node", "stop", "a2"]).ok();
    let after = eventually(Duration::from_secs(45), || {
        let ready = cluster.get(&["pods", "-l", "app=web", "--field-selector=spec.nodeName=a1"]);
        let now = ready["items"].as_array().expect("items").iter();
        // Those of the rollout before may still be on their way out.
        let now = now.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let now: Vec<Pod> = now.map(Pod::read).filter(|pod| !pod.ip.is_empty()).collect();
        match now.len() {
            4 => Ok(now),
            _ => Err(format!("{now:?}")),
        }
    });
    let addresses = |pods: &[Pod]| pods.iter().map(|pod| pod.ip.clone()).collect::<BTreeSet<_>>();
    let lost: Vec<Pod> = before.iter().filter(|pod| pod.node == "a2").cloned().collect();
    assert!(
        !lost.is_empty() && addresses(&lost).is_disjoint(&addresses(&after)),
        "{lost:?} {after:?}"
    );
    let node = cluster.get(&["node", "a2"]);
    let conditions = node["status"]["conditions"].as_array().expect("conditions");
    let ready = conditions.iter().find(|c| c["type"] == "Ready").expect("Ready");
    assert_eq!(
        (ready["status"].as_str(), ready["reason"].as_str()),
        (Some("Unknown"), Some("NodeStatusUnknown"))
    );
    // A port of the machine leads to a node that has power, and to the pod that is made anew.
    eventually(Duration::from_secs(30), || match asked("127.0.0.1:38080") {
        Ok(answer) if answer.contains("/mapped") => Ok(()),
        other => Err(format!("{other:?}")),
    });

    cluster.ripstop(&["node", "start", "a2"]).ok();
    cluster.wait_nodes("condition=Ready", Duration::from_secs(30));
    // What it had is gone from it, and from the API.
    eventually(Duration::from_secs(30), || {
        let pods = cluster
            .kubectl(&["get", "--raw", "/api/v1/nodes/a2/proxy/pods"])
            .ok();
        let names = cluster.kubectl(&["get", "pods", "-o", "name"]).ok();
        let left = lost
            .iter()
            .find(|pod| pods.contains(&pod.name) || names.contains(&pod.name));
        left.map_or(Ok(()), |pod| Err(format!("{pod:?} is still there")))
    });
    let taints = cluster.get(&["node", "a2"])["spec"]["taints"].clone();
    assert!(taints.is_null(), "{taints}");
}
