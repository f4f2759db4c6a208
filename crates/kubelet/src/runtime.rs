//! What the container runtime says of a pod. The runtime, not our memory, is
//! the truth about what runs: a restarted agent picks up from here.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use cri::Client;
use cri::message::{
    Container, ContainerFilter, ContainerState, ContainerStatus, NamespaceMode, PodSandbox, PodSandboxFilter,
    PodSandboxState, PodSandboxStatus,
};
use jiff::Timestamp;

use crate::pod::label;

/// Where one run of a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    Created,
    Running,
    Exited,
    Unknown,
}

/// One run of a container: each restart is another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) sandbox: String,
    pub(crate) restart_count: u32,
    pub(crate) state: RunState,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// The image as the pod names it, or as the runtime does.
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) hash: String,
    /// The node's path of the file with the last words.
    pub(crate) message_file: Option<String>,
    pub(crate) message_from_log: bool,
    pub(crate) log_path: String,
}

impl Run {
    pub(crate) fn is_running(&self) -> bool {
        self.state == RunState::Running
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.state == RunState::Exited
    }
}

/// One sandbox of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) ready: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) host_network: bool,
    pub(crate) ips: Vec<IpAddr>,
}

/// All that the runtime has of a pod, the newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) runs: Vec<Run>,
}

impl Observed {
    /// The runtime has nothing of the pod.
    pub(crate) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.runs.is_empty()
    }

    /// The sandbox that works, if it is the newest.
    pub(crate) fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|s| s.ready)
    }

    /// A container's runs, the newest first.
    pub(crate) fn runs_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |r| r.name == name)
    }

    /// A container's newest run.
    pub(crate) fn latest<'a>(&'a self, name: &'a str) -> Option<&'a Run> {
        self.runs_of(name).next()
    }

    /// What must end before the pod can: whatever isn't known to have ended.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &Run> {
        self.runs
            .iter()
            .filter(|r| matches!(r.state, RunState::Running | RunState::Unknown))
    }
}

/// Looks at one pod at a time and remembers what can't change: the details of
/// a container in a given state.
pub(crate) struct Observer {
    /// Whether pods' IPv4 addresses come first.
    ipv4_first: bool,
    containers: HashMap<String, ContainerStatus>,
    sandboxes: HashMap<String, PodSandboxStatus>,
}

impl Observer {
    /// One for a node with these addresses: their first one's family is a pod's first too. Runtimes
    /// have preferences of their own.
    pub(crate) fn new(node_ips: &[IpAddr]) -> Self {
        Self {
            ipv4_first: node_ips.first().is_none_or(IpAddr::is_ipv4),
            containers: HashMap::new(),
            sandboxes: HashMap::new(),
        }
    }

    /// What the runtime has of the pod now.
    pub(crate) async fn observe(&mut self, cri: &Client, uid: &str) -> Result<Observed, cri::Error> {
        let selector = BTreeMap::from([(label::POD_UID.to_owned(), uid.to_owned())]);
        let sandboxes = PodSandboxFilter {
            label_selector: selector.clone(),
            ..PodSandboxFilter::default()
        };
        let containers = ContainerFilter {
            label_selector: selector,
            ..ContainerFilter::default()
        };
        let (sandboxes, containers) =
            tokio::try_join!(cri.list_pod_sandbox(sandboxes), cri.list_containers(containers))?;
        let mut observed = Observed {
            sandboxes: self.details_of_sandboxes(cri, sandboxes).await?,
            runs: self.details_of_containers(cri, containers).await?,
        };
        observed
            .sandboxes
            .sort_by_key(|s| std::cmp::Reverse((s.attempt, s.created_at)));
        observed
            .runs
            .sort_by_key(|r| std::cmp::Reverse((r.created_at, r.restart_count)));
        Ok(observed)
    }

    async fn details_of_sandboxes(
        &mut self,
        cri: &Client,
        listed: Vec<PodSandbox>,
    ) -> Result<Vec<Sandbox>, cri::Error> {
        self.sandboxes.retain(|id, _| listed.iter().any(|s| s.id == *id));
        let mut sandboxes = Vec::with_capacity(listed.len());
        for item in listed {
            let known = self.sandboxes.get(&item.id).filter(|s| s.state == item.state);
            let status = match known {
                Some(status) => status.clone(),
                None => match cri.pod_sandbox_status(&item.id).await {
                    Ok(status) => status,
                    // Removed since it was listed.
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(error),
                },
            };
            sandboxes.push(sandbox(&status, self.ipv4_first));
            self.sandboxes.insert(item.id, status);
        }
        Ok(sandboxes)
    }

    async fn details_of_containers(
        &mut self,
        cri: &Client,
        listed: Vec<Container>,
    ) -> Result<Vec<Run>, cri::Error> {
        self.containers.retain(|id, _| listed.iter().any(|c| c.id == *id));
        let mut runs = Vec::with_capacity(listed.len());
        for item in listed {
            let known = self.containers.get(&item.id).filter(|c| c.state == item.state);
            let status = match known {
                Some(status) => status.clone(),
                None => match cri.container_status(&item.id).await {
                    Ok(status) => status,
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(error),
                },
            };
            runs.push(run(&item.pod_sandbox_id, &status));
            self.containers.insert(item.id, status);
        }
        Ok(runs)
    }
}

fn sandbox(status: &PodSandboxStatus, ipv4_first: bool) -> Sandbox {
    let mode = status
        .linux
        .as_ref()
        .and_then(|l| l.namespaces.as_ref()?.options.as_ref())
        .map(|o| o.network);
    let addresses = status.network.iter().flat_map(|network| {
        let more = network.additional_ips.iter().map(|a| a.ip.as_str());
        std::iter::once(network.ip.as_str()).chain(more)
    });
    let mut ips: Vec<IpAddr> = addresses.filter_map(|a| a.parse().ok()).collect();
    ips.sort_by_key(|ip| ip.is_ipv4() != ipv4_first);
    Sandbox {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        ready: status.state() == PodSandboxState::Ready,
        created_at: time(status.created_at).unwrap_or_default(),
        host_network: mode == Some(NamespaceMode::Node as i32),
        ips,
    }
}

fn run(sandbox: &str, status: &ContainerStatus) -> Run {
    let note = |name: &str| status.annotations.get(name).map(String::as_str);
    let attempt = status.metadata.as_ref().map_or(0, |m| m.attempt);
    let message_path = note(label::MESSAGE_PATH);
    let message_mount = status
        .mounts
        .iter()
        .find(|m| Some(m.container_path.as_str()) == message_path);
    let named = status.image.as_ref().map(|i| {
        if i.user_specified_image.is_empty() {
            &i.image
        } else {
            &i.user_specified_image
        }
    });
    Run {
        id: status.id.clone(),
        name: status
            .labels
            .get(label::CONTAINER_NAME)
            .cloned()
            .or_else(|| status.metadata.as_ref().map(|m| m.name.clone()))
            .unwrap_or_default(),
        sandbox: sandbox.to_owned(),
        restart_count: note(label::RESTART_COUNT)
            .and_then(|c| c.parse().ok())
            .unwrap_or(attempt),
        state: match status.state() {
            ContainerState::Created => RunState::Created,
            ContainerState::Running => RunState::Running,
            ContainerState::Exited => RunState::Exited,
            ContainerState::Unknown => RunState::Unknown,
        },
        created_at: time(status.created_at).unwrap_or_default(),
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message: status.message.clone(),
        image: named.cloned().unwrap_or_default(),
        image_id: status.image_ref.clone(),
        hash: note(label::HASH).unwrap_or_default().to_owned(),
        message_file: message_mount.map(|m| m.host_path.clone()),
        message_from_log: note(label::MESSAGE_POLICY) == Some("FallbackToLogsOnError"),
        log_path: status.log_path.clone(),
    }
}

fn time(nanoseconds: i64) -> Option<Timestamp> {
    (nanoseconds > 0)
        .then(|| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok())
        .flatten()
}

/// A runtime's view of a pod, written by hand, for tests.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("a time")
    }

    #[test]
    fn a_pods_first_address_is_of_the_nodes_preferred_family() {
        let network = cri::message::PodSandboxNetworkStatus {
            ip: "10.244.1.2".into(),
            additional_ips: vec![cri::message::PodIp { ip: "fd00::2".into() }],
        };
        let status = PodSandboxStatus {
            network: Some(network),
            ..PodSandboxStatus::default()
        };
        let ips = |ipv4_first| {
            let ips = sandbox(&status, ipv4_first).ips;
            ips.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(ips(true), ["10.244.1.2", "fd00::2"]);
        assert_eq!(ips(false), ["fd00::2", "10.244.1.2"]);
    }

    pub(crate) fn ready_sandbox(id: &str, attempt: u32) -> Sandbox {
        Sandbox {
            id: id.into(),
            attempt,
            ready: true,
            created_at: at(0),
            host_network: false,
            ips: vec!["10.244.1.2".parse().expect("an address")],
        }
    }

    pub(crate) fn running(name: &str, sandbox: &str, restart_count: u32) -> Run {
        Run {
            id: format!("{name}-{restart_count}"),
            name: name.into(),
            sandbox: sandbox.into(),
            restart_count,
            state: RunState::Running,
            created_at: at(i64::from(restart_count) * 100),
            started_at: Some(at(i64::from(restart_count) * 100 + 1)),
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: "x:1".into(),
            image_id: "sha256:feed".into(),
            hash: String::new(),
            message_file: None,
            message_from_log: false,
            log_path: String::new(),
        }
    }

    pub(crate) fn exited(name: &str, sandbox: &str, restart_count: u32, code: i32) -> Run {
        let run = running(name, sandbox, restart_count);
        Run {
            state: RunState::Exited,
            finished_at: run.started_at.map(|t| t + jiff::SignedDuration::from_secs(9)),
            exit_code: code,
            reason: if code == 0 { "Completed" } else { "Error" }.into(),
            ..run
        }
    }

    #[test]
    fn a_status_becomes_a_run() {
        let status = ContainerStatus {
            id: "c1".into(),
            state: ContainerState::Exited as i32,
            exit_code: 137,
            reason: "OOMKilled".into(),
            created_at: 1_700_000_000_000_000_000,
            labels: BTreeMap::from([(label::CONTAINER_NAME.into(), "a".into())]),
            annotations: BTreeMap::from([
                (label::RESTART_COUNT.into(), "3".into()),
                (label::MESSAGE_PATH.into(), "/dev/termination-log".into()),
            ]),
            mounts: vec![cri::message::Mount {
                container_path: "/dev/termination-log".into(),
                host_path: "/pods/u/containers/a/1".into(),
                ..Default::default()
            }],
            ..ContainerStatus::default()
        };
        let run = run("s1", &status);
        assert_eq!(
            (run.name.as_str(), run.restart_count, run.exit_code),
            ("a", 3, 137)
        );
        assert_eq!(run.message_file.as_deref(), Some("/pods/u/containers/a/1"));
        assert_eq!(run.started_at, None);
    }
}
