//! The figures as a kubelet's `/stats/summary` (the type `Summary` of k8s.io/kubelet/pkg/apis/stats/v1alpha1).

use cri::message::{ContainerStats, FilesystemUsage, NetworkInterfaceUsage, NetworkUsage, UInt64Value};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{ContainerFigures, Counted, Figures, PodFigures};
use crate::machine::Disk;

/// An object without what isn't known.
fn known<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let known = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(
        known
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

fn value(value: Option<&UInt64Value>) -> Value {
    value.map_or(Value::Null, |value| value.value.into())
}

/// The whole answer.
pub(crate) fn summary(figures: &Figures) -> Value {
    let at = figures.at;
    let mut memory = memory(&figures.node, at);
    if let Some(used) = figures.node.usage.working_set {
        memory["availableBytes"] = figures.memory.saturating_sub(used).into();
    }
    let node = known([
        ("nodeName", figures.node_name.clone().into()),
        ("startTime", json!(figures.booted)),
        ("cpu", cpu(&figures.node, at)),
        ("memory", memory),
        (
            "fs",
            figures
                .disk
                .as_ref()
                .map_or(Value::Null, |disk| file_system(disk, at)),
        ),
        ("runtime", images(figures)),
        (
            "rlimit",
            figures.pids.map_or(
                Value::Null,
                |(most, used)| json!({ "time": at, "maxpid": most, "curproc": used }),
            ),
        ),
    ]);
    let pods: Vec<Value> = figures.pods.iter().map(|figures| pod(figures, at)).collect();
    json!({ "node": node, "pods": pods })
}

fn cpu(counted: &Counted, at: Timestamp) -> Value {
    known([
        ("time", json!(at)),
        ("usageNanoCores", json!(counted.nano_cores)),
        ("usageCoreNanoSeconds", json!(counted.usage.cpu_nanos)),
    ])
}

fn memory(counted: &Counted, at: Timestamp) -> Value {
    known([
        ("time", json!(at)),
        ("usageBytes", json!(counted.usage.memory)),
        ("workingSetBytes", json!(counted.usage.working_set)),
        ("rssBytes", json!(counted.usage.rss)),
    ])
}

fn file_system(disk: &Disk, at: Timestamp) -> Value {
    json!({
        "time": at,
        "availableBytes": disk.available,
        "capacityBytes": disk.total,
        "usedBytes": disk.total.saturating_sub(disk.free),
        "inodesFree": disk.inodes_available,
        "inodes": disk.inodes,
        "inodesUsed": disk.inodes.saturating_sub(disk.inodes_available),
    })
}

/// The images' part of the file system that everything is on.
fn images(figures: &Figures) -> Value {
    let (Some(images), Some(disk)) = (&figures.images, &figures.disk) else {
        return Value::Null;
    };
    let mut all = file_system(disk, time(images.timestamp).unwrap_or(figures.at));
    all["usedBytes"] = value(images.used_bytes.as_ref());
    all["inodesUsed"] = value(images.inodes_used.as_ref());
    json!({ "imageFs": all })
}

fn pod(pod: &PodFigures, at: Timestamp) -> Value {
    let processes = pod.counted.usage.pids;
    known([
        (
            "podRef",
            json!({ "name": pod.key.name, "namespace": pod.key.namespace, "uid": pod.key.uid }),
        ),
        ("startTime", json!(pod.started)),
        ("containers", pod.containers.iter().map(container).collect()),
        ("cpu", cpu(&pod.counted, at)),
        ("memory", memory(&pod.counted, at)),
        (
            "network",
            pod.network
                .as_ref()
                .map_or(Value::Null, |usage| network(usage, at)),
        ),
        (
            "process_stats",
            processes.map_or(Value::Null, |count| json!({ "process_count": count })),
        ),
    ])
}

fn container(figures: &ContainerFigures) -> Value {
    let ContainerStats {
        cpu,
        memory,
        writable_layer,
        ..
    } = &figures.stats;
    known([
        ("name", figures.name.clone().into()),
        ("startTime", json!(figures.started)),
        (
            "cpu",
            cpu.as_ref().map_or(Value::Null, |cpu| {
                known([
                    ("time", json!(time(cpu.timestamp))),
                    (
                        "usageNanoCores",
                        match &cpu.usage_nano_cores {
                            Some(rate) => rate.value.into(),
                            None => json!(figures.nano_cores),
                        },
                    ),
                    (
                        "usageCoreNanoSeconds",
                        value(cpu.usage_core_nano_seconds.as_ref()),
                    ),
                ])
            }),
        ),
        (
            "memory",
            memory.as_ref().map_or(Value::Null, |memory| {
                known([
                    ("time", json!(time(memory.timestamp))),
                    ("availableBytes", value(memory.available_bytes.as_ref())),
                    ("usageBytes", value(memory.usage_bytes.as_ref())),
                    ("workingSetBytes", value(memory.working_set_bytes.as_ref())),
                    ("rssBytes", value(memory.rss_bytes.as_ref())),
                ])
            }),
        ),
        ("rootfs", writable_layer.as_ref().map_or(Value::Null, layer)),
    ])
}

fn layer(layer: &FilesystemUsage) -> Value {
    known([
        ("time", json!(time(layer.timestamp))),
        ("usedBytes", value(layer.used_bytes.as_ref())),
        ("inodesUsed", value(layer.inodes_used.as_ref())),
    ])
}

fn network(network: &NetworkUsage, at: Timestamp) -> Value {
    let default = network.default_interface.as_ref();
    let all = default.into_iter().chain(&network.interfaces);
    let mut whole = default.map_or_else(|| json!({}), interface);
    whole["time"] = json!(time(network.timestamp).unwrap_or(at));
    whole["interfaces"] = all.map(interface).collect();
    whole
}

fn interface(usage: &NetworkInterfaceUsage) -> Value {
    known([
        ("name", usage.name.clone().into()),
        ("rxBytes", value(usage.rx_bytes.as_ref())),
        ("rxErrors", value(usage.rx_errors.as_ref())),
        ("txBytes", value(usage.tx_bytes.as_ref())),
        ("txErrors", value(usage.tx_errors.as_ref())),
    ])
}

/// A moment that the runtime tells; containerd 1.6 leaves some out.
fn time(nanoseconds: i64) -> Option<Timestamp> {
    let moment = Some(nanoseconds).filter(|nanoseconds| *nanoseconds > 0)?;
    Timestamp::from_nanosecond(moment.into()).ok()
}
