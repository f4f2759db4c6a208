//! The environment variables that tell a pod of the Services in its
//! namespace, and of the API server.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use go_json::Read;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::ListParams;

use crate::pod;

/// How long a list is good for containers of pods older than it.
const KEEP: SignedDuration = SignedDuration::from_secs(30);
/// How long the API server may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

type Variables = BTreeMap<String, String>;

/// Lists of Services, remembered for as long as they do.
pub(crate) struct Services {
    client: kube::Client,
    lists: Mutex<HashMap<Scope, Arc<tokio::sync::Mutex<Option<Listed>>>>>,
}

/// Which Services.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    /// The API server's own.
    Master,
    Namespace(String),
}

struct Listed {
    at: Timestamp,
    variables: Variables,
}

impl Services {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self {
            client,
            lists: Mutex::default(),
        }
    }

    /// The variables for a container of the pod: every Service that was there
    /// when the pod was made. While the API server is away, those known last.
    pub(crate) async fn variables(&self, pod: &Pod) -> Result<Variables, String> {
        let mut variables = self.of(Scope::Master, pod).await?;
        if pod::spec(pod).enable_service_links.unwrap_or(true) {
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            variables.extend(self.of(Scope::Namespace(namespace), pod).await?);
        }
        Ok(variables)
    }

    async fn of(&self, scope: Scope, pod: &Pod) -> Result<Variables, String> {
        let asked = Timestamp::now();
        let slot = {
            let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lists.entry(scope.clone()).or_default())
        };
        // One lister at a time: who waited here profits from who went before.
        let mut slot = slot.lock().await;
        if let Some(listed) = &*slot {
            let made = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
            // API times are cut to seconds.
            let is_older = made.is_some_and(|made| made + SignedDuration::from_secs(1) <= listed.at);
            let is_fresh = asked.duration_since(listed.at) < KEEP;
            if listed.at >= asked || (is_older && is_fresh) {
                return Ok(listed.variables.clone());
            }
        }
        match self.list(&scope).await {
            Ok(variables) => {
                let listed = Listed {
                    at: asked,
                    variables: variables.clone(),
                };
                *slot = Some(listed);
                Ok(variables)
            }
            Err(error) => match &*slot {
                Some(listed) => Ok(listed.variables.clone()),
                None => Err(format!(
                    "services have not yet been read at least once, cannot construct envvars: {error}"
                )),
            },
        }
    }

    async fn list(&self, scope: &Scope) -> Result<Variables, String> {
        let (namespace, params) = match scope {
            Scope::Master => (
                "default",
                ListParams::default().fields("metadata.name=kubernetes"),
            ),
            Scope::Namespace(name) => (name.as_str(), ListParams::default()),
        };
        let api: Api<Read<Service>> = Api::namespaced(self.client.clone(), namespace);
        let answer = tokio::time::timeout(LIMIT, api.list(&params)).await;
        let list = answer
            .map_err(|_| "timed out".to_owned())?
            .map_err(|e| e.to_string())?;
        let mut variables = Variables::new();
        for Read(service) in &list.items {
            describe(service, &mut variables);
        }
        Ok(variables)
    }
}

/// Adds one Service's variables: the plain ones, and those that Docker's links
/// once had.
fn describe(service: &Service, variables: &mut Variables) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ip.is_empty() || ip == "None" || ports.is_empty() {
        return;
    }
    let prefix = shell_name(service.metadata.name.as_deref().unwrap_or_default());
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    let mut set = |name: String, value: String| variables.insert(name, value);
    set(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    set(format!("{prefix}_SERVICE_PORT"), ports[0].port.to_string());
    for (index, port) in ports.iter().enumerate() {
        let number = port.port;
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            set(
                format!("{prefix}_SERVICE_PORT_{}", shell_name(name)),
                number.to_string(),
            );
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let scheme = protocol.to_ascii_lowercase();
        let url = format!("{scheme}://{host}:{number}");
        if index == 0 {
            set(format!("{prefix}_PORT"), url.clone());
        }
        let link = format!("{prefix}_PORT_{number}_{protocol}");
        set(link.clone(), url);
        set(format!("{link}_PROTO"), scheme);
        set(format!("{link}_PORT"), number.to_string());
        set(format!("{link}_ADDR"), ip.to_owned());
    }
}

fn shell_name(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_in_variables() {
        let service: Service = serde_json::from_value(json!({"metadata": {"name": "my-db"}, "spec": {
            "clusterIP": "10.96.3.4", "ports": [{"name": "sql", "port": 5432}, {"port": 53, "protocol": "UDP"}]}})).unwrap();
        let headless: Service = serde_json::from_value(json!({"metadata": {"name": "h"}, "spec": {
            "clusterIP": "None", "ports": [{"port": 80}]}}))
        .unwrap();
        let mut variables = Variables::new();
        describe(&service, &mut variables);
        describe(&headless, &mut variables);
        let lines: Vec<_> = variables.iter().map(|(k, v)| format!("{k}={v}")).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        MY_DB_PORT=tcp://10.96.3.4:5432
        MY_DB_PORT_53_UDP=udp://10.96.3.4:53
        MY_DB_PORT_53_UDP_ADDR=10.96.3.4
        MY_DB_PORT_53_UDP_PORT=53
        MY_DB_PORT_53_UDP_PROTO=udp
        MY_DB_PORT_5432_TCP=tcp://10.96.3.4:5432
        MY_DB_PORT_5432_TCP_ADDR=10.96.3.4
        MY_DB_PORT_5432_TCP_PORT=5432
        MY_DB_PORT_5432_TCP_PROTO=tcp
        MY_DB_SERVICE_HOST=10.96.3.4
        MY_DB_SERVICE_PORT=5432
        MY_DB_SERVICE_PORT_SQL=5432
        ");
    }
}
