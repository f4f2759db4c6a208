//! The annotations that hold a pod to rates, checked before the runtime is asked: it would refuse them
//! again and again, in words that name neither annotation nor cure.

use std::ops::RangeInclusive;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod::{self, PodKey};
use crate::resources;

const ANNOTATIONS: [&str; 2] = [
    "kubernetes.io/ingress-bandwidth",
    "kubernetes.io/egress-bandwidth",
];
/// The rates that Kubernetes allows, in bits per second: 1k to 1P.
const RATES: RangeInclusive<i64> = 1_000..=1_000_000_000_000_000;

/// What is wrong with a pod's rates and how to write them, if anything is.
pub(crate) fn wrong(pod: &Pod) -> Option<String> {
    // Such a pod has no link of its own to hold to a rate.
    if pod::host_network(pod) {
        return None;
    }
    let annotations = pod.metadata.annotations.as_ref()?;
    let written = ANNOTATIONS
        .into_iter()
        .filter_map(|name| Some((name, annotations.get(name)?)));
    let faults =
        written.filter_map(|(name, text)| Some((name, format!("{name} is {text:?}, {}", fault(text)?))));
    let (names, faults): (Vec<&str>, Vec<String>) = faults.unzip();
    let name = names.first()?;
    let key = PodKey::of(pod);
    Some(format!(
        "annotation {}: write a rate from 1k to 1P bits per second, as 10M for ten megabits, or remove it: \
         `kubectl annotate --overwrite -n {} pod {} {name}=10M`",
        faults.join(", and "),
        key.namespace,
        key.name
    ))
}

fn fault(text: &str) -> Option<&'static str> {
    let is_whole = text == text.trim();
    match resources::units(&Quantity(text.to_owned())).filter(|_| is_whole) {
        None => Some("which is no quantity"),
        Some(bits) if bits < *RATES.start() => Some("which is too slow"),
        Some(bits) if bits > *RATES.end() => Some("which is too fast"),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::pod::tests::pod;

    fn of(annotations: Value) -> Option<String> {
        wrong(&pod(
            json!({"metadata": {"name": "web", "annotations": annotations}, "spec": {"containers": []}}),
        ))
    }

    #[rstest]
    #[case::least("1k")]
    #[case::most("1P")]
    #[case::usual("10M")]
    #[case::binary("1Mi")]
    #[case::plain("1000")]
    #[case::fraction("1.5G")]
    #[case::exponent("1e6")]
    fn a_rate_is_a_quantity(#[case] text: &str) {
        assert_eq!(of(json!({"kubernetes.io/ingress-bandwidth": text})), None);
    }

    #[rstest]
    #[case::word("fast", "no quantity")]
    #[case::unit("10Mbit", "no quantity")]
    #[case::space("10 M", "no quantity")]
    #[case::around(" 10M", "no quantity")]
    #[case::nothing("", "no quantity")]
    #[case::number("10", "too slow")]
    #[case::thousandths("10m", "too slow")]
    #[case::negative("-10M", "too slow")]
    #[case::zero("0", "too slow")]
    #[case::slow("999", "too slow")]
    #[case::fast("2P", "too fast")]
    #[case::huge("1E", "too fast")]
    fn what_is_none_is_named_with_its_cure(#[case] text: &str, #[case] fault: &str) {
        let said = of(json!({"kubernetes.io/egress-bandwidth": text})).expect("refused");
        let begins =
            format!("annotation kubernetes.io/egress-bandwidth is {text:?}, which is {fault}: write");
        assert!(said.starts_with(&begins), "{said}");
    }

    #[test]
    fn both_are_told_at_once() {
        let both = json!({"kubernetes.io/ingress-bandwidth": "1", "kubernetes.io/egress-bandwidth": "2"});
        insta::assert_snapshot!(of(both).expect("refused"), @r#"annotation kubernetes.io/ingress-bandwidth is "1", which is too slow, and kubernetes.io/egress-bandwidth is "2", which is too slow: write a rate from 1k to 1P bits per second, as 10M for ten megabits, or remove it: `kubectl annotate --overwrite -n default pod web kubernetes.io/ingress-bandwidth=10M`"#);
    }

    #[test]
    fn others_and_the_nodes_own_network_are_left_alone() {
        assert_eq!(of(json!({"example.com/bandwidth": "fast"})), None);
        let on_node = json!({"metadata": {"annotations": {"kubernetes.io/ingress-bandwidth": "fast"}},
            "spec": {"hostNetwork": true, "containers": []}});
        assert_eq!(wrong(&pod(on_node)), None);
    }
}
