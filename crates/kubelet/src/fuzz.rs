//! Ways into this crate for fuzzing (crate `fuzz-targets`): requests to the kubelet's API, and the pods and objects
//! that an API server hands out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::Deserialize;
use serde_json::json;

use crate::config::Config;
use crate::container_config::{Prepared, container_config};
use crate::decide::{View, decide};
use crate::downward::Surroundings;
use crate::objects::{Data, Lookup, Source};
use crate::security::ImageUser;
use crate::status::{Facts, pod_status};
use crate::volumes::payload::{self, Sources};
use crate::volumes::token::Tokens;
use crate::{
    admit, backoff, bandwidth, credentials, env, pod, references, resources, runtime, sandbox, security,
    server, status_patch,
};

/// What the node has: bytes, and thousandths of a processor.
const MEMORY: i64 = 8 << 30;
const CPU: i64 = 4000;

/// The head of a request to the kubelet's API: method and target, then a header a line.
pub fn request(head: &[u8]) {
    if let Ok(head) = str::from_utf8(head) {
        server::fuzz::request(head);
    }
}

/// A pod, with others of the node and what its ConfigMaps and Secrets say.
#[derive(Deserialize)]
struct Given {
    pod: Pod,
    #[serde(default)]
    others: Vec<Pod>,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    resolv_conf: String,
}

/// One object of every name.
struct Objects(Data);

impl Lookup for Objects {
    fn data(&self, _: Source, name: &str) -> Result<Option<Data>, String> {
        Ok((name != "missing").then(|| self.0.clone()))
    }
}

/// What a kubelet makes of a pod before anything is done about it: whether it is let in, what the runtime is told,
/// what its volumes hold, what is next, and what its status says.
pub fn pod(object: &[u8]) {
    let Ok(given) = serde_json::from_slice::<Given>(object) else {
        return;
    };
    let pod = &given.pod;
    let others: Vec<&Pod> = given.others.iter().collect();
    let has = admit::Has {
        pods: 110,
        cpu: CPU,
        memory: MEMORY,
    };
    let admitted = admit::refuse_for(&has, pod, &others).is_none();
    for (resource, all) in [("cpu", CPU), ("memory", MEMORY)] {
        let asked = resources::pod_request(pod, resource);
        assert!(
            !admitted || asked <= all,
            "a pod that asks for more than there is isn't let in"
        );
    }
    let _ = (bandwidth::wrong(pod), sandbox::impossible_hostname(pod, &CONFIG));
    sandbox::sandbox_config(pod, 0, &CONFIG, &given.resolv_conf);
    resources::pod_limits(pod);
    references::of(pod);
    let data = given.data.into_iter().map(|(key, text)| (key, text.into_bytes()));
    let objects = Objects(data.collect());
    credentials::missing(pod, &objects);
    let containers = pod::all_containers(pod).cloned();
    let ephemeral = pod::ephemeral_containers(pod).iter().map(pod::as_container);
    for container in containers.chain(ephemeral) {
        described(pod, &container, &objects);
    }
    let sources = Sources {
        pod,
        objects: &objects,
        around: &AROUND,
        tokens: &Tokens::default(),
    };
    for volume in pod::spec(pod).volumes.iter().flatten() {
        let _ = payload::files(volume, &sources);
    }
    next(pod);
}

/// What the runtime is told of a container.
fn described(pod: &Pod, container: &Container, objects: &Objects) {
    let user = ImageUser::default();
    let _ = security::verify_non_root(pod, container, &user);
    if let Some(image) = &container.image {
        credentials::for_image(pod, image, objects);
    }
    let Ok(env) = env::environment(pod, container, BTreeMap::new(), objects, &AROUND) else {
        return;
    };
    let prepared = Prepared {
        restart_count: 0,
        image_ref: String::new(),
        image_user: user,
        env,
        mounts: Vec::new(),
        machine_memory: MEMORY,
        seccomp_dir: "/var/lib/kubelet/seccomp".into(),
        target: None,
    };
    container_config(pod, container, prepared);
}

/// What is next, and what is told meanwhile, where nothing runs yet.
fn next(pod: &Pod) {
    let (now, observed) = (Timestamp::UNIX_EPOCH, runtime::Observed::default());
    let (none, ids) = (BTreeMap::new(), BTreeSet::new());
    let plan = decide(&View {
        pod,
        observed: &observed,
        now,
        failed: &none,
        started: &ids,
        backoff: &backoff::CrashBackoff::default(),
        starting: &ids,
    });
    let status = pod_status(&Facts {
        pod,
        observed: &observed,
        now,
        node_ips: &CONFIG.node_ips,
        waiting: &plan.held,
        ready: &ids,
        started: &ids,
        last_words: &HashMap::new(),
        failure: None,
        over: plan.finished,
    });
    let before = pod.status.clone().unwrap_or_default();
    status_patch::patch("uid", &before, &status);
}

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let config = json!({
        "nodeName": "node-1", "nodeIps": ["192.0.2.1", "2001:db8::1"], "criSocket": "/run/containerd.sock",
        "rootDir": "/var/lib/kubelet", "cgroupRoot": "/ripstop/local/node-1", "listen": "192.0.2.1:10250",
        "serverCert": "server.crt", "serverKey": "server.key", "clientCa": "ca.crt",
        "clusterDns": ["10.96.0.10"],
    });
    serde_json::from_value(config).expect("a configuration")
});

static AROUND: LazyLock<Surroundings> = LazyLock::new(|| Surroundings {
    node_name: CONFIG.node_name.clone(),
    node_ips: CONFIG.node_ips.clone(),
    pod_ips: CONFIG.node_ips.clone(),
    node_cpu_millis: CPU,
    node_memory: MEMORY,
});
