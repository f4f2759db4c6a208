//! Ripstop's plugin in a chain with another project's, called one after the other as a runtime does:
//! ADD in the chain's order, each with the result of the one before; CHECK with the last result; DEL in
//! reverse order.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Agent, TestNode, address, read};
use serde_json::{Value, json};
use testkit::{Pong, TestNs, ping};

const DUAL: &[&str] = &["10.244.1.0/24", "fd00:10:244:1::/64"];

/// Where distributions and Kubernetes' own packages put the reference plugins.
const FOLDERS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// The oldest version of the specification with CHECK, and the newest that Debian's plugins speak.
const VERSIONS: [&str; 2] = ["0.4.0", "1.0.0"];

/// The reference plugin `tuning`, after ours in a chain.
struct Tuning {
    program: PathBuf,
    data: tempfile::TempDir,
    config: Value,
}

impl Tuning {
    /// With a sysctl that it is to set in the pod.
    fn of(sysctl: &str, value: &str) -> Tuning {
        let programs = FOLDERS.map(|folder| Path::new(folder).join("tuning"));
        let program = programs.into_iter().find(|program| program.is_file());
        let data = tempfile::tempdir().expect("a directory");
        let config =
            json!({"name": "ripstop", "type": "tuning", "sysctl": {sysctl: value}, "dataDir": data.path()});
        Tuning {
            program: program.expect("the CNI plugin `tuning`: install containernetworking-plugins"),
            data,
            config,
        }
    }

    fn run(&self, command: &str, version: &str, netns: &Path, previous: &Value) -> Result<Value, Value> {
        let mut config = self.config.clone();
        config["cniVersion"] = version.into();
        config["prevResult"] = previous.clone();
        let mut child = Command::new(&self.program)
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", "web")
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.program.parent().expect("a folder"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the plugin starts");
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        stdin.write_all(config.to_string().as_bytes()).expect("it reads");
        drop(stdin);
        read(&child.wait_with_output().expect("the plugin ends"))
    }
}

async fn ours(
    node: &TestNode,
    command: &str,
    version: &str,
    netns: &Path,
    previous: Value,
) -> Result<Value, Value> {
    let call = node
        .call(command, "web", netns)
        .with("cniVersion", version.into());
    match previous {
        Value::Null => call.run().await,
        previous => call.with("prevResult", previous).run().await,
    }
}

fn sysctl(pod: &TestNs, name: &str) -> String {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let text = pod.within(|| std::fs::read_to_string(&path).expect("a sysctl"));
    text.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_with_the_reference_plugin_tuning_is_made_checked_and_taken_apart() {
    let node = TestNode::new(DUAL).await;
    let agent = Agent::start(&node.spec).await;
    let before = (node.kernel_state().await, node.elements());
    for version in VERSIONS {
        let tuning = Tuning::of("net.core.somaxconn", "500");
        let pod = TestNs::new("pod").await;
        let path = pod.path();
        let first = ours(&node, "ADD", version, &path, Value::Null).await;
        let first = first.expect("attached");
        assert_eq!(first["cniVersion"], version);
        let last = tuning
            .run("ADD", version, &path, &first)
            .expect("it takes our result");
        assert_eq!(sysctl(&pod, "net.core.somaxconn"), "500");
        assert_eq!(last["ips"], first["ips"], "our addresses come out of the chain");

        let check = async || -> Result<(), Value> {
            ours(&node, "CHECK", version, &path, last.clone()).await?;
            tuning.run("CHECK", version, &path, &last).map(drop)
        };
        check().await.expect("as it was made");
        let own: IpAddr = address(&last);
        assert_eq!(ping(node.netns(), own, 56).expect("sent"), Pong::Reply);

        // What is the other's fails the other's CHECK, and what is ours ours.
        let spoil = "/proc/sys/net/core/somaxconn";
        pod.within(|| std::fs::write(spoil, "501").expect("a sysctl"));
        let theirs = check().await.expect_err("another value");
        assert!(theirs.to_string().contains("somaxconn"), "{theirs}");
        pod.within(|| std::fs::write(spoil, "500").expect("a sysctl"));
        let inside = pod.netlink();
        let link = inside.link_index("eth0").await.expect("the pod's link");
        let prefix = format!("{own}/32").parse().expect("a prefix");
        inside.delete_address(link, prefix).await.expect("deleted");
        let ours_fails = check().await.expect_err("an address is gone");
        assert_eq!(ours_fails["code"], 100, "{ours_fails}");

        tuning.run("DEL", version, &path, &last).expect("the last first");
        ours(&node, "DEL", version, &path, last.clone())
            .await
            .expect("detached");
        assert_eq!((node.kernel_state().await, node.elements()), before);
        assert!(agent.network.attachments().is_empty());
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_chain_whose_later_plugin_fails() {
    let node = TestNode::new(DUAL).await;
    let agent = Agent::start(&node.spec).await;
    let before = (node.kernel_state().await, node.elements());
    // There is no such sysctl.
    let tuning = Tuning::of("net.core.ripstop", "1");
    let pod = TestNs::new("pod").await;
    let path = pod.path();
    let ports = json!({"portMappings": [{"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}]});
    for _ in 0..3 {
        let add = node.call("ADD", "web", &path).with("cniVersion", "1.0.0".into());
        let first = add
            .with("runtimeConfig", ports.clone())
            .run()
            .await
            .expect("attached");
        assert_eq!(agent.network.attachments().len(), 1);
        let failed = tuning.run("ADD", "1.0.0", &path, &first).expect_err("it fails");
        assert!(failed.to_string().contains("net/core/ripstop"), "{failed}");
        // A runtime then takes the whole chain back; without a result if it keeps none.
        let _ = tuning.run("DEL", "1.0.0", &path, &first);
        ours(&node, "DEL", "1.0.0", &path, Value::Null)
            .await
            .expect("detached");
        assert!(agent.network.attachments().is_empty());
        assert_eq!((node.kernel_state().await, node.elements()), before);
        assert!(pod.netlink().link("eth0").await.expect("asked").is_none());
    }
    drop(tuning.data);
    agent.stop().await;
}
