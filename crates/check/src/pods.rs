//! The pods of one run, as objects.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// Where a pod's server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) echo: u16,
}

/// Labels by which Services choose pods: what kind it is, and which one.
pub(crate) const KIND: &str = "ripstop.dev/check-kind";
pub(crate) const NAME: &str = "ripstop.dev/check-pod";
/// The kind of those that policies isolate, and no Service leads to.
pub(crate) const ISOLATED: &str = "isolated";

/// In a pod's own network, any port is free.
pub(crate) const POD_PORTS: Ports = Ports {
    http: 8080,
    echo: 9000,
};

/// A pod to be made.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) node: String,
    pub(crate) host_network: bool,
    pub(crate) ports: Ports,
    /// A port of the node that is to lead to the HTTP server.
    pub(crate) host_port: Option<u16>,
}

impl Plan {
    /// The pod as an object. It is bound to its node right away: whether the
    /// scheduler works is not what is asked here. There is no readiness probe
    /// either, since it would hide which path it is that doesn't work.
    pub(crate) fn object(&self, image: &str) -> Pod {
        let (http, echo) = (self.ports.http.to_string(), self.ports.echo.to_string());
        let command = [
            "toolbox", "serve", "--drain", "0s", "--http", &http, "--echo", &echo,
        ];
        let mut spec = json!({
            "nodeName": self.node,
            "hostNetwork": self.host_network,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "toolbox",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": command,
                "env": [{"name": "NODE_NAME", "value": self.node}],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            }],
        });
        if !self.host_network {
            let mut http = json!({"name": "http", "containerPort": self.ports.http});
            if let Some(port) = self.host_port {
                http["hostPort"] = port.into();
            }
            // The others are named for those who look at it; they open nothing.
            spec["containers"][0]["ports"] = Value::Array(vec![
                http,
                json!({"name": "echo", "containerPort": self.ports.echo}),
                json!({"name": "echo-udp", "containerPort": self.ports.echo, "protocol": "UDP"}),
            ]);
        }
        let labels = json!({"app.kubernetes.io/name": "ripstop-check", KIND: self.kind, NAME: self.name});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "labels": labels},
            "spec": spec,
        });
        serde_json::from_value(pod).expect("the literal is a pod")
    }
}

/// Why a pod doesn't run yet, or any more, in a few words.
pub(crate) fn trouble(pod: &Pod) -> String {
    let nothing = "its node hasn't taken it up: does its agent run?";
    let Some(status) = &pod.status else {
        return nothing.to_owned();
    };
    let containers = status.container_statuses.iter().flatten();
    let words = containers.filter_map(|container| {
        let state = container.state.as_ref()?;
        let waiting = state.waiting.as_ref();
        let waiting = waiting.map(|w| (w.reason.clone(), w.message.clone()));
        let ended = state.terminated.as_ref();
        let ended = ended.map(|t| (t.reason.clone(), t.message.clone()));
        let (reason, message) = waiting.or(ended)?;
        let said: Vec<String> = [reason, message].into_iter().flatten().collect();
        (!said.is_empty()).then(|| said.join(": "))
    });
    let own = [status.reason.clone(), status.message.clone()];
    let own: Vec<String> = own.into_iter().flatten().collect();
    let own = (!own.is_empty()).then(|| own.join(": "));
    let phase = || match &status.start_time {
        Some(_) => format!("it is {}", status.phase.as_deref().unwrap_or("Pending")),
        None => nothing.to_owned(),
    };
    words.chain(own).next().unwrap_or_else(phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap()
    }

    #[test]
    fn trouble_is_named_as_exactly_as_the_status_can() {
        let waiting = json!({"reason": "ErrImagePull", "message": "no such image"});
        let container = json!({
            "name": "toolbox", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": waiting},
        });
        let text = trouble(&pod(
            json!({"phase": "Pending", "containerStatuses": [container]}),
        ));
        assert_eq!(text, "ErrImagePull: no such image");
        let text = trouble(&pod(json!({"phase": "Failed", "reason": "OutOfcpu"})));
        assert_eq!(text, "OutOfcpu");
        let taken_up = json!({"phase": "Pending", "startTime": "2026-05-07T09:30:00Z"});
        assert_eq!(trouble(&pod(taken_up)), "it is Pending");
        for untouched in [pod(json!({"phase": "Pending"})), Pod::default()] {
            assert!(trouble(&untouched).starts_with("its node hasn't taken it up"));
        }
    }
}
