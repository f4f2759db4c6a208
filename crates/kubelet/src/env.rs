//! A container's environment: Services first, then whole ConfigMaps and
//! Secrets, then single variables, later ones winning.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod};

use crate::downward::{self, Surroundings};
use crate::expand::expand;
use crate::objects::{Lookup, Source};

/// A container's variables, in order and without doubles.
pub(crate) type Env = Vec<(String, String)>;

/// Works out the environment. `services` are the variables that describe the
/// Services a pod may use; `objects` answers for ConfigMaps and Secrets that
/// were fetched before. An error is what the user needs to read.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    services: BTreeMap<String, String>,
    objects: &dyn Lookup,
    around: &Surroundings,
) -> Result<Env, String> {
    let mut env = Builder::default();
    for (name, value) in services {
        env.set(name, value);
    }
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional) = if let Some(it) = &source.config_map_ref {
            (Source::ConfigMap, it.name.as_str(), it.optional)
        } else if let Some(it) = &source.secret_ref {
            (Source::Secret, it.name.as_str(), it.optional)
        } else {
            continue;
        };
        match objects.data(kind, name)? {
            Some(data) => {
                for (key, value) in data {
                    let key = format!("{prefix}{key}");
                    // What no shell could name is left out, as Kubernetes does.
                    if let (true, Ok(value)) = (is_name(&key), String::from_utf8(value)) {
                        env.set(key, value);
                    }
                }
            }
            None if optional.unwrap_or(false) => {}
            None => return Err(kind.missing(name)),
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = one(variable, &env, pod, container, objects, around)? {
            env.set(variable.name.clone(), value);
        }
    }
    Ok(env.list)
}

fn one(
    variable: &EnvVar,
    so_far: &Builder,
    pod: &Pod,
    container: &Container,
    objects: &dyn Lookup,
    around: &Surroundings,
) -> Result<Option<String>, String> {
    match (&variable.value, &variable.value_from) {
        (Some(text), _) if !text.is_empty() => Ok(Some(expand(text, |name| so_far.get(name)))),
        (_, Some(source)) => from_source(source, pod, container, objects, around),
        _ => Ok(Some(String::new())),
    }
}

fn from_source(
    source: &EnvVarSource,
    pod: &Pod,
    container: &Container,
    objects: &dyn Lookup,
    around: &Surroundings,
) -> Result<Option<String>, String> {
    if let Some(selector) = &source.field_ref {
        return downward::field(selector, pod, around).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return downward::resource(selector, pod, &container.name, around).map(Some);
    }
    let (kind, name, key, optional) = if let Some(it) = &source.config_map_key_ref {
        (Source::ConfigMap, &it.name, &it.key, it.optional)
    } else if let Some(it) = &source.secret_key_ref {
        (Source::Secret, &it.name, &it.key, it.optional)
    } else {
        return Err("unsupported valueFrom in an environment variable".to_owned());
    };
    let optional = optional.unwrap_or(false);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match objects.data(kind, name)? {
        None if optional => Ok(None),
        None => Err(kind.missing(name)),
        Some(mut data) => match data.remove(key.as_str()) {
            Some(value) => String::from_utf8(value)
                .map(Some)
                .map_err(|_| format!("key {key} in {} {namespace}/{name} is not text", kind.noun())),
            None if optional => Ok(None),
            None => Err(format!(
                "couldn't find key {key} in {} {namespace}/{name}",
                kind.noun()
            )),
        },
    }
}

/// Whether a process could have a variable of that name: Kubernetes takes any
/// printable ASCII but `=`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=')
}

/// Variables in the order they were first set.
#[derive(Default)]
struct Builder {
    list: Env,
    at: BTreeMap<String, usize>,
}

impl Builder {
    fn set(&mut self, name: String, value: String) {
        match self.at.get(&name) {
            Some(&at) => self.list[at].1 = value,
            None => {
                self.at.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.at.get(name).map(|&at| self.list[at].1.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::Fixed;
    use crate::pod::tests::pod;
    use serde_json::json;

    fn environment_of(container: serde_json::Value) -> Result<Env, String> {
        let it = pod(json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}));
        let objects = Fixed::default()
            .with(
                Source::ConfigMap,
                "settings",
                &[("color", "blue"), ("size", "9"), ("a=b", "no")],
            )
            .with(Source::Secret, "keys", &[("token", "s3cret")]);
        let services = BTreeMap::from([("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned())]);
        let container = &it.spec.as_ref().unwrap().containers[0];
        environment(&it, container, services, &objects, &Surroundings::default())
    }

    #[test]
    fn variables_come_from_everywhere_in_order() {
        let env = environment_of(json!({"name": "a",
            "envFrom": [{"prefix": "C_", "configMapRef": {"name": "settings"}},
                        {"secretRef": {"name": "absent", "optional": true}}],
            "env": [
                {"name": "PLAIN", "value": "x"},
                {"name": "EMPTY"},
                {"name": "API", "value": "https://$(KUBERNETES_SERVICE_HOST)/$(PLAIN)/$(LATER)/$$(PLAIN)"},
                {"name": "LATER", "value": "y"},
                {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
                {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "zzz", "optional": true}}},
                {"name": "C_color", "value": "red"}]}))
        .unwrap();
        let text: Vec<_> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        KUBERNETES_SERVICE_HOST=10.96.0.1
        C_color=red
        C_size=9
        PLAIN=x
        EMPTY=
        API=https://10.96.0.1/x/$(LATER)/$(PLAIN)
        LATER=y
        APP=web
        TOKEN=s3cret
        ");
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing_map =
            environment_of(json!({"name": "a", "envFrom": [{"configMapRef": {"name": "absent"}}]}));
        assert_eq!(missing_map.unwrap_err(), "configmap \"absent\" not found");
        let missing_key = environment_of(json!({"name": "a", "env": [
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "none"}}}]}));
        assert_eq!(
            missing_key.unwrap_err(),
            "couldn't find key none in Secret default/keys"
        );
    }
}
