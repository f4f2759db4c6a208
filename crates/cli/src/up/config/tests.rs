use clap::Parser;
use rstest::rstest;

use super::*;
use crate::args::{Args, Command};

const HEADER: &str = "apiVersion: ripstop.dev/v1alpha1\nkind: Cluster\n";

fn up(line: &str) -> Up {
    let words = ["ripstop", "up"].into_iter().chain(line.split_whitespace());
    match Args::try_parse_from(words).expect("valid").command {
        Command::Up(up) => up,
        other => panic!("{other:?}"),
    }
}

fn parsed(text: &str) -> Result<Wish, Vec<String>> {
    let told = |mistakes: Vec<Mistake>| {
        let problems = mistakes
            .iter()
            .map(|mistake| mistake.problem(Path::new("c.yaml")));
        problems
            .map(|problem| format!("{} → {}", problem.what, problem.cure))
            .collect()
    };
    parse(&format!("{HEADER}{text}"), Path::new("/")).map_err(told)
}

const WHOLE: &str = "\
ipFamily: dual
podCIDRs: [10.1.0.0/16, 'fd01::/56']
serviceNodePortRange: 31000-31999
podNetwork: vxlan
nodes:
- name: a1
  zone: a
  labels: {disk: fast}
  taints:
  - {key: dedicated, value: db, effect: NoSchedule}
  mounts:
  - {machinePath: etc, nodePath: /tmp, readOnly: true}
  cpu: 500m
  memory: 1Gi
  maxPods: 20
- zone: b
ports:
- {port: 8080, node: a1, nodePort: 30080}
- {address: 0.0.0.0, port: 8080, protocol: UDP, nodePort: 30080}
registries:
- host: docker.io
  mirrors: ['http://machine:5000']
manifests: [etc]
nodeMonitorGracePeriod: 5s
notReadyToleration: 10s
";

#[test]
fn everything_that_can_be_written_is_read() {
    let wish = parsed(WHOLE).expect("valid");
    let names: Vec<_> = wish.nodes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a1", "node-2"]);
    let node = &wish.nodes[0].1;
    assert_eq!(node.labels["topology.kubernetes.io/zone"], "a");
    assert_eq!(node.labels["disk"], "fast");
    assert_eq!(
        (node.cpu_millis, node.memory_bytes, node.max_pods),
        (Some(500), Some(1 << 30), Some(20))
    );
    assert_eq!(node.mounts[0].machine_path, Path::new("/etc"));
    assert_eq!(node.taints[0].effect, "NoSchedule");
    assert_eq!(wish.settings.ports[0].address.to_string(), "127.0.0.1");
    assert_eq!(wish.manifests, [Path::new("/etc")]);
    let losses = wish.settings.losses;
    assert_eq!(
        (
            losses.node_monitor_grace_period,
            losses.not_ready_toleration,
            losses.unreachable_toleration
        ),
        (5, 10, 300)
    );
    let args = wish.complete(up("")).expect("fits");
    assert_eq!((args.nodes, args.ip_family), (Some(2), Some(Family::Dual)));
    assert_eq!(
        args.service_node_port_range.expect("given").to_string(),
        "31000-31999"
    );
    assert_eq!(args.pod_network.expect("given").to_string(), "vxlan");
    assert_eq!(args.pod_cidr.len(), 2);
}

#[test]
fn what_is_typed_counts_more() {
    let wish = parsed("ipFamily: dual\n").expect("valid");
    let args = wish.complete(up("--ip-family ipv6 --nodes 5")).expect("fits");
    assert_eq!((args.nodes, args.ip_family), (Some(5), Some(Family::Ipv6)));
    let wish = parsed("nodes: [{}, {}]\n").expect("valid");
    assert_eq!(wish.complete(up("--nodes 2")).expect("fits").nodes, Some(2));
    assert!(wish.complete(up("--nodes 3")).is_err());
}

#[rstest]
#[case::a_field("nodez: []\n", "c.yaml:3:1: unknown field `nodez` → did you mean `nodes`?")]
#[case::a_field_of_a_node(
    "nodes:\n- name: a\n  lables: {}\n",
    "c.yaml:5:3: unknown field `lables` → did you mean `labels`?"
)]
#[case::nothing_like_it(
    "nodes:\n- colour: red\n",
    "c.yaml:4:3: unknown field `colour` → possible are name, zone, region, labels, taints, mounts, cpu, memory, maxPods"
)]
#[case::a_value_of_few(
    "ipFamily: dula\n",
    "c.yaml:3:11: `dula` isn't possible here → did you mean `dual`?"
)]
#[case::a_missing_field(
    "ports:\n- {port: 80}\n",
    "c.yaml:4:4: the field `nodePort` is missing → docs/config.md has an example"
)]
#[case::a_duration(
    "nodeMonitorGracePeriod: 40\n",
    "c.yaml:3:25: \"40\" is no duration: write it as in 40s, 5m or 1h → docs/config.md tells what can be written"
)]
#[case::a_short_duration(
    "nodeMonitorGracePeriod: 1s\n",
    "c.yaml:3:25: the time is too short → at least 4s: a node speaks four times in that time"
)]
#[case::a_name(
    "nodes:\n- name: Node_1\n",
    "c.yaml:4:9: \"Node_1\" can't be the name of a node → at most 15 small letters, digits and dashes, as in `zone-a-1`; not `switch` or `machine`"
)]
#[case::a_name_twice(
    "nodes:\n- name: a\n- name: a\n",
    "c.yaml:5:9: two nodes are called \"a\" → a node without a name is called after its place in the list, as in `node-2`"
)]
#[case::a_node_that_is_not_there(
    "nodes: [{name: db-1}]\nports:\n- {port: 80, nodePort: 80, node: bd-1}\n",
    "c.yaml:5:34: there is no node \"bd-1\" → did you mean `db-1`?"
)]
#[case::a_label(
    "nodes:\n- labels: {a: 'x y'}\n",
    "c.yaml:4:15: \"x y\" can't be the value of a label → at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at each end"
)]
#[case::a_label_that_is_not_the_nodes(
    "nodes:\n- labels: {node-role.kubernetes.io/db: x}\n",
    "c.yaml:4:40: a node can't give itself the label `node-role.kubernetes.io/db` → put it on when the cluster is up: `kubectl label node NAME node-role.kubernetes.io/db=x`"
)]
#[case::a_path(
    "manifests:\n- absent.yaml\n",
    "c.yaml:4:3: /absent.yaml isn't there → paths in the file are relative to the folder that it is in"
)]
#[case::a_mirror(
    "registries:\n- host: docker.io\n  mirrors: ['localhost:5000']\n",
    "c.yaml:5:13: \"localhost:5000\" is no URL → as in `http://machine:5000`, where `machine` is this machine"
)]
#[case::a_port_twice(
    "ports:\n- {port: 80, nodePort: 1}\n- {port: 80, nodePort: 2}\n",
    "c.yaml:5:10: port 80 leads somewhere already → each port of the machine once"
)]
#[case::a_number(
    "ports:\n- {port: http, nodePort: 1}\n",
    "c.yaml:4:10: a whole number from 0 to 65535 is expected here → docs/config.md tells what can be written"
)]
#[case::no_pods(
    "nodes:\n- maxPods: 0\n",
    "c.yaml:4:12: a node without pods is of no use → at least 1, or cordon it: `kubectl cordon NAME`"
)]
#[case::one_of_a_list(
    "manifests: base\n",
    "c.yaml:3:12: a list is expected here → as in `[a, b]`, or each on a line of its own after `- `"
)]
#[case::a_list_of_one(
    "nodes: [{name: [a]}]\n",
    "c.yaml:3:16: one value is expected here → docs/config.md tells what can be written"
)]
#[case::no_fields(
    "nodes: [a1]\n",
    "c.yaml:3:9: fields are expected here, as in `name: value` → docs/config.md tells what can be written"
)]
#[case::twice(
    "nodes: []\nnodes: []\n",
    "c.yaml:4:1: `nodes` is there twice → write it once"
)]
fn a_mistake_is_told_with_its_place(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(parsed(text).expect_err("refused"), [expected]);
}

#[test]
fn the_folder_of_a_file_is_told_from_the_root() {
    let here = std::env::current_dir().expect("a folder");
    assert_eq!(folder(Path::new("c.yaml")), here);
    assert_eq!(folder(Path::new("x/c.yaml")), here.join("x"));
    assert_eq!(folder(Path::new("/x/c.yaml")), Path::new("/x"));
}

#[test]
fn all_mistakes_of_meaning_are_told_at_once() {
    let told = parsed("nodes: [{name: A}, {name: B}]\nmanifests: [absent]\n").expect_err("refused");
    assert_eq!(told.len(), 3, "{told:#?}");
}

#[test]
fn a_file_that_is_no_cluster_is_refused() {
    let parsed = |text: &str| parse(text, Path::new("/")).expect_err("refused").len();
    assert_eq!(parsed("nodes: []\n"), 2);
    assert_eq!(parsed("apiVersion: kind.x-k8s.io/v1alpha4\nkind: Cluster\n"), 1);
    assert_eq!(parsed("- a\n"), 1);
    assert_eq!(parsed("a: [\n"), 1);
}
