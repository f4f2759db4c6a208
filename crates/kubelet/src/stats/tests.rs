use cri::message::{
    ContainerAttributes, ContainerMetadata, CpuUsage, MemoryUsage, NetworkInterfaceUsage, UInt64Value,
};
use serde_json::json;

use super::*;

const AT: i64 = 1_700_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(AT + second).expect("a time")
}

fn amount(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

fn stats(uid: &str, name: &str, attempt: u32, cpu: Option<u64>) -> ContainerStats {
    let labels = [(label::POD_UID, uid), (label::CONTAINER_NAME, name)];
    ContainerStats {
        attributes: Some(ContainerAttributes {
            id: format!("{name}-{attempt}"),
            metadata: Some(ContainerMetadata {
                name: name.into(),
                attempt,
            }),
            labels: labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..ContainerAttributes::default()
        }),
        cpu: cpu.map(|used| CpuUsage {
            timestamp: AT * 1_000_000_000,
            usage_core_nano_seconds: amount(used),
            usage_nano_cores: None,
        }),
        memory: Some(MemoryUsage {
            timestamp: AT * 1_000_000_000,
            working_set_bytes: amount(4096),
            ..MemoryUsage::default()
        }),
        writable_layer: None,
    }
}

fn figures() -> Figures {
    let counted = Counted {
        usage: Usage {
            cpu_nanos: Some(2_500_000_000),
            working_set: Some(8192),
            pids: Some(3),
            ..Usage::default()
        },
        nano_cores: Some(7),
    };
    let link = NetworkInterfaceUsage {
        name: "eth0".into(),
        rx_bytes: amount(1),
        tx_bytes: amount(2),
        ..NetworkInterfaceUsage::default()
    };
    Figures {
        at: at(1),
        node_name: "node-1".into(),
        booted: Some(at(-100)),
        node: counted,
        memory: 10_000,
        disk: None,
        pids: Some((32_768, 100)),
        images: None,
        pods: vec![PodFigures {
            key: PodKey {
                namespace: "default".into(),
                name: "web".into(),
                uid: "1".into(),
            },
            started: Some(at(-10)),
            counted,
            network: Some(NetworkUsage {
                // As containerd 1.6 has it.
                timestamp: 0,
                default_interface: Some(link),
                interfaces: Vec::new(),
            }),
            containers: vec![ContainerFigures {
                name: "c".into(),
                started: Some(at(-5)),
                stats: stats("1", "c", 0, Some(1_500_000_000)),
                nano_cores: Some(9),
            }],
        }],
    }
}

#[test]
fn the_newest_run_counts_and_one_that_ended_does_not() {
    let all = vec![
        stats("1", "a", 1, Some(5)),
        stats("1", "a", 0, Some(9)),
        stats("1", "b", 0, None),
        ContainerStats::default(),
    ];
    let latest = latest(all);
    let names: Vec<_> = latest["1"].keys().collect();
    assert_eq!(names, ["a"]);
    let attributes = latest["1"]["a"].attributes.as_ref().expect("known");
    assert_eq!(attributes.id, "a-1");
}

#[test]
fn the_summary_is_as_kubelets_answer_it() {
    let (now, taken) = ("2023-11-14T22:13:21Z", "2023-11-14T22:13:20Z");
    let cpu = json!({ "time": now, "usageNanoCores": 7, "usageCoreNanoSeconds": 2_500_000_000_u64 });
    let memory = json!({ "time": now, "workingSetBytes": 8192 });
    let mut of_node = memory.clone();
    of_node["availableBytes"] = json!(10_000 - 8192);
    let link = json!({ "name": "eth0", "rxBytes": 1, "txBytes": 2 });
    let mut network = link.clone();
    network["time"] = json!(now);
    network["interfaces"] = json!([link]);
    let container = json!({
        "name": "c",
        "startTime": "2023-11-14T22:13:15Z",
        "cpu": { "time": taken, "usageNanoCores": 9, "usageCoreNanoSeconds": 1_500_000_000_u64 },
        "memory": { "time": taken, "workingSetBytes": 4096 },
    });
    let expected = json!({
        "node": {
            "nodeName": "node-1",
            "startTime": "2023-11-14T22:11:40Z",
            "cpu": cpu,
            "memory": of_node,
            "rlimit": { "time": now, "maxpid": 32_768, "curproc": 100 },
        },
        "pods": [{
            "podRef": { "name": "web", "namespace": "default", "uid": "1" },
            "startTime": "2023-11-14T22:13:10Z",
            "containers": [container],
            "cpu": cpu,
            "memory": memory,
            "network": network,
            "process_stats": { "process_count": 3 },
        }],
    });
    assert_eq!(summary(&figures()), expected);
}

#[test]
fn the_metrics_have_kubernetes_names() {
    insta::assert_snapshot!(text(&figures()), @r#"
    # HELP node_cpu_usage_seconds_total Processor time that the node has used
    # TYPE node_cpu_usage_seconds_total counter
    node_cpu_usage_seconds_total 2.5 1700000001000
    # HELP node_memory_working_set_bytes Memory that the node uses
    # TYPE node_memory_working_set_bytes gauge
    node_memory_working_set_bytes 8192 1700000001000
    # HELP pod_cpu_usage_seconds_total Processor time that the pod has used
    # TYPE pod_cpu_usage_seconds_total counter
    pod_cpu_usage_seconds_total{namespace="default",pod="web"} 2.5 1700000001000
    # HELP pod_memory_working_set_bytes Memory that the pod uses
    # TYPE pod_memory_working_set_bytes gauge
    pod_memory_working_set_bytes{namespace="default",pod="web"} 8192 1700000001000
    # HELP container_cpu_usage_seconds_total Processor time that the container has used
    # TYPE container_cpu_usage_seconds_total counter
    container_cpu_usage_seconds_total{container="c",namespace="default",pod="web"} 1.5 1700000000000
    # HELP container_memory_working_set_bytes Memory that the container uses
    # TYPE container_memory_working_set_bytes gauge
    container_memory_working_set_bytes{container="c",namespace="default",pod="web"} 4096 1700000000000
    # HELP container_start_time_seconds When the container began, in seconds since 1970
    # TYPE container_start_time_seconds gauge
    container_start_time_seconds{container="c",namespace="default",pod="web"} 1699999995 1700000001000
    # HELP resource_scrape_error 1 if the figures could not be had
    # TYPE resource_scrape_error gauge
    resource_scrape_error 0 1700000001000
    "#);
}
