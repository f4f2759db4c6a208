//! What a Service wants of a load balancer.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

use super::pool::Claimant;
use super::{ADDRESSES, CLASS_PREFIX, POOL};

/// Addresses that a Service is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// Its families, the preferred one first.
    pub(super) families: Vec<&'static str>,
    /// Whether one of each, or none.
    pub(super) needs_all: bool,
    /// Those that it chose itself.
    pub(super) chosen: Vec<IpAddr>,
    /// The pool that it chose.
    pub(super) pool: Option<String>,
    /// Who it is.
    pub(super) claimant: Claimant,
}

/// Whether a Service is to have an address from us.
pub(super) fn is_ours(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let class = spec.load_balancer_class.as_deref();
    spec.type_.as_deref() == Some("LoadBalancer")
        && class.is_none_or(|class| class.starts_with(CLASS_PREFIX))
        && service.metadata.deletion_timestamp.is_none()
}

/// What the Service wants, or what in it can't be understood.
pub(super) fn of(service: &Service) -> Result<Wish, String> {
    let spec = service.spec.clone().unwrap_or_default();
    let annotations = service.metadata.annotations.as_ref();
    let annotation = |name: &str| annotations.and_then(|annotations| annotations.get(name));
    let pool = annotation(POOL).map(|name| name.trim().to_owned());
    let annotated = annotation(ADDRESSES);
    let text = annotated.or(spec.load_balancer_ip.as_ref());
    let texts = text.map_or("", String::as_str).split(',').map(str::trim);
    let chosen = texts
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|_| format!("{text:?} is not an IP address")));
    Ok(Wish {
        families: families(service),
        needs_all: spec.ip_family_policy.as_deref() == Some("RequireDualStack"),
        chosen: chosen.collect::<Result<_, _>>()?,
        pool: pool.filter(|name| !name.is_empty()),
        claimant: Claimant {
            namespace: service.metadata.namespace.clone().unwrap_or_default(),
            labels: service.metadata.labels.clone().unwrap_or_default(),
        },
    })
}

/// The families of a Service, the preferred one first.
pub(super) fn families(service: &Service) -> Vec<&'static str> {
    let known = |family: &String| match family.as_str() {
        "IPv4" => Some("IPv4"),
        "IPv6" => Some("IPv6"),
        _ => None,
    };
    let spec = service.spec.iter();
    let families: Vec<_> = spec
        .flat_map(|spec| spec.ip_families.iter().flatten())
        .filter_map(known)
        .collect();
    if families.is_empty() {
        vec!["IPv4"]
    } else {
        families
    }
}

/// The addresses in a Service's status.
pub(super) fn addresses(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    let ips = ingress
        .into_iter()
        .flatten()
        .filter_map(|ingress| ingress.ip.as_ref());
    ips.filter_map(|ip| ip.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value, annotation: Option<&str>) -> Service {
        let annotations = annotation.map(|text| json!({ ADDRESSES: text }));
        serde_json::from_value(json!({ "metadata": { "annotations": annotations }, "spec": spec })).unwrap()
    }

    #[test]
    fn the_annotation_goes_before_the_field() {
        let spec = json!({ "loadBalancerIP": "10.0.0.1", "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack" });
        let wish = of(&service(spec.clone(), None)).unwrap();
        assert_eq!((wish.families, wish.needs_all), (vec!["IPv6", "IPv4"], true));
        assert_eq!(wish.chosen, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        let chosen = of(&service(spec.clone(), Some("fd00::9, 10.0.0.9")))
            .unwrap()
            .chosen;
        assert_eq!(
            chosen,
            ["fd00::9", "10.0.0.9"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        let wrong = of(&service(spec, Some("ten"))).unwrap_err();
        assert_eq!(wrong, "\"ten\" is not an IP address");
    }

    #[test]
    fn other_classes_are_others_business() {
        let ours = |spec| is_ours(&service(spec, None));
        assert!(ours(json!({ "type": "LoadBalancer" })));
        assert!(ours(
            json!({ "type": "LoadBalancer", "loadBalancerClass": "ripstop.dev/edge" })
        ));
        assert!(!ours(
            json!({ "type": "LoadBalancer", "loadBalancerClass": "example.org/edge" })
        ));
        assert!(!ours(json!({ "type": "NodePort" })));
    }
}
