use std::process::Stdio;

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, LogParams};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::lab::{Lab, on_a_node};

/// A request to the kubelet's own API, with or without a certificate.
async fn ask(lab: &Lab, identity: Option<&pki::Subject>, path: &str) -> (u16, String) {
    use rustls::pki_types::pem::PemObject;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(lab.authority.cert_pem().as_bytes()).unwrap())
        .unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(subject) => {
            let pair = lab.authority.issue_client(subject).unwrap();
            let cert = rustls::pki_types::CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
            let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    let stream = tokio::net::TcpStream::connect(lab.config.listen[0])
        .await
        .unwrap();
    let name = rustls::pki_types::ServerName::from(lab.config.listen[0].ip());
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[test]
fn the_kubelets_api_lets_only_its_callers_in() {
    on_a_node(async |lab| {
        let server = pki::Subject::new("kube-apiserver-kubelet-client");
        let node = pki::Subject::in_group("system:node:other", "system:nodes");
        assert_eq!(ask(lab, None, "/healthz").await.0, 401);
        assert_eq!(ask(lab, Some(&node), "/pods").await.0, 403);
        assert_eq!(ask(lab, Some(&server), "/healthz").await.0, 200);
        assert_eq!(ask(lab, Some(&server), "/nothing").await.0, 404);
        let (status, logs) = ask(lab, Some(&server), "/logs/").await;
        assert!(status == 200 && logs.contains("<pre>"), "{logs}");
        assert_eq!(ask(lab, Some(&server), "/logs/%2E%2E/passwd").await.0, 400);
        assert_eq!(ask(lab, Some(&node), "/logs/").await.0, 403);
        let (status, metrics) = ask(lab, Some(&server), "/metrics").await;
        assert!(
            status == 200 && metrics.contains("kubelet_running_pods"),
            "{metrics}"
        );
        lab.pod("web", json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "a", "command": ["sleep", "1000"]}]})).await;
        lab.ready("web").await;
        let (_, pods) = ask(lab, Some(&server), "/pods").await;
        assert!(
            pods.contains("\"name\":\"web\"") && pods.contains("\"phase\":\"Running\""),
            "{pods}"
        );
        figures_are_for_whom_the_api_lets(lab).await;
        let (status, text) = ask(lab, Some(&server), "/containerLogs/default/web/none").await;
        assert!(
            status == 404 && text.contains("container \"none\" not found in pod \"web\""),
            "{text}"
        );
        let (status, text) = ask(lab, Some(&server), "/exec/default/web/a?command=ls&output=1").await;
        assert!(
            status == 400 && text.contains("Upgrade request required"),
            "{text}"
        );
    });
}

/// The pod `web` runs.
async fn figures_are_for_whom_the_api_lets(lab: &Lab) {
    let reader = pki::Subject::new("reader");
    assert_eq!(ask(lab, Some(&reader), "/stats/summary").await.0, 403);
    // Another name, for a refusal is remembered for a while.
    let reader = pki::Subject::new("scraper");
    let role = json!({ "metadata": { "name": "figures" }, "rules": [
        { "apiGroups": [""], "resources": ["nodes/stats", "nodes/metrics"], "verbs": ["get"] } ] });
    let binding = json!({ "metadata": { "name": "figures" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "figures" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "scraper" }] });
    let (roles, bindings): (kube::Api<ClusterRole>, kube::Api<ClusterRoleBinding>) = (
        kube::Api::all(lab.client.clone()),
        kube::Api::all(lab.client.clone()),
    );
    let params = kube::api::PostParams::default();
    roles
        .create(&params, &serde_json::from_value(role).unwrap())
        .await
        .unwrap();
    bindings
        .create(&params, &serde_json::from_value(binding).unwrap())
        .await
        .unwrap();
    let mut answer = ask(lab, Some(&reader), "/stats/summary").await;
    // The API learns of the role a moment later, and the kubelet remembers a refusal for a while.
    for _ in 0..60 {
        if answer.0 == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        answer = ask(lab, Some(&reader), "/stats/summary").await;
    }
    let (status, text) = answer;
    assert_eq!(status, 200, "{text}");
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let summary: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(summary["pods"][0]["podRef"]["name"], "web");
    let container = &summary["pods"][0]["containers"][0];
    assert_eq!(container["name"], "a");
    for field in ["/cpu/usageCoreNanoSeconds", "/memory/workingSetBytes"] {
        let amount = container.pointer(field).and_then(serde_json::Value::as_u64);
        assert!(amount > Some(0), "{field} in {container}");
    }
    assert!(
        summary["node"]["fs"]["capacityBytes"].as_u64() > Some(0),
        "{summary}"
    );
    let (status, text) = ask(lab, Some(&reader), "/metrics/resource").await;
    let line = "container_memory_working_set_bytes{container=\"a\",namespace=\"default\",pod=\"web\"}";
    assert!(status == 200 && text.contains(line), "{text}");
    assert_eq!(ask(lab, Some(&reader), "/pods").await.0, 403);
}

#[test]
fn logs_are_followed_to_the_end_of_the_container() {
    on_a_node(async |lab| {
        lab.pod("web", json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [{"name": "a",
            "command": ["sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.3; done; printf unfinished"]}]}))
            .await;
        lab.pod_where("web", "started", |p| {
            let state = &crate::lab::container(p, "a")["state"];
            state["running"].is_object() || state["terminated"].is_object()
        })
        .await;
        let params = LogParams {
            follow: true,
            ..LogParams::default()
        };
        let stream = lab.pods().log_stream("web", &params).await.unwrap();
        let lines: Vec<String> = stream.lines().try_collect().await.unwrap();
        assert_eq!(lines, ["line 1", "line 2", "line 3", "unfinished"]);
        let tail = LogParams {
            tail_lines: Some(2),
            ..LogParams::default()
        };
        assert_eq!(lab.logs("web", &tail).await.trim_end(), "line 3\nunfinished");
    });
}

#[test]
fn a_log_that_grows_too_large_is_rotated_and_followed_on() {
    on_a_node(async |lab| {
        lab.stop_kubelet().await;
        lab.config.log_max_bytes = 20_000;
        lab.config.log_max_files = 2;
        lab.start_kubelet();
        lab.pod(
            "web",
            json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "a",
            "command": ["sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done"]}]}),
        )
        .await;
        lab.ready("web").await;
        let uid = lab.pods().get("web").await.unwrap().metadata.uid.unwrap();
        let folder = lab.config.root_dir.join(format!("logs/pods/default_web_{uid}/a"));
        let params = LogParams {
            follow: true,
            ..LogParams::default()
        };
        let mut lines = lab.pods().log_stream("web", &params).await.unwrap().lines();
        let mut next = 1;
        loop {
            let line = lines.try_next().await.unwrap().unwrap();
            assert_eq!(line, format!("line {next}"), "no line is lost or doubled");
            next += 1;
            let files = std::fs::read_dir(&folder).unwrap().count();
            assert!(files <= 2);
            if files == 2 && next % 100 == 0 {
                break;
            }
        }
        lab.delete("web", &DeleteParams::default()).await;
    });
}

/// kubectl as the cluster's administrator, over TLS.
struct Kubectl {
    config: std::path::PathBuf,
    websockets: bool,
}

impl Kubectl {
    async fn of(lab: &Lab) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:6443").await.unwrap();
        let pair = lab
            .authority
            .issue_server(&pki::Subject::new("server"), &["127.0.0.1".to_owned()])
            .unwrap();
        let tls = apiserver::ServerTls {
            ca_pem: lab.authority.cert_pem().to_owned(),
            cert_pem: pair.cert,
            key_pem: pair.key,
        };
        tokio::spawn(
            lab.server
                .clone()
                .serve(listener, tls, tokio_util::sync::CancellationToken::new()),
        );
        let pair = lab
            .authority
            .issue_client(&pki::Subject::in_group("admin", "system:masters"))
            .unwrap();
        let write = |name: &str, text: &str| {
            let path = lab.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443",
                "certificate-authority": write("admin-ca.crt", lab.authority.cert_pem())}}],
            "users": [{"name": "u", "user": {"client-certificate": write("admin.crt", &pair.cert),
                "client-key": write("admin.key", &pair.key)}}],
        });
        let config = write("kubeconfig", &config.to_string());
        Self {
            config,
            websockets: true,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(&self.config)
            .args(args)
            // Its cache of what servers can do would be another test's.
            .env("HOME", self.config.parent().unwrap())
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", self.websockets.to_string())
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", self.websockets.to_string())
            .kill_on_drop(true);
        command
    }

    /// Runs it with that input; returns its exit code and all it said.
    async fn run(&self, args: &[&str], input: &str) -> (i32, String) {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl");
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .await
            .unwrap();
        let output = tokio::time::timeout(crate::lab::PATIENCE, child.wait_with_output()).await;
        let output = output.expect("kubectl ends").unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }
}

impl Kubectl {
    /// Says something and waits for the answer with its input still open;
    /// returns what it said besides, up to there.
    async fn converse(&self, args: &[&str], say: &str, expect: &str) -> String {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("kubectl");
        let mut input = child.stdin.take().unwrap();
        input.write_all(say.as_bytes()).await.unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut text = String::new();
        let heard = async {
            while !text.contains(expect) {
                let mut chunk = [0; 256];
                let read = output.read(&mut chunk).await.unwrap();
                assert!(read > 0, "it ended after {text:?}");
                text += std::str::from_utf8(&chunk[..read]).unwrap();
            }
        };
        tokio::time::timeout(crate::lab::PATIENCE, heard)
            .await
            .expect("an answer");
        drop(input);
        let ended = tokio::time::timeout(crate::lab::PATIENCE, child.wait()).await;
        assert!(ended.expect("it ends with its input").unwrap().success());
        text.replace(expect, "")
    }
}

#[test]
fn kubectl_runs_commands_attaches_and_forwards_ports() {
    on_a_node(async |lab| {
        lab.pod("web", json!({"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "a", "stdin": true, "command": ["sh", "-c",
                "mkdir /tmp/w; echo served > /tmp/w/index.html; httpd -p 8080 -h /tmp/w; while read line; do echo got $line; done"]}]}))
            .await;
        lab.ready("web").await;
        let mut kubectl = Kubectl::of(lab).await;
        for websockets in [true, false] {
            kubectl.websockets = websockets;
            let script = "cat; echo err >&2; exit 3";
            let (code, text) = kubectl
                .run(&["exec", "-i", "web", "--", "sh", "-c", script], "input\n")
                .await;
            assert_eq!(code, 3, "{text}");
            assert!(text.starts_with("input\n") && text.contains("err\n"), "{text}");
            assert_eq!(
                kubectl
                    .converse(&["attach", "-i", "web"], "hello\n", "got hello\n")
                    .await,
                ""
            );
        }
        let (code, text) = kubectl.run(&["exec", "web", "--", "nothing"], "").await;
        assert!(code != 0 && text.contains("nothing"), "{code} {text}");

        for (websockets, port) in [(true, 18080), (false, 18081)] {
            kubectl.websockets = websockets;
            let mut forward = kubectl.command(&["port-forward", "web", &format!("{port}:8080")]);
            let mut forward = forward.stdout(Stdio::piped()).spawn().unwrap();
            let answer = lab
                .eventually("the port is forwarded", || async {
                    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
                    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
                    let mut text = String::new();
                    stream.read_to_string(&mut text).await.ok()?;
                    text.contains("200 OK").then_some(text)
                })
                .await;
            assert!(answer.ends_with("served\n"), "{answer}");
            forward.kill().await.unwrap();
        }
    });
}
