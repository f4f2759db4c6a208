//! A pod asks the API with the token that it finds mounted, and gets what its account may have.

use std::process::Command;
use std::time::Duration;

use e2e::{Cluster, Options, Outcome, eventually, run};

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What a pod knows of the API: nothing but its mounted files and the server's address.
struct Inside {
    dir: tempfile::TempDir,
    server: String,
    token: String,
    namespace: String,
}

impl Inside {
    fn of(cluster: &Cluster, pod: &str) -> Inside {
        let read = |file: &str| cluster.exec(pod, &["cat", &format!("{MOUNT}/{file}")]).ok();
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("ca.crt"), read("ca.crt")).expect("written");
        let server = ["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"];
        Inside {
            dir,
            server: cluster.kubectl(&server).ok(),
            token: read("token"),
            namespace: read("namespace"),
        }
    }

    fn kubectl(&self, args: &[&str]) -> Outcome {
        let program = std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into());
        let mut command = Command::new(program);
        command
            .env("KUBECONFIG", "/dev/null")
            .env("HOME", self.dir.path())
            .args(["--server", &self.server, "--token", &self.token])
            .arg("--certificate-authority")
            .arg(self.dir.path().join("ca.crt"))
            .args(["--namespace", &self.namespace])
            .args(args);
        run(&mut command, None)
    }
}

#[test]
fn a_pods_token_gives_what_its_account_is_bound_to_until_the_pod_is_gone() {
    let cluster = Cluster::up(
        "e2e-access",
        &Options {
            nodes: 1,
            ..Options::default()
        },
    );
    cluster.deployment("web", 1);
    let pod = cluster.pods("web")[0].name.clone();
    let inside = Inside::of(&cluster, &pod);
    assert_eq!(inside.namespace, "default");

    let refused = inside.kubectl(&["get", "pods"]);
    assert!(
        refused.stderr.contains(
            "User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
        ),
        "{refused:?}"
    );
    let view = [
        "create",
        "rolebinding",
        "viewers",
        "--clusterrole=view",
        "--serviceaccount=default:default",
    ];
    cluster.kubectl(&view).ok();
    let listed = inside.kubectl(&["get", "pods", "-o", "name"]).ok();
    assert!(listed.contains(&pod), "{listed}");
    assert_ne!(inside.kubectl(&["get", "secrets"]).code, Some(0));
    assert_ne!(
        inside.kubectl(&["get", "pods", "-n", "kube-system"]).code,
        Some(0)
    );

    cluster.kubectl(&["delete", "pod", &pod, "--grace-period=1"]).ok();
    eventually(Duration::from_secs(20), || {
        let answer = inside.kubectl(&["get", "pods"]);
        if answer.code != Some(0) && answer.stderr.contains("Unauthorized") {
            Ok(())
        } else {
            Err(format!("the token still works: {answer:?}"))
        }
    });
}
