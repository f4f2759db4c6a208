//! kubectl as people use it: the one that this machine has, and the distribution's, which is old.

mod manifests;
mod objects;
mod questions;
mod verbs;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;

use testkit::WhichKubectl;
use tokio::process::Command;

use crate::support::Running;

struct Kubectl {
    config: PathBuf,
    client: testkit::Kubectl,
    // Keeps the server.
    running: Running,
}

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: localhost/image:1}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: a, image: i}, {name: b, image: j}]}
"#;

impl Kubectl {
    /// A server, and a client for it; `None` if that client is the other case's.
    async fn start(which: WhichKubectl) -> Option<Kubectl> {
        let client = testkit::Kubectl::find(which)?;
        let running = Running::with_tokens().await;
        let kubectl = Kubectl {
            config: running.kubeconfig("admin", "system:masters"),
            client,
            running,
        };
        kubectl.file("manifest.yaml", MANIFEST);
        Some(kubectl)
    }

    /// Writes a file into the folder that kubectl runs in.
    fn file(&self, name: &str, content: &str) {
        std::fs::write(self.running.dir.path().join(name), content).unwrap();
    }

    /// What `kubectl edit` starts.
    fn editor(&self, substitution: &str) {
        self.file("editor", &format!("#!/bin/sh\nsed -i '{substitution}' \"$1\"\n"));
        let path = self.running.dir.path().join("editor");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    async fn output(&self, line: &str) -> Output {
        self.output_of(&line.split(' ').collect::<Vec<_>>()).await
    }

    /// What a command does whose words have spaces in them.
    async fn output_of(&self, words: &[&str]) -> Output {
        Command::new(&self.client.program)
            .args(words)
            .current_dir(self.running.dir.path())
            .env("KUBECONFIG", &self.config)
            .env("HOME", self.running.dir.path())
            .env("EDITOR", "./editor")
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .unwrap()
    }

    /// What a command prints, which must succeed.
    async fn run(&self, line: &str) -> String {
        let output = self.output(line).await;
        let (out, error) = texts(&output);
        assert!(output.status.success(), "kubectl {line}: {out}{error}");
        out
    }

    /// What a command complains of, which must fail.
    async fn fail(&self, line: &str) -> String {
        let output = self.output(line).await;
        let (out, error) = texts(&output);
        assert!(!output.status.success(), "kubectl {line}: {out}{error}");
        error
    }

    /// Commands that must succeed and say these words.
    async fn shows(&self, commands: &[(&str, &[&str])]) {
        for (command, words) in commands {
            let output = self.output(command).await;
            let (out, error) = texts(&output);
            let out = out + &error;
            assert!(output.status.success(), "kubectl {command}: {out}");
            for word in *words {
                assert!(
                    out.contains(word),
                    "kubectl {command} doesn't show {word:?}: {out}"
                );
            }
        }
    }

    /// Commands that must fail and complain in these words.
    async fn refuses(&self, commands: &[(&str, &str)]) {
        for (command, words) in commands {
            let error = self.fail(command).await;
            assert!(error.contains(words), "kubectl {command}: {error}");
        }
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
