//! The rules of containers.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::check::errors::{Errors, Field};
use crate::check::names;
use crate::json::{at, flag, int, list, text};
use crate::pod::{env, probe, resources};

/// What the pod around a container decides for it.
pub(crate) struct Context<'a> {
    /// Names of the pod's volumes.
    pub(crate) volumes: &'a BTreeSet<&'a str>,
    /// Whether the pod has its node's network.
    pub(crate) host_network: bool,
}

/// Fields that only containers have which stay.
const OF_LASTING: [&str; 4] = ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];

/// A container that runs as long as the pod does.
pub(crate) fn main(errors: &mut Errors, container: &Value, context: &Context<'_>, path: &Field) {
    common(errors, container, context, path);
    probe::probes(errors, container, path);
    restart_policy(errors, container, path);
}

/// A container that runs before the main ones; with `restartPolicy: Always` (a sidecar), beside them.
pub(crate) fn init(errors: &mut Errors, container: &Value, context: &Context<'_>, path: &Field) {
    common(errors, container, context, path);
    host_ports(errors, std::slice::from_ref(container), path);
    restart_policy(errors, container, path);
    if text(container, "/restartPolicy") == "Always" {
        return probe::probes(errors, container, path);
    }
    for field in OF_LASTING {
        if at(container, &format!("/{field}")).is_some() {
            errors.forbidden(
                &path.child(field),
                "may not be set for init containers without restartPolicy=Always",
            );
        }
    }
}

/// A container that is added to a running pod to look into it. `targets` are the pod's containers, whose
/// processes it may see.
pub(crate) fn ephemeral(
    errors: &mut Errors,
    container: &Value,
    context: &Context<'_>,
    targets: &[Value],
    path: &Field,
) {
    const WHY: &str = "cannot be set for an Ephemeral Container";
    common(errors, container, context, path);
    let not_for_it = OF_LASTING.into_iter();
    for field in not_for_it.chain(["ports", "resources", "resizePolicy", "restartPolicy"]) {
        let is_empty = |value: &Value| value.as_object().is_some_and(|fields| fields.is_empty());
        if at(container, &format!("/{field}")).is_some_and(|value| !is_empty(value)) {
            errors.forbidden(&path.child(field), WHY);
        }
    }
    for (index, mount) in list(container, "/volumeMounts").iter().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !text(mount, &format!("/{field}")).is_empty() {
                errors.forbidden(&path.child("volumeMounts").index(index).child(field), WHY);
            }
        }
    }
    let target = text(container, "/targetContainerName");
    if !target.is_empty() && !targets.iter().any(|container| text(container, "/name") == target) {
        errors.not_found(&path.child("targetContainerName"), target);
    }
}

fn restart_policy(errors: &mut Errors, container: &Value, path: &Field) {
    if let Some(policy) = container.get("restartPolicy").and_then(Value::as_str) {
        errors.one_of(
            &path.child("restartPolicy"),
            policy,
            &["Always", "Never", "OnFailure"],
        );
    }
    restart_rules(errors, container, path);
}

/// The rules that say by its exit code whether a container is started again (KEP-5307).
fn restart_rules(errors: &mut Errors, container: &Value, path: &Field) {
    let rules = list(container, "/restartPolicyRules");
    if !rules.is_empty() && text(container, "/restartPolicy").is_empty() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.required(&path.child("restartPolicy"), why);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.child("restartPolicyRules").index(index);
        errors.one_of(&path.child("action"), text(rule, "/action"), &["Restart"]);
        let codes = path.child("exitCodes");
        if at(rule, "/exitCodes").is_none() {
            errors.required(&codes, "must be specified");
            continue;
        }
        let operator = text(rule, "/exitCodes/operator");
        errors.one_of(&codes.child("operator"), operator, &["In", "NotIn"]);
        if list(rule, "/exitCodes/values").is_empty() {
            errors.required(&codes.child("values"), "must specify at least one exit code");
        }
    }
}

fn common(errors: &mut Errors, container: &Value, context: &Context<'_>, path: &Field) {
    match text(container, "/name") {
        "" => errors.required(&path.child("name"), ""),
        name => errors.invalid_all(&path.child("name"), name, names::label(name)),
    }
    if text(container, "/image").is_empty() {
        errors.required(&path.child("image"), "");
    }
    for (field, supported) in [
        ("imagePullPolicy", &["Always", "IfNotPresent", "Never"][..]),
        ("terminationMessagePolicy", &["File", "FallbackToLogsOnError"]),
    ] {
        errors.one_of(
            &path.child(field),
            text(container, &format!("/{field}")),
            supported,
        );
    }
    ports(errors, container, context.host_network, &path.child("ports"));
    env::variables(errors, container, path);
    mounts(errors, container, context, &path.child("volumeMounts"));
    resources::requirements(errors, container, &path.child("resources"));
    security(errors, container, &path.child("securityContext"));
}

fn ports(errors: &mut Errors, container: &Value, host_network: bool, path: &Field) {
    let mut seen = BTreeSet::new();
    for (index, port) in list(container, "/ports").iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "/name");
        if !name.is_empty() {
            errors.invalid_all(&path.child("name"), name, names::port(name));
            if !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        let number = int(port, "/containerPort").unwrap_or_default();
        let host_port = int(port, "/hostPort").unwrap_or_default();
        match number {
            0 => errors.required(&path.child("containerPort"), ""),
            _ => errors.in_range(&path.child("containerPort"), Some(number), 1, 65_535),
        }
        if host_port != 0 {
            errors.in_range(&path.child("hostPort"), Some(host_port), 1, 65_535);
            if host_network && host_port != number {
                errors.invalid(
                    &path.child("hostPort"),
                    host_port,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
        match text(port, "/protocol") {
            "" => errors.required(&path.child("protocol"), ""),
            protocol => errors.one_of(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]),
        }
    }
}

/// No two ports may ask for the same port of the node.
pub(crate) fn host_ports(errors: &mut Errors, containers: &[Value], path: &Field) {
    let mut taken = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (port_index, port) in list(container, "/ports").iter().enumerate() {
            let Some(number) = int(port, "/hostPort").filter(|number| *number != 0) else {
                continue;
            };
            let claim = format!("{}/{}/{number}", text(port, "/protocol"), text(port, "/hostIP"));
            let field = path
                .index(index)
                .child("ports")
                .index(port_index)
                .child("hostPort");
            if !taken.insert(claim.clone()) {
                errors.duplicate(&field, claim);
            }
        }
    }
}

fn mounts(errors: &mut Errors, container: &Value, context: &Context<'_>, path: &Field) {
    let mounts = list(container, "/volumeMounts");
    let mut paths = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let field = path.index(index);
        let name = text(mount, "/name");
        if name.is_empty() {
            errors.required(&field.child("name"), "");
        }
        if !context.volumes.contains(name) {
            errors.not_found(&field.child("name"), name);
        }
        let mount_path = text(mount, "/mountPath");
        if mount_path.is_empty() {
            errors.required(&field.child("mountPath"), "");
        }
        if !paths.insert(mount_path) {
            errors.invalid(&field.child("mountPath"), mount_path, "must be unique");
        }
        for name in ["subPath", "subPathExpr"] {
            local_path(errors, text(mount, &format!("/{name}")), &field.child(name));
        }
        if !text(mount, "/subPath").is_empty() && !text(mount, "/subPathExpr").is_empty() {
            let expression = text(mount, "/subPathExpr");
            errors.invalid(
                &field.child("subPathExpr"),
                expression,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        propagation(errors, mount, container, &field.child("mountPropagation"));
    }
}

/// A path that stays inside the folder it starts from.
pub(crate) fn local_path(errors: &mut Errors, path: &str, field: &Field) {
    if path.starts_with('/') {
        errors.invalid(field, path, "must be a relative path");
    }
    no_backsteps(errors, path, field);
}

/// A path without `..`.
pub(crate) fn no_backsteps(errors: &mut Errors, path: &str, field: &Field) {
    if path.split('/').any(|part| part == "..") {
        errors.invalid(field, path, "must not contain '..'");
    }
}

fn propagation(errors: &mut Errors, mount: &Value, container: &Value, path: &Field) {
    let Some(propagation) = mount.get("mountPropagation").and_then(Value::as_str) else {
        return;
    };
    errors.one_of(path, propagation, &["Bidirectional", "HostToContainer", "None"]);
    if propagation == "Bidirectional" && !flag(container, "/securityContext/privileged") {
        errors.forbidden(
            path,
            "Bidirectional mount propagation is available only to privileged containers",
        );
    }
}

/// The seccomp and AppArmor profiles of a pod or a container.
pub(crate) fn profiles(errors: &mut Errors, context: &Value, path: &Field) {
    for (field, what) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let Some(profile) = at(context, &format!("/{field}")) else {
            continue;
        };
        let path = path.child(field);
        let (kind, local) = (text(profile, "/type"), text(profile, "/localhostProfile"));
        let file = path.child("localhostProfile");
        match kind {
            "" => errors.required(
                &path.child("type"),
                &format!("type is required when {field} is set"),
            ),
            _ => errors.one_of(
                &path.child("type"),
                kind,
                &["Localhost", "RuntimeDefault", "Unconfined"],
            ),
        }
        if kind == "Localhost" && local.is_empty() {
            let why = format!("must be set when {what} type is Localhost");
            errors.required(&file, &why);
        }
        if kind != "Localhost" && !local.is_empty() {
            let why = format!("can only be set when {what} type is Localhost");
            errors.invalid(&file, local, &why);
        }
        if field == "seccompProfile" {
            local_path(errors, local, &file);
        }
    }
}

fn security(errors: &mut Errors, container: &Value, path: &Field) {
    let Some(context) = at(container, "/securityContext") else {
        return;
    };
    for field in ["runAsUser", "runAsGroup"] {
        let value = int(context, &format!("/{field}"));
        errors.in_range(&path.child(field), value, 0, i64::from(i32::MAX));
    }
    if let Some(mount) = context.get("procMount").and_then(Value::as_str) {
        errors.one_of(&path.child("procMount"), mount, &["Default", "Unmasked"]);
    }
    profiles(errors, context, path);
    if context.get("allowPrivilegeEscalation").and_then(Value::as_bool) != Some(false) {
        return;
    }
    if flag(context, "/privileged") {
        errors.invalid(
            path,
            context.clone(),
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
    if list(context, "/capabilities/add")
        .iter()
        .any(|capability| capability == "CAP_SYS_ADMIN")
    {
        errors.invalid(
            path,
            context.clone(),
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        );
    }
}
