//! Streams of a pod, with every client that people have: kubectl of two ages, Python's, and kube-rs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::{Cluster, Outcome, Pod, run};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, AttachParams, AttachedProcess};
use testkit::{Kubectl, WhichKubectl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const IMAGE: &str = "--image=localhost/ripstop/toolbox:1";

/// Echoes its standard input, and ends with it.
const ECHO: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  restartPolicy: Never
  containers: [{name: c, image: "localhost/ripstop/toolbox:1", command: [cat], stdin: true, stdinOnce: true}]
"#;

/// All of it, against a pod of the toolbox that the Service `front` leads to on port 80.
pub(crate) fn pass(cluster: &Cluster, pod: &Pod) {
    for which in [WhichKubectl::Installed, WhichKubectl::Packaged] {
        if let Some(client) = Kubectl::find(which) {
            let kubectl = By { cluster, client };
            kubectl.executes(pod);
            kubectl.copies(pod);
            kubectl.attaches();
            for target in [format!("pod/{}", pod.name), "service/front".to_owned()] {
                kubectl.forwards(&target);
            }
        }
    }
    python(cluster, pod);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(kube_rs(cluster, pod));
}

/// One kubectl.
struct By<'a> {
    cluster: &'a Cluster,
    client: Kubectl,
}

impl By<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.client.program);
        let config = self.cluster.data_dir().join("kubeconfig");
        command.arg("--kubeconfig").arg(config).args(args);
        command
    }

    fn run(&self, args: &[&str], input: Option<&str>) -> Outcome {
        run(&mut self.command(args), input)
    }

    fn executes(&self, pod: &Pod) {
        let said = self.run(&["exec", "-i", &pod.name, "--", "cat"], Some("through\n"));
        assert_eq!(said.ok(), "through\n");
        let script = "echo out; echo oops >&2; exit 7";
        let failed = self.run(&["exec", &pod.name, "--", "sh", "-c", script], None);
        assert_eq!(
            (failed.code, failed.stdout.as_str()),
            (Some(7), "out\n"),
            "{failed:?}"
        );
        assert!(failed.stderr.contains("oops"), "{failed:?}");
    }

    /// `kubectl cp` runs `tar` in the container.
    fn copies(&self, pod: &Pod) {
        let dir = tempfile::tempdir().expect("a directory");
        let bytes: Vec<u8> = (0..200_000_u32).map(|i| (i * 31 % 251) as u8).collect();
        std::fs::write(dir.path().join("sent"), &bytes).expect("a file to send");
        let place = format!("{}:/tmp/sent", pod.name);
        for (from, to) in [("sent", place.as_str()), (&place, "back")] {
            let mut command = self.command(&["cp", from, to]);
            run(command.current_dir(dir.path()), None).ok();
        }
        assert!(std::fs::read(dir.path().join("back")).expect("the file came back") == bytes);
    }

    fn attaches(&self) {
        self.run(&["create", "-f", "-"], Some(ECHO)).ok();
        let ready = "--for=condition=Ready";
        self.run(&["wait", ready, "pod/echo", "--timeout=60s"], None).ok();
        let said = self.run(&["attach", "-i", "echo"], Some("attached\n"));
        assert!(said.stdout.contains("attached\n"), "{said:?}");
        assert_eq!(self.run(&["logs", "-f", "echo"], None).ok(), "attached\n");
        self.run(&["delete", "pod", "echo", "--now"], None).ok();
        let once = ["run", "once", "-i", "--rm", "--restart=Never", IMAGE, "--", "cat"];
        let said = self.run(&once, Some("once\n"));
        assert!(
            said.stdout.contains("once\n") && said.stdout.contains("deleted"),
            "{said:?}"
        );
    }

    fn forwards(&self, target: &str) {
        let port = if target.starts_with("pod") { ":8080" } else { ":80" };
        let mut forward = self
            .command(&["port-forward", target, port])
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut lines = BufReader::new(forward.stdout.take().expect("it is piped")).lines();
        let line = lines.next().expect("it says where").expect("a line");
        // "Forwarding from 127.0.0.1:40123 -> 8080"
        let place = line.split_whitespace().nth(2).expect("the line has a place");
        let mut answer = String::new();
        let mut stream = TcpStream::connect(place).expect("the forwarded port");
        stream
            .write_all(b"GET /forwarded HTTP/1.0\r\n\r\n")
            .expect("sent");
        stream.read_to_string(&mut answer).expect("answered");
        forward.kill().expect("ended");
        forward.wait().expect("reaped");
        assert!(answer.contains("\"path\":\"/forwarded\""), "{line}: {answer}");
    }
}

/// The distribution's Python, whatever else is first on the path.
fn python(cluster: &Cluster, pod: &Pod) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/streams.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(cluster.data_dir().join("kubeconfig"));
    run(command.arg(&pod.name), None).ok();
}

async fn kube_rs(cluster: &Cluster, pod: &Pod) {
    let file = cluster.data_dir().join("kubeconfig");
    let config = kube::config::Kubeconfig::read_from(file).expect("the cluster's kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await;
    let client = kube::Client::try_from(config.expect("it leads somewhere")).expect("a client");
    let pods: Api<core::Pod> = Api::namespaced(client, "default");

    let talking = AttachParams::default().stdin(true);
    // What is executed ends by itself: closing standard input needs a newer protocol.
    let mut process = pods
        .exec(&pod.name, ["head", "-n", "1"], &talking)
        .await
        .expect("exec");
    let said = talk(&mut process, "in Rust\n").await;
    assert_eq!((said.as_str(), ended(&mut process).await), ("in Rust\n", None));
    let script = ["sh", "-c", "exit 7"];
    let mut process = pods
        .exec(&pod.name, script, &AttachParams::default())
        .await
        .expect("exec");
    let why = ended(&mut process).await;
    assert_eq!(why.as_deref(), Some("NonZeroExitCode"));

    let echo: core::Pod = serde_json::from_value(serde_json::json!({
        "metadata": { "name": "rust" },
        "spec": { "restartPolicy": "Never", "containers": [{
            "name": "c", "image": "localhost/ripstop/toolbox:1", "command": ["head", "-n", "1"], "stdin": true,
        }] },
    }))
    .expect("a pod");
    pods.create(&Default::default(), &echo).await.expect("a pod");
    let running = kube::runtime::conditions::is_pod_running();
    let running = kube::runtime::wait::await_condition(pods.clone(), "rust", running).await;
    running.expect("it runs");
    let mut process = pods.attach("rust", &talking).await.expect("attach");
    assert_eq!(talk(&mut process, "attached\n").await, "attached\n");
    pods.delete("rust", &kube::api::DeleteParams::default().grace_period(0))
        .await
        .expect("deleted");

    let mut forwarded = pods.portforward(&pod.name, &[8080]).await.expect("port-forward");
    let mut stream = forwarded.take_stream(8080).expect("the port asked for");
    stream
        .write_all(b"GET /from-rust HTTP/1.0\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.contains("\"path\":\"/from-rust\""), "{answer}");
}

/// What a process answers to its standard input.
async fn talk(process: &mut AttachedProcess, words: &str) -> String {
    let mut input = process.stdin().expect("it has an input");
    input.write_all(words.as_bytes()).await.expect("written");
    let mut said = String::new();
    let mut output = process.stdout().expect("it has an output");
    output.read_to_string(&mut said).await.expect("read");
    said
}

/// Why a process failed, if it did.
async fn ended(process: &mut AttachedProcess) -> Option<String> {
    let status = process.take_status().expect("asked for once").await;
    status.expect("it says how it ended").reason
}
