//! Who may speak to whom: the cluster's certificates, and the kubeconfigs that hold them.

use std::path::Path;

use pki::{Authority, KeyPairPem, Subject};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::network::Family;
use crate::{Error, Paths, files};

/// The nodes' DNS; the embedded server gives it the role of `deploy/dns-rbac.yaml`.
const DNS_GROUP: &str = "ripstop:dns";

/// Makes what is missing or about to expire, for the server, the administrator and every node.
///
/// # Errors
/// When the authority is damaged, or a file can't be written.
pub fn ensure(cluster: &Cluster, paths: &Paths) -> Result<(), Error> {
    let authority = Authority::load_or_create(&paths.pki())?;
    let pki = paths.pki();
    authority.ensure_server(
        &pki,
        "server",
        &Subject::new("kube-apiserver"),
        &server_names(cluster),
    )?;
    let admin = Subject::in_group("kubernetes-admin", "system:masters");
    let admin = authority.ensure_client(&pki, "admin", &admin)?;
    let kubelet_client = Subject::in_group("kube-apiserver-kubelet-client", "system:masters");
    authority.ensure_client(&pki, "kubelet-client", &kubelet_client)?;
    write_kubeconfig(
        &paths.kubeconfig(),
        cluster,
        &authority,
        &cluster.name.context(),
        &admin,
    )?;
    for node in &cluster.nodes {
        let own = paths.node(&node.name);
        let user = format!("system:node:{}", node.name);
        let subject = Subject::in_group(&user, "system:nodes");
        let addresses = node.addresses.iter().map(ToString::to_string);
        let names: Vec<String> = std::iter::once(node.name.clone()).chain(addresses).collect();
        authority.ensure_server(&own.pki(), "server", &subject, &names)?;
        let client = authority.ensure_client(&own.pki(), "client", &subject)?;
        files::write(&own.pki().join("ca.crt"), authority.cert_pem(), 0o644)?;
        write_kubeconfig(&own.kubeconfig(), cluster, &authority, &user, &client)?;
        let user = format!("ripstop:dns:{}", node.name);
        let dns = authority.ensure_client(&own.pki(), "dns", &Subject::in_group(&user, DNS_GROUP))?;
        write_kubeconfig(&own.dns_kubeconfig(), cluster, &authority, &user, &dns)?;
    }
    Ok(())
}

/// The names and addresses by which the server is called, from outside and from pods.
fn server_names(cluster: &Cluster) -> Vec<String> {
    let mut names = Vec::new();
    for ranges in cluster.ranges.iter() {
        let loopback = match ranges.family() {
            Family::V4 => "127.0.0.1",
            Family::V6 => "::1",
        };
        names.extend([
            ranges.server().to_string(),
            loopback.to_owned(),
            ranges.first_service().to_string(),
        ]);
    }
    names.extend(
        [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        .map(str::to_owned),
    );
    names
}

fn write_kubeconfig(
    path: &Path,
    cluster: &Cluster,
    authority: &Authority,
    user: &str,
    pair: &KeyPairPem,
) -> Result<(), Error> {
    let config = kubeconfig(
        &cluster.name.context(),
        user,
        &cluster.server_url(),
        authority.cert_pem(),
        pair,
    );
    files::write(path, &files::yaml(&config), 0o600)?;
    Ok(())
}

/// A kubeconfig with one cluster, one user and one context, all self-contained.
#[must_use]
pub fn kubeconfig(context: &str, user: &str, server: &str, ca: &str, pair: &KeyPairPem) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": context,
            "cluster": {"server": server, "certificate-authority-data": base64(ca)},
        }],
        "users": [{
            "name": user,
            "user": {
                "client-certificate-data": base64(&pair.cert),
                "client-key-data": base64(&pair.key),
            },
        }],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
        "current-context": context,
    })
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_self_contained() {
        let pair = KeyPairPem {
            cert: "CERT".to_owned(),
            key: "KEY".to_owned(),
        };
        let config = kubeconfig(
            "ripstop-local",
            "ripstop-local",
            "https://172.30.0.2:6443",
            "CA",
            &pair,
        );
        insta::assert_snapshot!(files::yaml(&config));
    }
}
