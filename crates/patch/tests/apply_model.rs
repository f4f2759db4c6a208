//! Server-side apply against a naive model of it, written from the words of KEP-555: an object is its leaves,
//! and each leaf has its owners.
//!
//! - Who applies a leaf owns it. If another owner wants another value, that is a conflict; force takes the leaf
//!   from them.
//! - Who no longer applies a leaf no longer owns it; nobody's leaf goes. An element of a list goes whole.
//! - Who changes a leaf in any other way owns it alone; who removes it leaves nobody to own it.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};

use patch::apply::{self, ApplyError, Author, Managers, Scope, Set, Shape};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

type Path = String;

/// The leaves of a pod of the shapes that are made here, by path. Elements are leaves as well, without a value.
fn leaves(pod: &Value) -> BTreeMap<Path, Value> {
    let mut leaves = BTreeMap::new();
    collect(pod, "", &mut leaves);
    leaves.retain(|path, _| !matches!(path.as_str(), ".apiVersion" | ".kind"));
    leaves
}

fn collect(value: &Value, path: &str, leaves: &mut BTreeMap<Path, Value>) {
    let field = path.rsplit('.').next().unwrap_or_default();
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                collect(value, &format!("{path}.{name}"), leaves);
            }
        }
        Value::Array(list) if matches!(field, "containers" | "env") => {
            for element in list {
                let path = format!("{path}[name={}]", element["name"]);
                leaves.insert(path.clone(), Value::Null);
                collect(element, &path, leaves);
            }
        }
        Value::Array(list) if field == "finalizers" => {
            for value in list {
                leaves.insert(format!("{path}[={value}]"), value.clone());
            }
        }
        leaf => _ = leaves.insert(path.to_owned(), leaf.clone()),
    }
}

#[derive(Debug, Clone, Default)]
struct Model {
    leaves: BTreeMap<Path, Value>,
    owners: BTreeMap<Path, BTreeSet<&'static str>>,
}

impl Model {
    /// The conflicts, when there are some and they aren't forced.
    fn apply(&mut self, who: &'static str, object: &Value, force: bool) -> BTreeSet<(String, Path)> {
        let applied = leaves(object);
        let mut conflicts = BTreeSet::new();
        for (path, value) in &applied {
            if self.leaves.get(path).is_some_and(|live| live != value) {
                let owners = self.owners[path].iter().filter(|owner| **owner != who);
                conflicts.extend(owners.map(|owner| (shown(owner), path.clone())));
            }
        }
        if !conflicts.is_empty() && !force {
            return conflicts;
        }
        for (_, path) in &conflicts {
            self.owners.insert(path.clone(), BTreeSet::new());
        }
        let given_up: Vec<Path> = self
            .owners
            .iter()
            .filter(|(path, owners)| owners.contains(who) && !applied.contains_key(*path))
            .map(|(path, _)| path.clone())
            .collect();
        for path in &given_up {
            self.owners.get_mut(path).unwrap().remove(who);
        }
        for (path, value) in applied {
            self.leaves.insert(path.clone(), value);
            self.owners.entry(path).or_default().insert(who);
        }
        for path in given_up {
            if self.owners.get(&path).is_some_and(BTreeSet::is_empty) {
                self.remove(&path);
            }
        }
        BTreeSet::new()
    }

    fn remove(&mut self, path: &str) {
        let gone = |other: &Path| {
            other == path
                || path.ends_with(']') && other.strip_prefix(path).is_some_and(|rest| !rest.is_empty())
        };
        self.leaves.retain(|other, _| !gone(other));
        self.owners.retain(|other, _| !gone(other));
    }

    fn update(&mut self, who: &'static str, object: &Value) {
        let new = leaves(object);
        self.owners.retain(|path, _| new.contains_key(path));
        for (path, value) in &new {
            if self.leaves.get(path) != Some(value) {
                self.owners.insert(path.clone(), BTreeSet::from([who]));
            }
        }
        self.leaves = new;
    }
}

fn shown(owner: &str) -> String {
    match owner {
        "a" | "b" => format!("{owner:?}"),
        updater => format!("{updater:?} using v1"),
    }
}

/// What is tested, driven in the same way.
struct Real {
    object: Value,
    managers: Managers,
}

fn shape() -> Shape<'static> {
    Shape::of("", "v1", "Pod")
}

fn author(name: &'static str) -> Author<'static> {
    Author {
        name,
        api_version: "v1",
        subresource: "",
        scope: Scope::NotStatus,
        now: "2026-01-01T00:00:00Z",
    }
}

impl Real {
    fn apply(&mut self, who: &'static str, object: &Value, force: bool) -> BTreeSet<(String, Path)> {
        let managers = self.managers.clone();
        match apply::apply(shape(), Some(&self.object), object, managers, &author(who), force) {
            Ok(applied) => {
                self.object = applied.object;
                self.managers = applied.managers;
                BTreeSet::new()
            }
            Err(ApplyError::Conflicts(conflicts)) => conflicts
                .into_iter()
                .map(|conflict| (conflict.manager, conflict.path))
                .collect(),
            Err(error) => panic!("{error}"),
        }
    }

    fn update(&mut self, who: &'static str, object: &Value) {
        let managers = std::mem::take(&mut self.managers);
        self.managers = apply::update(shape(), &self.object, object, managers, &author(who));
        self.object = object.clone();
    }

    /// Who owns which leaves. That somebody brought an object or a list itself is left out.
    fn owners(&self) -> BTreeMap<Path, BTreeSet<String>> {
        let mut owners: BTreeMap<Path, BTreeSet<String>> = BTreeMap::new();
        for entry in self.managers.to_json().as_array().unwrap() {
            for path in Set::from_json(&entry["fieldsV1"]).unwrap().paths() {
                let field = path.rsplit('.').next().unwrap_or_default();
                if !matches!(field, "spec" | "labels" | "finalizers" | "containers" | "env") {
                    let name = entry["manager"].as_str().unwrap().to_owned();
                    owners.entry(path).or_default().insert(name);
                }
            }
        }
        owners
    }
}

fn some<T>(map: BTreeMap<String, T>, element: impl Fn(String, T) -> Value) -> Option<Value> {
    (!map.is_empty()).then(|| {
        map.into_iter()
            .map(|(name, value)| element(name, value))
            .collect()
    })
}

fn value() -> impl Strategy<Value = String> {
    "[xy]"
}

fn container() -> impl Strategy<Value = Map<String, Value>> {
    let env = prop::collection::btree_map("[e-g]", value(), 0..3);
    let args = prop::option::of(prop::collection::vec(value(), 1..3));
    (prop::option::of(value()), env, args).prop_map(|(image, env, args)| {
        let mut container = Map::new();
        let env = some(env, |name, value| json!({ "name": name, "value": value }));
        for (field, value) in [
            ("image", image.map(Value::from)),
            ("env", env),
            ("args", args.map(Value::from)),
        ] {
            container.extend(value.map(|value| (field.to_owned(), value)));
        }
        container
    })
}

/// A pod, or a part of one: nothing in it is empty.
fn pod() -> impl Strategy<Value = Value> {
    let labels = prop::collection::btree_map("[l-n]", value(), 0..3);
    let finalizers = prop::collection::btree_set("f/[f-h]", 0..3);
    let containers = prop::collection::btree_map("[c-d]", container(), 0..3);
    (labels, finalizers, containers, prop::option::of(value())).prop_map(
        |(labels, finalizers, containers, host)| {
            let mut pod =
                json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": {} });
            if !labels.is_empty() {
                pod["metadata"]["labels"] = labels.into_iter().map(|(k, v)| (k, Value::from(v))).collect();
            }
            if !finalizers.is_empty() {
                pod["metadata"]["finalizers"] = finalizers.into_iter().collect();
            }
            let containers = some(containers, |name, mut container| {
                container.insert("name".into(), name.into());
                Value::Object(container)
            });
            if let Some(containers) = containers {
                pod["spec"]["containers"] = containers;
            }
            if let Some(host) = host {
                pod["spec"]["hostname"] = host.into();
            }
            pod
        },
    )
}

/// One request: by whom, with what, and whether it is forced.
fn request() -> impl Strategy<Value = (&'static str, Value, bool)> {
    (
        prop::sample::select(vec!["a", "b", "c", "d"]),
        pod(),
        any::<bool>(),
    )
}

/// The object is somebody's from the start, so that it is tracked throughout.
fn with_owner(mut pod: Value) -> Value {
    pod["spec"]["nodeName"] = "n".into();
    pod
}

/// Leaves without the name, which nobody owns.
fn owned_leaves(object: &Value) -> BTreeMap<Path, Value> {
    let mut leaves = leaves(object);
    leaves.remove(".metadata.name");
    leaves
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn ownership_and_objects_are_the_models(
        first in pod(),
        requests in prop::collection::vec(request(), 1..8),
    ) {
        let first = with_owner(first);
        let managers = apply::create(shape(), &first, &author("z"));
        let mut real = Real { object: first.clone(), managers };
        let mut model = Model::default();
        model.update("z", &first);
        for (who, object, force) in requests {
            if matches!(who, "a" | "b") {
                // The name is in every configuration, and nobody's.
                prop_assert_eq!(real.apply(who, &object, force), model.apply(who, &object, force));
            } else {
                let object = with_owner(object);
                real.update(who, &object);
                model.update(who, &object);
            }
            prop_assert_eq!(owned_leaves(&real.object), {
                let mut leaves = model.leaves.clone();
                leaves.remove(".metadata.name");
                leaves
            });
            let expected: BTreeMap<Path, BTreeSet<String>> = model
                .owners
                .iter()
                .filter(|(path, _)| *path != ".metadata.name")
                .map(|(path, owners)| (path.clone(), owners.iter().map(|o| (*o).to_owned()).collect()))
                .collect();
            prop_assert_eq!(real.owners(), expected);
        }
    }

    #[test]
    fn applying_twice_is_applying_once(live in pod(), object in pod()) {
        let live = with_owner(live);
        let managers = apply::create(shape(), &live, &author("z"));
        let once = apply::apply(shape(), Some(&live), &object, managers, &author("a"), true).unwrap();
        let again = apply::apply(shape(), Some(&once.object), &object, once.managers.clone(), &author("a"), false);
        prop_assert_eq!(again.unwrap(), once);
    }

    #[test]
    fn applied_elements_come_in_the_order_of_the_configuration(
        live in prop::collection::btree_set("[a-g]", 0..6).prop_map(Vec::from_iter).prop_shuffle(),
        applied in prop::collection::btree_set("[a-g]", 1..6).prop_map(Vec::from_iter).prop_shuffle(),
    ) {
        let pod = |names: &[String]| {
            let containers: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
            with_owner(json!({ "metadata": {}, "spec": { "containers": containers } }))
        };
        let managers = apply::create(shape(), &pod(&live), &author("z"));
        let out = apply::apply(shape(), Some(&pod(&live)), &pod(&applied), managers, &author("a"), true).unwrap();
        let names: Vec<_> = out.object["spec"]["containers"]
            .as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect();
        let only = |wanted: &dyn Fn(&String) -> bool| names.iter().filter(|n| wanted(n)).cloned().collect::<Vec<_>>();
        prop_assert_eq!(only(&|name| applied.contains(name)), applied.clone());
        let others: Vec<_> = live.iter().filter(|name| !applied.contains(name)).cloned().collect();
        prop_assert_eq!(only(&|name| !applied.contains(name)), others);
    }

    #[test]
    fn nothing_that_is_applied_panics(live in pod(), object in any_json(), fields in any_json()) {
        let managers = Managers::from_json(&fields).unwrap_or_default();
        let _ = apply::apply(shape(), Some(&live), &object, managers.clone(), &author("a"), true);
        let _ = apply::update(shape(), &live, &object, managers, &author("c"));
        if let Some(set) = Set::from_json(&fields) {
            prop_assert_eq!(Set::from_json(&set.to_json()), Some(set));
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        "spec|metadata|containers|labels|name|env|finalizers",
        r#"f:spec|f:containers|k:\{"name":"c"\}|v:"x"|i:1|\."#,
    ];
    leaf.prop_recursive(5, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
