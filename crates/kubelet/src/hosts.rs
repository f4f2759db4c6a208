//! A pod's `/etc/hosts`.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cri::message::Mount;
use k8s_openapi::api::core::v1::{Container, HostAlias, Pod};

use crate::pod;
use crate::volumes;

const IN_POD: &str = "/etc/hosts";

/// Writes the file for one container and says how to mount it; nothing for a
/// container that brings a file of its own.
pub(crate) fn mount(
    dir: &Path,
    pod: &Pod,
    container: &Container,
    pod_ips: &[IpAddr],
    cluster_domain: &str,
) -> io::Result<Option<Mount>> {
    if container
        .volume_mounts
        .iter()
        .flatten()
        .any(|m| m.mount_path == IN_POD)
    {
        return Ok(None);
    }
    volumes::make_private(dir)?;
    let file = path(dir);
    let aliases = pod::spec(pod).host_aliases.as_deref().unwrap_or_default();
    let text = if pod::host_network(pod) {
        of_node(&fs::read_to_string(IN_POD).unwrap_or_default(), aliases)
    } else {
        of_pod(
            &pod::hostname(pod),
            pod::host_domain(pod, cluster_domain).as_deref(),
            pod_ips,
            aliases,
        )
    };
    // Written in place: a running container has this very file mounted.
    if fs::read_to_string(&file).ok().as_deref() != Some(&text) {
        fs::write(&file, text)?;
    }
    Ok(Some(Mount {
        container_path: IN_POD.to_owned(),
        host_path: file.to_string_lossy().into_owned(),
        ..Mount::default()
    }))
}

fn path(dir: &Path) -> PathBuf {
    dir.join("etc-hosts")
}

fn of_pod(hostname: &str, domain: Option<&str>, ips: &[IpAddr], aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        // A String takes everything that is written to it.
        let _ = match domain {
            Some(domain) => writeln!(text, "{ip}\t{hostname}.{domain}\t{hostname}"),
            None => writeln!(text, "{ip}\t{hostname}"),
        };
    }
    add_aliases(&mut text, aliases);
    text
}

fn of_node(own: &str, aliases: &[HostAlias]) -> String {
    let mut text = format!("# Kubernetes-managed hosts file (host network).\n{own}");
    add_aliases(&mut text, aliases);
    text
}

fn add_aliases(text: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        let _ = writeln!(text, "{}\t{names}", alias.ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;
    use serde_json::json;

    #[test]
    fn the_file_names_the_pod_and_its_aliases() {
        let aliases = [HostAlias {
            ip: "192.0.2.1".into(),
            hostnames: Some(vec!["db".into(), "db.example".into()]),
        }];
        let ips = ["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        insta::assert_snapshot!(of_pod(
            "web-0",
            Some("web.default.svc.cluster.local"),
            &ips,
            &aliases
        ));
    }

    #[test]
    fn a_container_may_bring_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let it = pod(json!({"spec": {"containers": [
            {"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/etc/hosts"}]}, {"name": "b"}]}}));
        let of = |n: usize| {
            mount(
                folder.path(),
                &it,
                &it.spec.as_ref().unwrap().containers[n],
                &[],
                "x",
            )
            .unwrap()
        };
        assert_eq!(of(0), None);
        assert_eq!(of(1).unwrap().container_path, "/etc/hosts");
    }
}
