//! The rules of pods and pod templates: what the spec says as a whole. Containers, volumes and scheduling
//! have files of their own.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::{addresses, meta, names};
use crate::json::{at, flag, int, list, text};
use crate::pod::{container, resources, scheduling, update, volumes};

/// How long a sysctl's name may be, and what Kubernetes calls one.
const MAX_SYSCTL: usize = 253;
const SYSCTL: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

pub(crate) fn rules(errors: &mut Errors, pod: &Value, old: Option<&Value>) {
    let path = Field::root().child("spec");
    let spec = &pod["spec"];
    pod_spec(errors, spec, &path);
    for group in ["containers", "initContainers"] {
        for (index, container) in list(spec, &format!("/{group}")).iter().enumerate() {
            image_spaces(errors, container, &path.child(group).index(index));
        }
    }
    match old {
        Some(old) => update::changed(errors, spec, &old["spec"], &path),
        None => no_ephemeral(errors, spec, &path, "cannot be set on create"),
    }
}

/// They are added to pods that run.
fn no_ephemeral(errors: &mut Errors, spec: &Value, path: &Field, why: &str) {
    if !list(spec, "/ephemeralContainers").is_empty() {
        errors.forbidden(&path.child("ephemeralContainers"), why);
    }
}

/// Checks a pod template, as Deployments hold.
pub(crate) fn template(errors: &mut Errors, template: &Value, path: &Field) {
    let metadata = path.child("metadata");
    let meta = template.get("metadata").unwrap_or(&Value::Null);
    meta::labels(errors, meta, "/labels", &metadata.child("labels"));
    meta::annotations(errors, meta, &metadata.child("annotations"));
    let (spec, path) = (template.get("spec").unwrap_or(&Value::Null), path.child("spec"));
    pod_spec(errors, spec, &path);
    let why = "ephemeral containers not allowed in pod template";
    no_ephemeral(errors, spec, &path, why);
}

/// Not in templates: some use an image of one space as a placeholder.
fn image_spaces(errors: &mut Errors, container: &Value, path: &Field) {
    let image = text(container, "/image");
    if image.trim() != image {
        errors.invalid(
            &path.child("image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
}

fn pod_spec(errors: &mut Errors, spec: &Value, path: &Field) {
    let volumes = volumes::volumes(errors, spec, &path.child("volumes"));
    containers(errors, spec, &volumes, path);
    let restart_policies = ["Always", "OnFailure", "Never"];
    errors.one_of(
        &path.child("restartPolicy"),
        text(spec, "/restartPolicy"),
        &restart_policies,
    );
    dns(errors, spec, path);
    meta::labels(errors, spec, "/nodeSelector", &path.child("nodeSelector"));
    security(errors, spec, path);
    for (field, check) in [
        ("serviceAccountName", names::subdomain as names::Check),
        ("nodeName", names::subdomain),
        ("hostname", names::label),
        ("subdomain", names::label),
        ("priorityClassName", names::subdomain),
        ("runtimeClassName", names::subdomain),
    ] {
        let name = text(spec, &format!("/{field}"));
        if !name.is_empty() {
            errors.invalid_all(&path.child(field), name, check(name));
        }
    }
    errors.in_range(
        &path.child("activeDeadlineSeconds"),
        int(spec, "/activeDeadlineSeconds"),
        1,
        i64::from(i32::MAX),
    );
    let grace = path.child("terminationGracePeriodSeconds");
    errors.not_negative(&grace, int(spec, "/terminationGracePeriodSeconds"));
    host_aliases(errors, spec, &path.child("hostAliases"));
    for (index, gate) in list(spec, "/readinessGates").iter().enumerate() {
        let kind = text(gate, "/conditionType");
        let field = path.child("readinessGates").index(index).child("conditionType");
        errors.invalid_all(&field, kind, names::qualified(kind));
    }
    if let Some(policy) = spec.get("preemptionPolicy").and_then(Value::as_str) {
        errors.one_of(
            &path.child("preemptionPolicy"),
            policy,
            &["Never", "PreemptLowerPriority"],
        );
    }
    resources::requirements(errors, spec, &path.child("resources"));
    scheduling::scheduling(errors, spec, path);
    operating_system(errors, spec, &path.child("os").child("name"));
}

fn containers(errors: &mut Errors, spec: &Value, volumes: &BTreeSet<&str>, path: &Field) {
    let field = path.child("containers");
    let main = list(spec, "/containers");
    if main.is_empty() {
        errors.required(&field, "");
    }
    let mut seen = BTreeSet::new();
    let context = container::Context {
        volumes,
        host_network: flag(spec, "/hostNetwork"),
    };
    for (index, container) in main.iter().enumerate() {
        let path = field.index(index);
        container::main(errors, container, &context, &path);
        if !seen.insert(text(container, "/name")) {
            errors.duplicate(&path.child("name"), text(container, "/name"));
        }
    }
    container::host_ports(errors, main, &field);
    for group in ["initContainers", "ephemeralContainers"] {
        let field = path.child(group);
        for (index, container) in list(spec, &format!("/{group}")).iter().enumerate() {
            let path = field.index(index);
            let name = text(container, "/name");
            match group {
                "initContainers" => container::init(errors, container, &context, &path),
                _ => container::ephemeral(errors, container, &context, main, &path),
            }
            if !seen.insert(name) && !name.is_empty() {
                errors.duplicate(&path.child("name"), name);
            }
        }
    }
}

fn dns(errors: &mut Errors, spec: &Value, path: &Field) {
    let policy = text(spec, "/dnsPolicy");
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.one_of(&path.child("dnsPolicy"), policy, &policies);
    let path = path.child("dnsConfig");
    let config = match at(spec, "/dnsConfig") {
        Some(config) => config,
        None if policy == "None" => {
            return errors.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        None => return,
    };
    let servers = list(config, "/nameservers");
    let field = path.child("nameservers");
    if policy == "None" && servers.is_empty() {
        errors.required(
            &field,
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
    }
    if servers.len() > 3 {
        errors.invalid(&field, servers.to_vec(), "must not have more than 3 nameservers");
    }
    for (index, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        errors.invalid_all(&field.index(index), server, addresses::ip(server));
    }
    searches(errors, config, &path.child("searches"));
    for (index, option) in list(config, "/options").iter().enumerate() {
        if text(option, "/name").is_empty() {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

fn searches(errors: &mut Errors, config: &Value, path: &Field) {
    const MOST: usize = 32;
    const MOST_CHARACTERS: usize = 2048;
    let searches: Vec<&str> = list(config, "/searches")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if searches.len() > MOST {
        errors.invalid(
            path,
            searches.clone(),
            &format!("must not have more than {MOST} search paths"),
        );
    }
    if searches.join(" ").len() > MOST_CHARACTERS {
        let detail = format!(
            "must not have more than {MOST_CHARACTERS} characters (including spaces) in the search list"
        );
        errors.invalid(path, searches.clone(), &detail);
    }
    for (index, search) in searches
        .into_iter()
        .enumerate()
        .filter(|(_, search)| *search != ".")
    {
        let name = search.strip_suffix('.').unwrap_or(search);
        // Names of services may start labels with an underscore.
        errors.invalid_all(
            &path.index(index),
            search,
            names::subdomain(&name.replace('_', "a")),
        );
    }
}

fn security(errors: &mut Errors, spec: &Value, path: &Field) {
    let path = path.child("securityContext");
    if let Some(context) = at(spec, "/securityContext") {
        container::profiles(errors, context, &path);
    }
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        let value = int(spec, &format!("/securityContext/{field}"));
        errors.in_range(&path.child(field), value, 0, i64::from(i32::MAX));
    }
    for (index, group) in list(spec, "/securityContext/supplementalGroups")
        .iter()
        .enumerate()
    {
        let field = path.child("supplementalGroups").index(index);
        errors.in_range(&field, group.as_i64(), 0, i64::from(i32::MAX));
    }
    for (index, sysctl) in list(spec, "/securityContext/sysctls").iter().enumerate() {
        let field = path.child("sysctls").index(index).child("name");
        let name = text(sysctl, "/name");
        if name.is_empty() {
            errors.required(&field, "");
        } else if !is_sysctl(name) {
            errors.invalid(
                &field,
                name,
                &format!("must have at most {MAX_SYSCTL} characters and match regex {SYSCTL}"),
            );
        }
    }
    if let Some(policy) = at(spec, "/securityContext/fsGroupChangePolicy").and_then(Value::as_str) {
        errors.one_of(
            &path.child("fsGroupChangePolicy"),
            policy,
            &["Always", "OnRootMismatch"],
        );
    }
}

/// Names that the kernel might know: parts of letters, digits, `-` and `_` between dots or slashes.
fn is_sysctl(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &str| {
        part.starts_with(is_plain)
            && part.ends_with(is_plain)
            && part.chars().all(|c| is_plain(c) || c == '-' || c == '_')
    };
    name.len() <= MAX_SYSCTL && name.split(['.', '/']).all(is_part)
}

fn host_aliases(errors: &mut Errors, spec: &Value, path: &Field) {
    for (index, alias) in list(spec, "/hostAliases").iter().enumerate() {
        let path = path.index(index);
        let ip = text(alias, "/ip");
        errors.invalid_all(&path.child("ip"), ip, addresses::ip(ip));
        for (index, name) in list(alias, "/hostnames")
            .iter()
            .filter_map(Value::as_str)
            .enumerate()
        {
            errors.invalid_all(
                &path.child("hostnames").index(index),
                name,
                names::subdomain(name),
            );
        }
    }
}

fn operating_system(errors: &mut Errors, spec: &Value, path: &Field) {
    match at(spec, "/os").map(|os| text(os, "/name")) {
        None => {}
        Some("") => errors.required(path, ""),
        Some(name) => errors.one_of(path, name, &["linux", "windows"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sysctl_is_named_as_the_kernel_names_them() {
        for name in [
            "net.ipv4.ip_forward",
            "net/ipv4/ip_forward",
            "kernel.shm_rmid_forced",
            "safe-and-unsafe",
            "a",
        ] {
            assert!(is_sysctl(name), "{name}");
        }
        for name in [
            "foo-",
            "bar..",
            "",
            ".a",
            "a.-b",
            "Net.ipv4",
            "a b",
            &"a".repeat(254),
        ] {
            assert!(!is_sysctl(name), "{name}");
        }
    }
}
