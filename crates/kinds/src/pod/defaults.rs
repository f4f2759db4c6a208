//! Defaults of pods and of the pod templates in other kinds.

use serde_json::{Value, json};

use crate::json::{flag, int, list_mut, set, set_default, set_default_number, set_default_text, text};

/// Permissions of files in volumes that are made of objects: 0644.
const VOLUME_FILE_MODE: i64 = 0o644;

/// Defaults that pods have and templates don't.
pub(crate) fn pod(pod: &mut Value) {
    set_default(pod, "spec", json!({}));
    let spec = &mut pod["spec"];
    pod_spec(spec);
    set_default(spec, "enableServiceLinks", true);
    for group in ["/containers", "/initContainers"] {
        list_mut(spec, group).for_each(requests_from_limits);
    }
    if flag(spec, "/hostNetwork") {
        host_network_ports(spec);
    }
}

/// Defaults of a pod template: `{metadata, spec}`.
pub(crate) fn template(template: &mut Value) {
    set_default(template, "metadata", json!({}));
    set_default(template, "spec", json!({}));
    pod_spec(&mut template["spec"]);
}

fn pod_spec(spec: &mut Value) {
    set_default(spec, "containers", json!([]));
    set_default_text(spec, "restartPolicy", "Always");
    set_default_text(spec, "dnsPolicy", "ClusterFirst");
    set_default_text(spec, "schedulerName", "default-scheduler");
    set_default(spec, "terminationGracePeriodSeconds", 30);
    set_default(spec, "securityContext", json!({}));
    service_account(spec);
    for group in ["/containers", "/initContainers", "/ephemeralContainers"] {
        list_mut(spec, group).for_each(container);
    }
    list_mut(spec, "/volumes").for_each(volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`: both say the same.
fn service_account(spec: &mut Value) {
    let name = match text(spec, "/serviceAccountName") {
        "" => text(spec, "/serviceAccount"),
        name => name,
    };
    if !name.is_empty() {
        let name = name.to_owned();
        set(spec, "serviceAccountName", name.as_str());
        set(spec, "serviceAccount", name);
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(text(container, "/image"));
    set_default_text(container, "imagePullPolicy", policy);
    set_default_text(container, "terminationMessagePath", "/dev/termination-log");
    set_default_text(container, "terminationMessagePolicy", "File");
    set_default(container, "resources", json!({}));
    for port in list_mut(container, "/ports") {
        set_default_text(port, "protocol", "TCP");
    }
    for env in list_mut(container, "/env") {
        field_ref(env, "/valueFrom/fieldRef");
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(value) = container.get_mut(name) {
            probe(value);
        }
    }
    for hook in ["/lifecycle/postStart/httpGet", "/lifecycle/preStop/httpGet"] {
        http_get(container, hook);
    }
}

/// An image without a tag is `latest`, and `latest` changes: ask the registry every time.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    match (last.split_once(':'), digest) {
        (Some((_, "latest")), _) => "Always",
        (None, None) if !image.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

fn probe(probe: &mut Value) {
    set_default_number(probe, "timeoutSeconds", 1);
    set_default_number(probe, "periodSeconds", 10);
    set_default_number(probe, "successThreshold", 1);
    set_default_number(probe, "failureThreshold", 3);
    http_get(probe, "/httpGet");
    if let Some(grpc) = probe.get_mut("grpc") {
        set_default(grpc, "service", "");
    }
}

fn http_get(value: &mut Value, pointer: &str) {
    if let Some(action) = value.pointer_mut(pointer) {
        set_default_text(action, "path", "/");
        set_default_text(action, "scheme", "HTTP");
    }
}

fn field_ref(value: &mut Value, pointer: &str) {
    if let Some(field_ref) = value.pointer_mut(pointer) {
        set_default_text(field_ref, "apiVersion", "v1");
    }
}

fn volume(volume: &mut Value) {
    let sources = volume
        .as_object()
        .map_or(0, |volume| volume.keys().filter(|key| *key != "name").count());
    if sources == 0 {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source) {
            set_default(source, "defaultMode", VOLUME_FILE_MODE);
        }
    }
    if let Some(host_path) = volume.get_mut("hostPath") {
        set_default(host_path, "type", "");
    }
    if let Some(claim) = volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        set_default(claim, "volumeMode", "Filesystem");
    }
    if let Some(image) = volume.get_mut("image") {
        let policy = pull_policy(text(image, "/reference"));
        set_default_text(image, "pullPolicy", policy);
    }
    for item in list_mut(volume, "/downwardAPI/items") {
        field_ref(item, "/fieldRef");
    }
    for source in list_mut(volume, "/projected/sources") {
        for item in list_mut(source, "/downwardAPI/items") {
            field_ref(item, "/fieldRef");
        }
        if let Some(token) = source.get_mut("serviceAccountToken") {
            set_default(token, "expirationSeconds", 3600);
        }
    }
}

/// A container that says only what it may use asks for as much.
fn requests_from_limits(container: &mut Value) {
    let Some(limits) = container
        .pointer("/resources/limits")
        .and_then(Value::as_object)
        .cloned()
    else {
        return;
    };
    let resources = &mut container["resources"];
    set_default(resources, "requests", json!({}));
    for (name, limit) in limits {
        set_default(&mut resources["requests"], &name, limit);
    }
}

fn host_network_ports(spec: &mut Value) {
    for group in ["/containers", "/initContainers"] {
        for container in list_mut(spec, group) {
            for port in list_mut(container, "/ports") {
                let container_port = int(port, "/containerPort").unwrap_or_default();
                set_default_number(port, "hostPort", container_port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("nginx", "Always")]
    #[case("nginx:latest", "Always")]
    #[case("nginx:1.27", "IfNotPresent")]
    #[case("registry:5000/nginx", "Always")]
    #[case("registry:5000/nginx:1", "IfNotPresent")]
    #[case("nginx@sha256:0123", "IfNotPresent")]
    #[case("nginx:latest@sha256:0123", "Always")]
    #[case("localhost/ripstop/toolbox:1", "IfNotPresent")]
    #[case("", "IfNotPresent")]
    fn images_are_pulled_always_only_by_moving_tags(#[case] image: &str, #[case] policy: &str) {
        assert_eq!(pull_policy(image), policy);
    }
}
