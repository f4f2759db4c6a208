//! IP families of Services: what `ipFamilyPolicy`, `ipFamilies` and `clusterIPs` leave open, by Kubernetes' rules.

use std::net::IpAddr;

use ipnet::IpNet;
use kinds::{FieldError, Reason};
use serde_json::{Value, json};

use crate::object::{list, text};

pub(super) type Family = &'static str;

const IPV4: Family = "IPv4";
const IPV6: Family = "IPv6";
const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

pub(super) fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { IPV4 } else { IPV6 }
}

/// The families that Services can have here, the preferred one first.
pub(super) fn of_ranges(ranges: &[IpNet]) -> Vec<Family> {
    let mut families: Vec<_> = ranges.iter().map(|range| family_of(range.addr())).collect();
    families.dedup();
    families
}

fn other(family: &str) -> Family {
    if family == IPV4 { IPV6 } else { IPV4 }
}

pub(super) fn is_headless(spec: &Value) -> bool {
    text(spec, "/clusterIP") == "None" || text(spec, "/clusterIPs/0") == "None"
}

/// Fills in policy and families of a new or changed Service; what can't be is said.
pub(super) fn settle(old: Option<&Value>, new: &mut Value, configured: &[Family]) -> Vec<FieldError> {
    if text(new, "/type") == "ExternalName" || keeps_dual_stack(old, new) {
        return Vec::new();
    }
    if text(new, "/ipFamilyPolicy").is_empty() {
        new["ipFamilyPolicy"] = default_policy(old, new).into();
    }
    // What isn't well-formed is for the kind's rules to refuse.
    if !is_plausible(new) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if let Some(old) = old {
        shrink(old, new, &mut errors);
    }
    single_is_one(new, &mut errors);
    infer(new, configured, &mut errors);
    if !errors.is_empty() {
        return errors;
    }
    // Endpoints that somebody else looks after may be of families that the cluster hasn't.
    let free = is_headless(new) && new["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    if !free {
        check_configured(new, configured, &mut errors);
    }
    if errors.is_empty() {
        complete(new, configured, free);
    }
    errors
}

/// A Service that may have both families is neither given nor robbed of one because the cluster changed.
fn keeps_dual_stack(old: Option<&Value>, new: &Value) -> bool {
    let Some(old) = old else { return false };
    let same = |field: &str| list(old, field) == list(new, field);
    text(new, "/ipFamilyPolicy") == PREFER
        && matches!(text(old, "/ipFamilyPolicy"), PREFER | "")
        && text(old, "/type") == text(new, "/type")
        && same("/clusterIPs")
        && same("/ipFamilies")
}

fn default_policy(old: Option<&Value>, new: &Value) -> String {
    let before = old.map_or("", |old| text(old, "/ipFamilyPolicy"));
    let selects = new["selector"]
        .as_object()
        .is_some_and(|selector| !selector.is_empty());
    match before {
        "" if is_headless(new) && !selects => REQUIRE,
        "" => SINGLE,
        before => before,
    }
    .to_owned()
}

fn is_plausible(spec: &Value) -> bool {
    let families = list(spec, "/ipFamilies");
    let known = families.iter().all(|family| *family == IPV4 || *family == IPV6);
    let twice = families.len() > 2 || families.len() == 2 && families[0] == families[1];
    let addresses = list(spec, "/clusterIPs");
    let fits = |(index, address): (usize, &Value)| {
        let Some(Ok(address)) = address.as_str().map(str::parse) else {
            return false;
        };
        families
            .get(index)
            .is_none_or(|family| *family == family_of(address))
    };
    let policy = matches!(text(spec, "/ipFamilyPolicy"), SINGLE | PREFER | REQUIRE);
    let addresses_fit = is_headless(spec) || addresses.len() <= 2 && addresses.iter().enumerate().all(fits);
    policy && known && !twice && addresses_fit
}

/// Going back to one family: the policy says it, and the second of each list goes.
fn shrink(old: &Value, new: &mut Value, errors: &mut Vec<FieldError>) {
    let single = text(new, "/ipFamilyPolicy") == SINGLE;
    for (field, what) in [
        ("clusterIPs", "secondary cluster IP"),
        ("ipFamilies", "secondary IP family"),
    ] {
        let pointer = format!("/{field}");
        let (before, after) = (list(old, &pointer).to_vec(), list(new, &pointer));
        if single && before == after && after.len() > 1 {
            new[field] = json!([before[0]]);
        } else if !single && !after.is_empty() && after.len() < before.len() {
            let detail = format!("must be 'SingleStack' to release the {what}");
            errors.push(policy_error(new, &detail));
        }
    }
}

fn single_is_one(spec: &Value, errors: &mut Vec<FieldError>) {
    if text(spec, "/ipFamilyPolicy") != SINGLE {
        return;
    }
    for (pointer, what) in [("/clusterIPs", "cluster IPs"), ("/ipFamilies", "IP families")] {
        if list(spec, pointer).len() == 2 {
            let detail =
                format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.push(policy_error(spec, &detail));
        }
    }
}

/// An address that is chosen says its family.
fn infer(spec: &mut Value, configured: &[Family], errors: &mut Vec<FieldError>) {
    if is_headless(spec) {
        return;
    }
    let mut families = list(spec, "/ipFamilies").to_vec();
    let addresses = list(spec, "/clusterIPs");
    for (index, address) in addresses.iter().enumerate().skip(families.len()) {
        let Some(Ok(address)) = address.as_str().map(str::parse) else {
            continue;
        };
        let family = family_of(address);
        if configured.contains(&family) {
            families.push(family.into());
        } else {
            let (value, detail) = (
                Value::from(addresses),
                format!("{family} is not configured on this cluster"),
            );
            errors.push(invalid(format!("spec.clusterIPs[{index}]"), &value, &detail));
        }
    }
    set_families(spec, families);
}

fn check_configured(spec: &Value, configured: &[Family], errors: &mut Vec<FieldError>) {
    if text(spec, "/ipFamilyPolicy") == REQUIRE && configured.len() < 2 {
        errors.push(policy_error(
            spec,
            "this cluster is not configured for dual-stack services",
        ));
    }
    for (index, family) in list(spec, "/ipFamilies").iter().enumerate() {
        if !configured.iter().any(|configured| family == configured) {
            let field = format!("spec.ipFamilies[{index}]");
            errors.push(invalid(field, family, "not configured on this cluster"));
        }
    }
}

fn complete(spec: &mut Value, configured: &[Family], free: bool) {
    let mut families = list(spec, "/ipFamilies").to_vec();
    if families.is_empty() {
        families.extend(configured.first().map(|family| (*family).into()));
    }
    let dual = text(spec, "/ipFamilyPolicy") != SINGLE && (free || configured.len() == 2);
    if let ([only], true) = (&families[..], dual) {
        families.push(other(only.as_str().unwrap_or_default()).into());
    }
    set_families(spec, families);
}

fn set_families(spec: &mut Value, families: Vec<Value>) {
    if !families.is_empty() {
        spec["ipFamilies"] = families.into();
    }
}

fn policy_error(spec: &Value, detail: &str) -> FieldError {
    invalid("spec.ipFamilyPolicy".to_owned(), &spec["ipFamilyPolicy"], detail)
}

pub(super) fn invalid(field: String, value: &Value, detail: &str) -> FieldError {
    FieldError {
        reason: Reason::Invalid,
        field,
        message: format!("Invalid value: {value}: {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUAL: &[Family] = &[IPV4, IPV6];
    const ONLY_4: &[Family] = &[IPV4];

    fn settled(configured: &[Family], mut spec: Value) -> Value {
        spec["type"] = "ClusterIP".into();
        let errors = settle(None, &mut spec, configured);
        assert_eq!(errors, []);
        json!([spec["ipFamilyPolicy"], spec["ipFamilies"]])
    }

    fn refused(old: Option<Value>, mut new: Value, configured: &[Family]) -> Vec<String> {
        let errors = settle(old.as_ref(), &mut new, configured);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_left_open_is_the_preferred_family_alone() {
        let cases = [
            (ONLY_4, json!({}), json!([SINGLE, [IPV4]])),
            (DUAL, json!({}), json!([SINGLE, [IPV4]])),
            (&[IPV6, IPV4], json!({}), json!([SINGLE, [IPV6]])),
            (DUAL, json!({ "ipFamilies": [IPV6] }), json!([SINGLE, [IPV6]])),
            (
                DUAL,
                json!({ "clusterIPs": ["fd00::1"], "clusterIP": "fd00::1" }),
                json!([SINGLE, [IPV6]]),
            ),
            (
                DUAL,
                json!({ "ipFamilyPolicy": PREFER }),
                json!([PREFER, [IPV4, IPV6]]),
            ),
            (
                ONLY_4,
                json!({ "ipFamilyPolicy": PREFER }),
                json!([PREFER, [IPV4]]),
            ),
            (
                DUAL,
                json!({ "ipFamilyPolicy": REQUIRE, "ipFamilies": [IPV6] }),
                json!([REQUIRE, [IPV6, IPV4]]),
            ),
            (
                ONLY_4,
                json!({ "clusterIP": "None" }),
                json!([REQUIRE, [IPV4, IPV6]]),
            ),
            (
                ONLY_4,
                json!({ "clusterIP": "None", "selector": { "a": "b" } }),
                json!([SINGLE, [IPV4]]),
            ),
        ];
        for (configured, spec, expected) in cases {
            assert_eq!(settled(configured, spec.clone()), expected, "{spec}");
        }
    }

    #[test]
    fn what_the_cluster_hasnt_is_refused() {
        assert_eq!(
            refused(None, json!({ "ipFamilyPolicy": REQUIRE }), ONLY_4),
            [
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
            ]
        );
        assert_eq!(
            refused(None, json!({ "ipFamilies": [IPV6] }), ONLY_4),
            ["spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"]
        );
        assert_eq!(
            refused(
                None,
                json!({ "clusterIPs": ["fd00::1"], "clusterIP": "fd00::1" }),
                ONLY_4
            ),
            ["spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster"]
        );
    }

    #[test]
    fn two_families_become_one_when_the_policy_says_so() {
        let old = json!({ "type": "ClusterIP", "ipFamilyPolicy": REQUIRE, "ipFamilies": [IPV4, IPV6],
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"] });
        let mut new = old.clone();
        new["ipFamilyPolicy"] = SINGLE.into();
        assert_eq!(settle(Some(&old), &mut new, DUAL), []);
        assert_eq!(
            json!([new["clusterIPs"], new["ipFamilies"]]),
            json!([["10.0.0.1"], [IPV4]])
        );
        let mut new = old.clone();
        new["clusterIPs"] = json!(["10.0.0.1"]);
        assert_eq!(
            refused(Some(old), new, DUAL),
            [
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary cluster IP"
            ]
        );
    }

    #[test]
    fn a_change_of_the_cluster_changes_no_service() {
        let old = json!({ "type": "ClusterIP", "ipFamilyPolicy": PREFER, "ipFamilies": [IPV4],
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"] });
        let mut new = old.clone();
        assert_eq!(settle(Some(&old), &mut new, DUAL), []);
        assert_eq!(new, old);
        new["ipFamilyPolicy"] = REQUIRE.into();
        assert_eq!(settle(Some(&old), &mut new, DUAL), []);
        assert_eq!(new["ipFamilies"], json!(DUAL));
    }
}
