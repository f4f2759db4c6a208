//! What types can't say: names that are used twice, nodes that aren't there, paths that aren't either.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde_saphyr::Spanned;
use supervisor::names::{is_label_key, is_label_value, is_node_name, node_name};
use supervisor::settings::{Losses, MachinePort, Mount, NodeSettings, Registry, Settings, Taint};

use super::Wish;
use super::file::{self, File};
use super::mistake::{Mistake, suggestion};

const API_VERSION: &str = "ripstop.dev/v1alpha1";
const KIND: &str = "Cluster";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// Labels that the kubelet sets itself.
const OWN_LABELS: [&str; 3] = ["kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch"];
/// A node renews its lease four times in this time, in whole seconds.
const LEAST_GRACE: u32 = 4;

/// Labels of Kubernetes' own domains that kubelets may set, as its NodeRestriction has it.
const FOR_KUBELETS: [&str; 3] = ["beta.kubernetes.io/instance-type", ZONE, REGION];

/// Whether only an administrator may put a label on a node.
fn is_not_for_kubelets(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return false;
    };
    let below = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    (below("kubernetes.io") || below("k8s.io"))
        && !below("kubelet.kubernetes.io")
        && !below("node.kubernetes.io")
        && !FOR_KUBELETS.contains(&key)
}

/// Everything that is wrong, or what the file asks for.
pub(super) fn check(file: File, folder: &Path) -> Result<Wish, Vec<Mistake>> {
    let mut check = Check {
        folder,
        mistakes: Vec::new(),
    };
    check.header(&file);
    let nodes = check.nodes(&file.nodes);
    let settings = Settings {
        ports: check.ports(&file.ports, &nodes),
        registries: check.registries(&file.registries),
        losses: check.losses(&file),
    };
    let manifests = file.manifests.iter().filter_map(|path| check.path(path));
    let manifests = manifests.collect::<Vec<_>>();
    if !check.mistakes.is_empty() {
        return Err(check.mistakes);
    }
    Ok(Wish {
        nodes,
        settings,
        manifests,
        file,
    })
}

struct Check<'a> {
    folder: &'a Path,
    mistakes: Vec<Mistake>,
}

impl Check<'_> {
    fn wrong<T>(&mut self, value: &Spanned<T>, what: impl Display, cure: impl Display) {
        self.mistakes
            .push(Mistake::at(value, what.to_string(), cure.to_string()));
    }

    fn header(&mut self, file: &File) {
        let fields = [
            ("apiVersion", &file.api_version, API_VERSION),
            ("kind", &file.kind, KIND),
        ];
        for (field, found, expected) in fields {
            let cure = format!("write `{field}: {expected}`");
            match found {
                None => self
                    .mistakes
                    .push(Mistake::of_all(format!("the field `{field}` is missing"), cure)),
                Some(found) if found.value != expected => {
                    self.wrong(found, format!("`{field}` is {:?}", found.value), cure);
                }
                Some(_) => {}
            }
        }
    }

    fn nodes(&mut self, nodes: &[file::Node]) -> Vec<(String, NodeSettings)> {
        let mut names = BTreeSet::new();
        let mut checked = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let name = match &node.name {
                None => node_name(index),
                Some(name) => {
                    if !is_node_name(&name.value) {
                        self.wrong(
                            name,
                            format!("{:?} can't be the name of a node", name.value),
                            "at most 15 small letters, digits and dashes, as in `zone-a-1`; not `switch` or `machine`",
                        );
                    }
                    name.value.clone()
                }
            };
            if !names.insert(name.clone()) {
                let what = format!("two nodes are called {name:?}");
                let cure = "a node without a name is called after its place in the list, as in `node-2`";
                match &node.name {
                    Some(written) => self.wrong(written, what, cure),
                    None => self.mistakes.push(Mistake::of_all(what, cure)),
                }
            }
            checked.push((name, self.node(node)));
        }
        checked
    }

    fn node(&mut self, node: &file::Node) -> NodeSettings {
        let mut labels = BTreeMap::new();
        for (key, value) in &node.labels {
            if OWN_LABELS.contains(&key.as_str()) {
                self.wrong(
                    value,
                    format!("the label `{key}` is the node's own"),
                    "leave it out",
                );
            } else if is_not_for_kubelets(key) {
                let cure = format!(
                    "put it on when the cluster is up: `kubectl label node NAME {key}={}`",
                    value.value
                );
                self.wrong(value, format!("a node can't give itself the label `{key}`"), cure);
            } else if !is_label_key(key) {
                let cure = "as in `disk` or `example.com/disk`";
                self.wrong(value, format!("`{key}` can't be the key of a label"), cure);
            }
            self.label_value(value);
            labels.insert(key.clone(), value.value.clone());
        }
        for (key, field, value) in [(ZONE, "zone", &node.zone), (REGION, "region", &node.region)] {
            let Some(value) = value else { continue };
            self.label_value(value);
            if labels.insert(key.to_owned(), value.value.clone()).is_some() {
                let what = format!("`{field}` is the label `{key}`, which is there too");
                self.wrong(value, what, "write one of them");
            }
        }
        if let Some(most) = node.max_pods.as_ref().filter(|most| most.value == 0) {
            let cure = "at least 1, or cordon it: `kubectl cordon NAME`";
            self.wrong(most, "a node without pods is of no use", cure);
        }
        NodeSettings {
            labels,
            taints: node.taints.iter().map(|taint| self.taint(taint)).collect(),
            mounts: node.mounts.iter().filter_map(|mount| self.mount(mount)).collect(),
            cpu_millis: node.cpu.map(|cpu| cpu.0),
            memory_bytes: node.memory.map(|memory| memory.0),
            max_pods: node.max_pods.as_ref().map(|most| most.value),
        }
    }

    fn label_value(&mut self, value: &Spanned<String>) {
        if !is_label_value(&value.value) {
            self.wrong(
                value,
                format!("{:?} can't be the value of a label", value.value),
                "at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at each end",
            );
        }
    }

    fn taint(&mut self, taint: &file::Taint) -> Taint {
        if !is_label_key(&taint.key.value) {
            let what = format!("{:?} can't be the key of a taint", taint.key.value);
            self.wrong(&taint.key, what, "as in `dedicated` or `example.com/dedicated`");
        }
        if let Some(value) = &taint.value {
            self.label_value(value);
        }
        Taint {
            key: taint.key.value.clone(),
            value: taint
                .value
                .as_ref()
                .map(|value| value.value.clone())
                .unwrap_or_default(),
            effect: taint.effect.name().to_owned(),
        }
    }

    fn mount(&mut self, mount: &file::Mount) -> Option<Mount> {
        let machine_path = self.path(&mount.machine_path);
        let node_path = &mount.node_path;
        let path = &node_path.value;
        if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
            let what = format!("{} isn't a path from the root", path.display());
            self.wrong(node_path, what, "as in /srv/data");
        } else if !path.exists() {
            let cure = format!(
                "a node sees the machine's files, and others in their place only: `mkdir -p {}` first",
                path.display()
            );
            self.wrong(node_path, format!("{} isn't there", path.display()), cure);
        } else if let Some(machine) = &machine_path
            && machine.is_dir() != path.is_dir()
        {
            let what = format!("of {} and {} one is a folder", machine.display(), path.display());
            self.wrong(node_path, what, "both must be folders, or both files");
        }
        Some(Mount {
            machine_path: machine_path?,
            node_path: path.clone(),
            read_only: mount.read_only,
        })
    }

    /// A path on this machine, which is relative to the file's folder.
    fn path(&mut self, path: &Spanned<PathBuf>) -> Option<PathBuf> {
        let whole = self.folder.join(&path.value);
        if whole.exists() {
            return Some(whole);
        }
        let cure = "paths in the file are relative to the folder that it is in";
        self.wrong(path, format!("{} isn't there", whole.display()), cure);
        None
    }

    fn ports(&mut self, ports: &[file::Port], nodes: &[(String, NodeSettings)]) -> Vec<MachinePort> {
        let mut seen = BTreeSet::new();
        let names = || nodes.iter().map(|(name, _)| name.as_str());
        for port in ports {
            for number in [&port.port, &port.node_port] {
                if number.value == 0 {
                    self.wrong(number, "0 is no port", "from 1 to 65535");
                }
            }
            if !seen.insert((port.address, port.port.value, port.protocol)) {
                let what = format!("port {} leads somewhere already", port.port.value);
                self.wrong(&port.port, what, "each port of the machine once");
            }
            // The nodes of a file without nodes are known later, by their number.
            let Some(node) = port.node.as_ref().filter(|_| !nodes.is_empty()) else {
                continue;
            };
            if !names().any(|name| name == node.value) {
                let cure = suggestion(&node.value, &names().collect::<Vec<_>>());
                self.wrong(node, format!("there is no node {:?}", node.value), cure);
            }
        }
        let checked = ports.iter().map(|port| MachinePort {
            address: port.address,
            port: port.port.value,
            protocol: port.protocol,
            node: port.node.as_ref().map(|node| node.value.clone()),
            node_port: port.node_port.value,
        });
        checked.collect()
    }

    fn registries(&mut self, registries: &[file::Registry]) -> Vec<Registry> {
        let mut seen = BTreeSet::new();
        let mut checked = Vec::new();
        for registry in registries {
            let host = &registry.host;
            let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
            if host.value.is_empty() || !host.value.chars().all(is_host) || host.value.starts_with('.') {
                let what = format!("{:?} is no registry", host.value);
                self.wrong(
                    host,
                    what,
                    "as images name it: `docker.io`, `registry.example:5000`",
                );
            }
            if !seen.insert(host.value.clone()) {
                self.wrong(
                    host,
                    format!("the registry {} is there twice", host.value),
                    "write all its mirrors together",
                );
            }
            for mirror in &registry.mirrors {
                let rest = mirror.value.strip_prefix("http://");
                let rest = rest.or_else(|| mirror.value.strip_prefix("https://"));
                if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with(['/', ':'])) {
                    let what = format!("{:?} is no URL", mirror.value);
                    self.wrong(
                        mirror,
                        what,
                        "as in `http://machine:5000`, where `machine` is this machine",
                    );
                }
            }
            checked.push(Registry {
                host: host.value.clone(),
                mirrors: registry
                    .mirrors
                    .iter()
                    .map(|mirror| mirror.value.clone())
                    .collect(),
                ca: registry.ca.as_ref().and_then(|ca| self.path(ca)),
                insecure: registry.insecure,
            });
        }
        checked
    }

    fn losses(&mut self, file: &File) -> Losses {
        let usual = Losses::default();
        if let Some(grace) = &file.node_monitor_grace_period
            && grace.value.0 < LEAST_GRACE
        {
            let cure = format!("at least {LEAST_GRACE}s: a node speaks four times in that time");
            self.wrong(grace, "the time is too short", cure);
        }
        let grace = file.node_monitor_grace_period.as_ref().map(|grace| grace.value.0);
        let or = |seconds: Option<super::scalar::Seconds>, usual| seconds.map_or(usual, |seconds| seconds.0);
        Losses {
            node_monitor_grace_period: grace.unwrap_or(usual.node_monitor_grace_period),
            not_ready_toleration: or(file.not_ready_toleration, usual.not_ready_toleration),
            unreachable_toleration: or(file.unreachable_toleration, usual.unreachable_toleration),
        }
    }
}
