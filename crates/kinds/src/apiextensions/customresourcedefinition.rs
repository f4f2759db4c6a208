//! CustomResourceDefinition.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::{approval, spec};
use crate::check::errors::{Errors, Field};
use crate::columns::{self, column};
use crate::decode;
use crate::entry::Entry;
use crate::json::{at, list, list_mut, object_mut, set, set_default, set_default_text, text};
use crate::kind::{DecodeError, Decoded, Generation};

pub(crate) const KIND: Entry = Entry {
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    status: true,
    generation: Generation::Content,
    decode,
    default,
    prepare,
    rules,
    columns: &[
        columns::NAME,
        column("Created At", "date", "When the definition was created."),
    ],
    row: |definition, _| {
        let created = text(definition, "/metadata/creationTimestamp");
        vec![columns::name(definition), created.into()]
    },
    ..Entry::cluster::<CustomResourceDefinition>("customresourcedefinition")
};

fn decode(raw: &Value) -> Result<Decoded, DecodeError> {
    let mut decoded = decode::typed::<CustomResourceDefinition>(raw)?;
    let raw = list(raw, "/spec/versions").iter();
    for (version, raw) in list_mut(&mut decoded.object, "/spec/versions").zip(raw) {
        if let (Some(schema), Some(raw)) = (
            version.pointer_mut("/schema/openAPIV3Schema"),
            at(raw, "/schema/openAPIV3Schema"),
        ) {
            restore(schema, raw);
        }
    }
    Ok(decoded)
}

/// Words whose values are any JSON.
const AS_WRITTEN: [&str; 3] = ["default", "enum", "example"];
/// Words whose values are numbers of any kind.
const NUMBERS: [&str; 3] = ["maximum", "minimum", "multipleOf"];
/// Up to here every whole number has a form of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What the type makes of a schema loses empty lists in defaults, and gives whole numbers a fraction.
fn restore(schema: &mut Value, raw: &Value) {
    for word in AS_WRITTEN {
        if let Some(value) = at(raw, &format!("/{word}")) {
            set(schema, word, value.clone());
        }
    }
    for word in NUMBERS {
        let number = at(schema, &format!("/{word}")).and_then(Value::as_f64);
        if let Some(whole) = number.filter(|number| number.fract() == 0.0 && number.abs() < EXACT) {
            set(schema, word, whole as i64);
        }
    }
    for word in ["items", "not", "additionalProperties"] {
        if let (Some(schema), Some(raw)) = (schema.get_mut(word), raw.get(word))
            && schema.is_object()
        {
            restore(schema, raw);
        }
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        let pointer = format!("/{word}");
        for (schema, raw) in list_mut(schema, &pointer).zip(list(raw, &pointer)) {
            restore(schema, raw);
        }
    }
    for (name, property) in object_mut(schema, "/properties").into_iter().flatten() {
        if let Some(raw) = raw["properties"].get(name) {
            restore(property, raw);
        }
    }
}

fn default(definition: &mut Value) {
    set_default(definition, "spec", json!({}));
    let spec = &mut definition["spec"];
    let kind = text(spec, "/names/kind").to_owned();
    if let Some(names) = spec.get_mut("names") {
        set_default_text(names, "singular", &kind.to_lowercase());
        if !kind.is_empty() {
            set_default_text(names, "listKind", &format!("{kind}List"));
        }
    }
    set_default(spec, "conversion", json!({ "strategy": "None" }));
    set_default(definition, "status", json!({}));
    if list(definition, "/status/storedVersions").is_empty()
        && let Some(version) = storage_version(definition)
    {
        definition["status"]["storedVersions"] = json!([version]);
    }
    let names = json!({ "kind": "", "plural": "" });
    set_default(&mut definition["status"], "acceptedNames", names);
}

fn storage_version(definition: &Value) -> Option<&str> {
    let mut versions = list(definition, "/spec/versions").iter();
    let storage = versions.find(|version| version["storage"] == true)?;
    storage["name"].as_str()
}

/// A version that objects are kept in from now on has been a storage version.
fn prepare(new: &mut Value, old: Option<&Value>) {
    let Some(version) = storage_version(new).map(str::to_owned).filter(|_| old.is_some()) else {
        return;
    };
    let mut stored = list(new, "/status/storedVersions").to_vec();
    if !stored.iter().any(|stored| *stored == version) {
        stored.push(version.into());
        new["status"]["storedVersions"] = stored.into();
    }
}

fn rules(errors: &mut Errors, definition: &Value, old: Option<&Value>) {
    let group = text(definition, "/spec/group");
    let name = text(definition, "/metadata/name");
    if name != format!("{}.{group}", text(definition, "/spec/names/plural")) {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.invalid(&Field::root().child("metadata").child("name"), name, detail);
    }
    spec::rules(errors, definition, old);
    if old.is_some() {
        stored_versions(errors, definition);
    }
    approval::rules(errors, definition, old);
}

/// No version goes while objects may still be kept in it.
fn stored_versions(errors: &mut Errors, definition: &Value) {
    let path = Field::root().child("status").child("storedVersions");
    let stored = list(definition, "/status/storedVersions");
    let versions = list(definition, "/spec/versions");
    if let Some(storage) = storage_version(definition)
        && !stored.iter().any(|version| version == storage)
    {
        let detail = format!("must have the storage version {storage}");
        errors.invalid(&path, stored.to_vec(), &detail);
    }
    for (index, version) in stored.iter().enumerate() {
        if !versions.iter().any(|known| known["name"] == *version) {
            let name = version.as_str().unwrap_or_default();
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.invalid(&path.index(index), name, &detail);
        }
    }
}
