//! A pod's resolver settings.

use cri::message::DnsConfig;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use crate::config::Config;
use crate::pod;

/// What resolvers read at most.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
/// Characters of all search domains with the blanks between them.
const MAX_SEARCH_LINE: usize = 2048;

/// The settings that the pod's policy and its own wishes come to, and what
/// the pod's owner should know of them. `node` is the text of the node's
/// `resolv.conf`.
pub(crate) fn dns_config(pod: &Pod, config: &Config, node: &str) -> (DnsConfig, Vec<Complaint>) {
    let mut dns = wanted(pod, config, node);
    let complaints = limit(pod, config, &mut dns);
    (dns, complaints)
}

fn wanted(pod: &Pod, config: &Config, node: &str) -> DnsConfig {
    let spec = pod::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let in_cluster = match policy {
        "ClusterFirst" => !pod::host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut dns = match policy {
        "None" => DnsConfig::default(),
        _ if in_cluster && !config.cluster_dns.is_empty() => cluster(pod, config, node),
        _ => parse(node),
    };
    if let Some(own) = &spec.dns_config {
        merge(&mut dns, own);
    }
    dns
}

/// A complaint about resolver settings: the event's reason and message, as Kubernetes' own kubelet
/// words them.
pub(crate) type Complaint = (&'static str, String);

/// Cuts the settings to what resolvers read, and says what of the pod's wishes isn't there.
fn limit(pod: &Pod, config: &Config, dns: &mut DnsConfig) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let policy = pod::spec(pod).dns_policy.as_deref().unwrap_or("ClusterFirst");
    let in_cluster =
        policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && !pod::host_network(pod));
    if in_cluster && config.cluster_dns.is_empty() {
        let text = format!(
            "kubelet does not have ClusterDNS IP configured and cannot create Pod using {policy:?} policy. \
             Falling back to \"Default\" policy."
        );
        complaints.push(("MissingClusterDNS", text));
    }
    let mut length = 0;
    let fit = dns.searches.iter().take(MAX_SEARCHES).take_while(|search| {
        length += search.len() + usize::from(length > 0);
        length <= MAX_SEARCH_LINE
    });
    let fit = fit.count();
    if fit < dns.searches.len() {
        dns.searches.truncate(fit);
        let line = dns.searches.join(" ");
        let text = format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {line}"
        );
        complaints.push((FORMING, text));
    }
    if dns.servers.len() > MAX_SERVERS {
        dns.servers.truncate(MAX_SERVERS);
        let line = dns.servers.join(" ");
        let text = format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {line}"
        );
        complaints.push((FORMING, text));
    }
    complaints
}

const FORMING: &str = "DNSConfigForming";

/// The cluster's DNS, with short names meaning the pod's own namespace first.
fn cluster(pod: &Pod, config: &Config, node: &str) -> DnsConfig {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = &config.cluster_domain;
    let mut searches = vec![
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.clone(),
    ];
    for search in parse(node).searches {
        push_new(&mut searches, search);
    }
    DnsConfig {
        servers: config.cluster_dns.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn merge(dns: &mut DnsConfig, own: &PodDNSConfig) {
    for server in own.nameservers.iter().flatten() {
        push_new(&mut dns.servers, server.clone());
    }
    for search in own.searches.iter().flatten() {
        push_new(&mut dns.searches, search.clone());
    }
    for option in own.options.iter().flatten() {
        let Some(name) = &option.name else { continue };
        let text = match option.value.as_deref() {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name.clone(),
        };
        dns.options.retain(|o| o.split(':').next() != Some(name));
        dns.options.push(text);
    }
}

fn push_new(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Reads a `resolv.conf`. As resolvers do, the last `search` line counts.
fn parse(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => {
                dns.searches = words
                    .map(|w| if w == "." { w } else { w.trim_end_matches('.') })
                    .map(str::to_owned)
                    .collect();
            }
            Some("options") => dns.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;
    use rstest::rstest;
    use serde_json::{Value, json};

    const NODE: &str = "# made by hand\nsearch corp.example\nnameserver 192.0.2.53\noptions edns0\n";

    fn config(with_dns: bool) -> Config {
        let mut config = Config::new("n", "172.30.0.11".parse().unwrap(), "/s", "/r", "/c");
        if with_dns {
            config.cluster_dns = vec!["10.96.0.10".parse().unwrap()];
        }
        config
    }

    fn text(dns: &DnsConfig) -> String {
        format!(
            "{} | {} | {}",
            dns.servers.join(" "),
            dns.searches.join(" "),
            dns.options.join(" ")
        )
    }

    #[rstest]
    #[case(json!({}), true, "10.96.0.10 | default.svc.cluster.local svc.cluster.local cluster.local corp.example | ndots:5")]
    #[case(json!({}), false, "192.0.2.53 | corp.example | edns0")]
    #[case(json!({"dnsPolicy": "Default"}), true, "192.0.2.53 | corp.example | edns0")]
    #[case(json!({"hostNetwork": true}), true, "192.0.2.53 | corp.example | edns0")]
    #[case(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), true,
        "10.96.0.10 | default.svc.cluster.local svc.cluster.local cluster.local corp.example | ndots:5")]
    #[case(json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.2.3.4"], "searches": ["a.b"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}}), true, "1.2.3.4 | a.b | ndots:2 rotate")]
    #[case(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}), true,
        "10.96.0.10 | default.svc.cluster.local svc.cluster.local cluster.local corp.example | ndots:1")]
    fn policies(#[case] mut spec: Value, #[case] with_dns: bool, #[case] expected: &str) {
        spec["containers"] = json!([]);
        let it = pod(json!({"spec": spec}));
        let (dns, complaints) = dns_config(&it, &config(with_dns), NODE);
        assert_eq!(text(&dns), expected);
        let policy = spec_policy(&it);
        let falls_back = !with_dns && policy == "ClusterFirst" && !pod::host_network(&it);
        assert_eq!(
            complaints
                .iter()
                .any(|(reason, _)| *reason == "MissingClusterDNS"),
            falls_back
        );
    }

    fn spec_policy(it: &Pod) -> String {
        pod::spec(it)
            .dns_policy
            .clone()
            .unwrap_or("ClusterFirst".to_owned())
    }

    #[test]
    fn what_resolvers_do_not_read_is_left_out_and_said() {
        let long = format!("{}.example", "a".repeat(55));
        let searches: Vec<String> = (0..40).map(|number| format!("{number}.{long}")).collect();
        let it = pod(json!({"spec": {"containers": [], "dnsConfig": {
            "nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.3"], "searches": searches}}}));
        let (dns, complaints) = dns_config(&it, &config(true), NODE);
        assert_eq!(dns.servers, ["10.96.0.10", "192.0.2.1", "192.0.2.2"]);
        assert!(dns.searches.join(" ").len() <= 2048 && dns.searches.len() > 20);
        let [(searching, line), (serving, servers)] = complaints.as_slice() else {
            panic!("{complaints:?}")
        };
        assert_eq!((*searching, *serving), ("DNSConfigForming", "DNSConfigForming"));
        assert!(
            line.starts_with("Search Line limits were exceeded") && line.ends_with(&dns.searches.join(" "))
        );
        assert!(
            servers.ends_with("is: 10.96.0.10 192.0.2.1 192.0.2.2"),
            "{servers}"
        );
    }
}
