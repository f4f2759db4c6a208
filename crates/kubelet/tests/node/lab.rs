//! A node for one test: namespaces, containerd, API server, kubelet.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use apiserver::{ApiServer, ClientTls, Identity};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kernel::cgroup::Hierarchies;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use kubelet::{Config, NetworkGate};
use pki::{Authority, Subject};
use serde_json::{Value, json};
use testkit::{TestNs, eventually_async, unique};
use tokio_util::sync::CancellationToken;

use crate::image;

pub(crate) const NODE: &str = "node-1";
/// For what depends on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A network plugin for tests: it answers to both names that containerd
/// calls, and gives each pod an address that leads nowhere.
const PLUGIN: &str = r#"#!/bin/sh
case "$CNI_COMMAND" in
ADD)
  nsenter --net="$CNI_NETNS" ip link set lo up
  n=$(echo "$CNI_CONTAINERID" | cksum | cut -d' ' -f1)
  echo "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"$CNI_IFNAME\",\"sandbox\":\"$CNI_NETNS\"}],\"ips\":[{\"address\":\"10.9.$((n / 250 % 250)).$((n % 250 + 1))/32\",\"interface\":0}]}" ;;
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
esac
"#;

/// A node and its control plane.
pub(crate) struct Lab {
    pub(crate) client: Client,
    pub(crate) server: Arc<ApiServer>,
    pub(crate) cri: cri::Client,
    pub(crate) config: Config,
    pub(crate) gate: Arc<NetworkGate>,
    pub(crate) authority: Authority,
    pub(crate) dir: tempfile::TempDir,
    containerd: Option<Child>,
    kubelet: Option<(
        CancellationToken,
        tokio::task::JoinHandle<Result<(), kubelet::Error>>,
    )>,
}

/// Runs a test on a node of its own, in its own network and mount namespaces,
/// and takes everything down afterwards, whether it passed or not.
pub(crate) fn on_a_node(test: impl AsyncFnOnce(&mut Lab) + Send) {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let ns = runtime().block_on(TestNs::new("kubelet"));
    let outcome = ns.within(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace (needs root)");
        let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
        runtime().block_on(async {
            let mut lab = Lab::start().await;
            let outcome = AssertUnwindSafe(test(&mut lab)).catch_unwind().await;
            lab.finish().await;
            outcome
        })
    });
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

impl Lab {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(&dir.path().join("pki")).unwrap();
        let config = write_config(dir.path(), &authority);
        let caller = authority
            .issue_client(&Subject::in_group(
                "kube-apiserver-kubelet-client",
                "system:masters",
            ))
            .unwrap();
        let server = ApiServer::open(apiserver::Config {
            store: dir.path().join("store.redb"),
            kubelet_client: Some(ClientTls {
                ca_pem: authority.cert_pem().to_owned(),
                cert_pem: caller.cert,
                key_pem: caller.key,
            }),
            tokens: None,
            services: apiserver::ServiceConfig::default(),
            loss_toleration: apiserver::LossToleration::default(),
        })
        .unwrap();
        server.bootstrap().await.unwrap();
        let mut lab = Self {
            client: server.client(Identity::new("admin", ["system:masters"])),
            server,
            cri: cri::Client::new(&config.cri_socket),
            config,
            gate: Arc::new(NetworkGate::open()),
            authority,
            dir,
            containerd: None,
            kubelet: None,
        };
        lab.start_containerd().await;
        lab.load_image();
        lab.start_kubelet();
        lab.node_ready().await;
        lab
    }

    pub(crate) async fn start_containerd(&mut self) {
        let log = self.dir.path().join("containerd.log");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        // Should the test be killed, containerd goes with it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "containerd", "--config"])
            .arg(self.dir.path().join("containerd.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd and setpriv");
        // Its shims are born there too, and so are found whatever happens.
        let group = self.group().child("system");
        group.create().unwrap();
        group.add(child.id()).unwrap();
        self.containerd = Some(child);
        let cri = self.cri.clone();
        eventually_async(PATIENCE, || {
            let cri = cri.clone();
            async move { cri.version().await.is_ok() }
        })
        .await;
    }

    fn group(&self) -> kernel::cgroup::Group {
        Hierarchies::detect().unwrap().group(&self.config.cgroup_root)
    }

    /// What containerd has of containers and images when it loses its database, with the power say.
    pub(crate) fn lose_database(&self) {
        fs::remove_dir_all(self.dir.path().join("root/io.containerd.metadata.v1.bolt")).unwrap();
    }

    pub(crate) fn kill_containerd(&mut self) {
        if let Some(mut child) = self.containerd.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn load_image(&self) {
        let archive = self.dir.path().join("image.tar");
        image::write(&archive);
        self.ctr(&["images", "import", &archive.to_string_lossy()]);
    }

    /// Tells containerd something past its CRI.
    pub(crate) fn ctr(&self, arguments: &[&str]) {
        let done = Command::new("ctr")
            .args(["--namespace", "k8s.io", "--address"])
            .arg(&self.config.cri_socket)
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    pub(crate) fn start_kubelet(&mut self) {
        let stop = CancellationToken::new();
        let client = self
            .server
            .client(Identity::new(format!("system:node:{NODE}"), ["system:nodes"]));
        let running = kubelet::run(self.config.clone(), client, self.gate.clone(), stop.clone());
        self.kubelet = Some((stop, tokio::spawn(running)));
    }

    pub(crate) async fn stop_kubelet(&mut self) {
        if let Some((stop, task)) = self.kubelet.take() {
            stop.cancel();
            task.await.unwrap().unwrap();
        }
    }

    async fn node_ready(&self) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        self.eventually("the Node is registered", || async {
            nodes.get_opt(NODE).await.unwrap()
        })
        .await;
        let range = json!({"spec": {"podCIDR": "10.9.0.0/16", "podCIDRs": ["10.9.0.0/16"]}});
        nodes
            .patch(NODE, &PatchParams::default(), &Patch::Merge(range))
            .await
            .unwrap();
        self.eventually("the Node is Ready", || async {
            let node = nodes.get(NODE).await.unwrap();
            let conditions = node.status.as_ref()?.conditions.as_ref()?;
            conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True")
                .then_some(node)
        })
        .await;
    }

    /// Waits until `look` finds something.
    pub(crate) async fn eventually<T, F>(&self, what: &str, mut look: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if tokio::time::Instant::now() > end {
                panic!("{what}: not within {PATIENCE:?}\n{}", self.report().await);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What there is, for when a test fails.
    async fn report(&self) -> String {
        let mut text = String::new();
        let pods: Api<Pod> = Api::all(self.client.clone());
        for pod in pods.list(&ListParams::default()).await.unwrap().items {
            text += &format!("{} {}\n", pod.metadata.name.unwrap(), json!(pod.status));
        }
        let events: Api<Event> = Api::all(self.client.clone());
        for event in events.list(&ListParams::default()).await.unwrap().items {
            text += &format!("{:?} {:?}\n", event.reason.unwrap(), event.message.unwrap());
        }
        let log = fs::read_to_string(self.dir.path().join("containerd.log")).unwrap_or_default();
        let last = log.lines().count().saturating_sub(30);
        log.lines().skip(last).fold(text, |text, line| text + line + "\n")
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Makes an object from JSON.
    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), "default");
        let object: K = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap()
    }

    /// Makes a pod on this node. Containers get the test's image unless they
    /// name another.
    pub(crate) async fn pod(&self, name: &str, mut spec: Value) -> Pod {
        spec["nodeName"] = json!(NODE);
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                let fields = container.as_object_mut().unwrap();
                fields.entry("image").or_insert(json!(image::IMAGE));
            }
        }
        let labels = json!({"app": name});
        self.create(json!({"metadata": {"name": name, "labels": labels}, "spec": spec}))
            .await
    }

    /// Waits until a pod is as wished.
    pub(crate) async fn pod_where(&self, name: &str, what: &str, test: impl Fn(&Pod) -> bool) -> Pod {
        let pods = self.pods();
        self.eventually(&format!("{name}: {what}"), || async {
            pods.get_opt(name).await.unwrap().filter(|pod| test(pod))
        })
        .await
    }

    pub(crate) async fn phase(&self, name: &str, phase: &str) -> Pod {
        self.pod_where(name, phase, |p| {
            p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some(phase)
        })
        .await
    }

    pub(crate) async fn ready(&self, name: &str) -> Pod {
        self.pod_where(name, "Ready", |p| {
            condition(p, "Ready") == Some("True".to_owned())
        })
        .await
    }

    pub(crate) async fn logs(&self, name: &str, params: &LogParams) -> String {
        self.pods().logs(name, params).await.unwrap()
    }

    /// Deletes a pod and waits until it is gone.
    pub(crate) async fn delete(&self, name: &str, params: &DeleteParams) {
        self.pods().delete(name, params).await.unwrap();
        self.gone(name).await;
    }

    pub(crate) async fn gone(&self, name: &str) {
        let pods = self.pods();
        self.eventually(&format!("{name} is gone"), || async {
            pods.get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
    }

    /// The reasons and messages of a pod's events.
    pub(crate) async fn events(&self, pod: &str) -> Vec<(String, String)> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let of_pod = all
            .into_iter()
            .filter(|e| e.involved_object.name.as_deref() == Some(pod));
        of_pod.map(|e| (e.reason.unwrap(), e.message.unwrap())).collect()
    }

    pub(crate) async fn event(&self, pod: &str, reason: &str) -> String {
        self.eventually(&format!("event {reason} of {pod}"), || async {
            let found = self.events(pod).await.into_iter().find(|(r, _)| r == reason);
            found.map(|(_, message)| message)
        })
        .await
    }

    /// What of pods is on the node: sandboxes, folders, cgroups, mounts.
    pub(crate) async fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for sandbox in self.cri.list_pod_sandbox(Default::default()).await.unwrap() {
            left.push(format!("sandbox {}", sandbox.id));
        }
        for folder in ["pods", "logs/pods"] {
            for entry in fs::read_dir(self.config.root_dir.join(folder)).unwrap() {
                left.push(format!("folder {}", entry.unwrap().path().display()));
            }
        }
        let group = format!("{}/kubepods", self.config.cgroup_root);
        for hierarchy in Hierarchies::detect().unwrap().iter() {
            let dir = hierarchy.root.join(group.trim_start_matches('/'));
            let below = fs::read_dir(dir).into_iter().flatten().flatten();
            let below = below.filter(|e| e.path().is_dir());
            left.extend(below.map(|e| format!("cgroup {}", e.path().display())));
        }
        for task in self.tasks() {
            left.push(format!("task {}", task.display()));
        }
        for place in [&self.config.root_dir, &self.tasks_dir()] {
            let mounts = kernel::mountinfo::targets_below(place).unwrap();
            left.extend(mounts.iter().map(|m| format!("mount {}", m.display())));
        }
        left
    }

    /// Where containerd keeps the folders of its tasks.
    pub(crate) fn tasks_dir(&self) -> PathBuf {
        self.dir.path().join("state/io.containerd.runtime.v2.task/k8s.io")
    }

    /// Those folders, but for hidden ones: what containerd is about to remove.
    pub(crate) fn tasks(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.tasks_dir()).into_iter().flatten().flatten();
        let shown = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        shown.map(|entry| entry.path()).collect()
    }

    pub(crate) async fn nothing_left(&self) {
        self.eventually("nothing is left on the node", || async {
            let left = self.leftovers().await;
            left.is_empty().then_some(())
        })
        .await;
    }

    async fn finish(mut self) {
        self.stop_kubelet().await;
        if self.containerd.is_none() {
            self.start_containerd().await;
        }
        for sandbox in self.cri.list_pod_sandbox(Default::default()).await.unwrap() {
            self.cri.stop_pod_sandbox(&sandbox.id).await.ok();
            self.cri.remove_pod_sandbox(&sandbox.id).await.ok();
        }
    }
}

impl Drop for Lab {
    /// Also after a failed test: nothing of it stays.
    fn drop(&mut self) {
        let ended = self.group().kill_all(Duration::from_secs(10));
        if let Some(mut child) = self.containerd.take() {
            child.wait().ok();
        }
        let removed = self.group().remove(Duration::from_secs(10));
        if let Err(error) = ended.and(removed) {
            eprintln!("left behind: {error}");
        }
    }
}

/// The status of one of a pod's conditions.
pub(crate) fn condition(pod: &Pod, kind: &str) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_ == kind)
        .map(|c| c.status.clone())
}

/// A container's status as JSON, which is easy to look into.
pub(crate) fn container(pod: &Pod, name: &str) -> Value {
    let status = pod.status.as_ref().unwrap();
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|s| s.name == name).map_or(Value::Null, |s| json!(s))
}

fn write_config(dir: &Path, authority: &Authority) -> Config {
    let plugins = dir.join("cni/bin");
    fs::create_dir_all(&plugins).unwrap();
    for name in ["loopback", "test"] {
        fs::write(plugins.join(name), PLUGIN).unwrap();
        fs::set_permissions(plugins.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let conflist = json!({"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": "test"}]});
    fs::create_dir_all(dir.join("cni/conf")).unwrap();
    fs::write(dir.join("cni/conf/10-test.conflist"), conflist.to_string()).unwrap();
    let socket = dir.join("containerd.sock");
    fs::write(dir.join("containerd.toml"), containerd_config(dir, &socket)).unwrap();

    let cgroup = format!("/{}", unique("kubelet"));
    let mut config = Config::new(NODE, HERE, socket, dir.join("node"), cgroup);
    let pair = authority
        .issue_server(&Subject::new("system:node:node-1"), &[HERE.to_string()])
        .unwrap();
    let pki = dir.join("node/pki");
    fs::create_dir_all(&pki).unwrap();
    fs::write(&config.server_cert, pair.cert).unwrap();
    fs::write(&config.server_key, pair.key).unwrap();
    fs::write(&config.client_ca, authority.cert_pem()).unwrap();
    let resolv_conf: PathBuf = dir.join("resolv.conf");
    fs::write(&resolv_conf, "nameserver 192.0.2.53\n").unwrap();
    config.resolv_conf = resolv_conf;
    config.relist_millis = 200;
    config.garbage_seconds = 1;
    config.containerd_state = Some(dir.join("state"));
    config
}

fn containerd_config(dir: &Path, socket: &Path) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
address = "{socket}"
[ttrpc]
address = "{socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
disable_apparmor = true
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{bin}"
conf_dir = "{conf}"
[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"
"#,
        root = at("root"),
        state = at("state"),
        socket = socket.display(),
        image = image::IMAGE,
        bin = at("cni/bin"),
        conf = at("cni/conf"),
        opt = at("opt"),
    )
}
