//! Kinds that CustomResourceDefinitions make: entries that are built while the server runs.
//!
//! ```text
//! CustomResourceDefinition ─► Definition ─► a Custom for each served version ─► Kind
//!                                            schema ─► prune ─► fill in defaults ─► validate
//! ```
//!
//! Objects are kept in the storage version, and read in any: between versions only `apiVersion` changes, and
//! what the other schema doesn't know goes (the conversion strategy `None`).

mod columns;
mod defaults;
pub(crate) mod expression;
mod formats;
mod numbers;
mod parts;
pub(crate) mod path;
mod prune;
pub(crate) mod rules;
pub(crate) mod schema;
pub(crate) mod validate;

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::check::errors::{Errors, Field};
use crate::json::{at, list, text};
use crate::kind::{Column, DecodeError, Decoded, FieldText, Kind, Scale};

use columns::Printer;
use schema::Schema;
use validate::Patterns;

pub(crate) use defaults::fill;
pub(crate) use prune::prune_part;

/// A custom kind in one version.
#[derive(Debug)]
pub(crate) struct Custom {
    definition: Arc<Definition>,
    /// Which of the definition's versions this is.
    version: usize,
}

/// What a CustomResourceDefinition says.
#[derive(Debug)]
struct Definition {
    group: String,
    names: Names,
    namespaced: bool,
    versions: Vec<Version>,
    /// The version that objects are kept in.
    storage: usize,
    terminating: bool,
}

/// The names that a kind has got.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
}

#[derive(Debug)]
struct Version {
    name: String,
    schema: Value,
    patterns: Patterns,
    programs: rules::Programs,
    has_status: bool,
    /// Pointers to replicas wanted and observed, and to the selector.
    scale: Option<[String; 3]>,
    columns: Vec<Printer>,
    /// Selectable fields: the label, and the path.
    fields: Vec<(String, Vec<String>)>,
    deprecation: Option<String>,
}

/// The kinds that a CustomResourceDefinition makes: one for each served version, preferred first; none until
/// it is established.
pub fn kinds_of(definition: &Value) -> Vec<Kind> {
    let versions = list(definition, "/spec/versions");
    let mut served: Vec<usize> = (0..versions.len())
        .filter(|index| versions[*index]["served"] == true)
        .collect();
    let name = |index: &usize| text(&versions[*index], "/name");
    served.sort_by(|a, b| compare_versions(name(a), name(b)));
    made(definition, |_| served)
}

/// The kind of a definition that its objects are kept in, served or not.
pub fn kept_kind_of(definition: &Value) -> Option<Kind> {
    made(definition, |storage| vec![storage]).pop()
}

fn made(definition: &Value, which: impl FnOnce(usize) -> Vec<usize>) -> Vec<Kind> {
    let versions = list(definition, "/spec/versions");
    let storage = versions.iter().position(|version| version["storage"] == true);
    let Some(storage) = storage.filter(|_| is_established(definition)) else {
        return Vec::new();
    };
    let definition = Arc::new(Definition {
        group: text(definition, "/spec/group").to_owned(),
        names: names(&definition["status"]["acceptedNames"]),
        namespaced: text(definition, "/spec/scope") == "Namespaced",
        versions: versions
            .iter()
            .map(|version| self::version(definition, version))
            .collect(),
        storage,
        terminating: at(definition, "/metadata/deletionTimestamp").is_some(),
    });
    let custom = |version| Custom {
        definition: definition.clone(),
        version,
    };
    which(storage)
        .into_iter()
        .map(custom)
        .map(Kind::of_custom)
        .collect()
}

/// Which of two versions clients prefer: `v2` to `v1`, to `v1beta2`, to `v1alpha1`, to all others.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    priority(b).cmp(&priority(a))
}

fn is_established(definition: &Value) -> bool {
    let mut conditions = list(definition, "/status/conditions").iter();
    conditions.any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

fn names(names: &Value) -> Names {
    let name = |field: &str| text(names, field).to_owned();
    let texts = |field: &str| {
        list(names, field)
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    Names {
        plural: name("/plural"),
        singular: name("/singular"),
        kind: name("/kind"),
        list_kind: name("/listKind"),
        short_names: texts("/shortNames"),
        categories: texts("/categories"),
    }
}

fn version(definition: &Value, version: &Value) -> Version {
    let name = text(version, "/name").to_owned();
    let schema = at(version, "/schema/openAPIV3Schema")
        .cloned()
        .unwrap_or_else(|| Value::Object(Map::new()));
    let mut programs = rules::Programs::new();
    rules::programs(&schema, &mut programs);
    let pointer = |scale: &Value, field: &str| text(scale, field).replace('.', "/");
    let default_warning = || {
        let group = text(definition, "/spec/group");
        format!(
            "{group}/{name} {} is deprecated",
            text(definition, "/spec/names/kind")
        )
    };
    let deprecation = (version["deprecated"] == true).then(|| match at(version, "/deprecationWarning") {
        Some(warning) => warning.as_str().unwrap_or_default().to_owned(),
        None => default_warning(),
    });
    let field = |field: &Value| {
        let label = text(field, "/jsonPath").trim_start_matches('.').to_owned();
        let path = label.split('.').map(str::to_owned).collect();
        (label, path)
    };
    Version {
        deprecation,
        patterns: Patterns::of(&schema),
        schema,
        programs,
        has_status: at(version, "/subresources/status").is_some(),
        scale: at(version, "/subresources/scale").map(|scale| {
            ["/specReplicasPath", "/statusReplicasPath", "/labelSelectorPath"]
                .map(|field| pointer(scale, field))
        }),
        columns: list(version, "/additionalPrinterColumns")
            .iter()
            .map(Printer::new)
            .collect(),
        fields: list(version, "/selectableFields").iter().map(field).collect(),
        name,
    }
}

/// How much a version is preferred.
fn priority(version: &str) -> (u8, u64, u64, Reverse<String>) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u64 = rest[..end].parse().ok()?;
        let (stability, minor) = match &rest[end..] {
            "" => (3, 0),
            rest if rest.starts_with("beta") => (2, rest[4..].parse().ok()?),
            rest if rest.starts_with("alpha") => (1, rest[5..].parse().ok()?),
            _ => return None,
        };
        Some((stability, major, minor, Reverse(String::new())))
    };
    parse().unwrap_or_else(|| (0, 0, 0, Reverse(version.to_owned())))
}

impl Custom {
    fn own(&self) -> &Version {
        &self.definition.versions[self.version]
    }

    fn kept(&self) -> &Version {
        &self.definition.versions[self.definition.storage]
    }

    pub(crate) fn group(&self) -> &str {
        &self.definition.group
    }

    pub(crate) fn version(&self) -> &str {
        &self.own().name
    }

    pub(crate) fn names(&self) -> &Names {
        &self.definition.names
    }

    pub(crate) fn namespaced(&self) -> bool {
        self.definition.namespaced
    }

    pub(crate) fn is_terminating(&self) -> bool {
        self.definition.terminating
    }

    pub(crate) fn has_status(&self) -> bool {
        self.own().has_status
    }

    pub(crate) fn deprecation(&self) -> Option<&str> {
        self.own().deprecation.as_deref()
    }

    pub(crate) fn scale(&self) -> Option<Scale<'_>> {
        let [spec_replicas, status_replicas, selector] = self.own().scale.as_ref()?;
        Some(Scale {
            spec_replicas,
            status_replicas,
            selector,
        })
    }

    pub(crate) fn schema(&self) -> &Value {
        &self.own().schema
    }

    pub(crate) fn fields(&self) -> Vec<(&str, FieldText)> {
        let fields = self.own().fields.iter();
        fields
            .map(|(label, path)| (label.as_str(), FieldText::Path(path.clone())))
            .collect()
    }

    /// Reads the metadata, drops what the schema doesn't know, and says so.
    pub(crate) fn decode(&self, object: &Value) -> Result<Decoded, DecodeError> {
        if !object.is_object() {
            return Err(DecodeError {
                path: String::new(),
                message: "it is not an object".to_owned(),
            });
        }
        let schema = Schema(self.schema());
        let mut object = object.clone();
        let mut unknown = prune::prune(schema, &mut object);
        unknown.extend(parts::read_metadata(schema, &mut object, "", true)?);
        if object.get("metadata").is_none_or(Value::is_null) {
            object["metadata"] = Value::Object(Map::new());
        }
        Ok(Decoded { object, unknown })
    }

    pub(crate) fn default(&self, object: &mut Value) {
        fill(Schema(self.schema()), object);
    }

    pub(crate) fn validate(&self, errors: &mut Errors, new: &Value, old: Option<&Value>) {
        let (schema, root) = (Schema(self.schema()), Field::root());
        // Metadata isn't the schema's business, but for its name.
        validate::value(errors, &self.own().patterns, schema, &root, new, old);
        self.replicas(errors, new);
        parts::resources(errors, schema, &root, new);
        let unique = |object| {
            let mut errors = Errors::default();
            parts::unique(&mut errors, schema, &root, object);
            errors
        };
        if old.is_none_or(|old| unique(old).is_empty()) {
            errors.extend(unique(new));
        }
        self.rules(errors, new, old);
    }

    /// Rules aren't run on what they may not understand.
    fn rules(&self, errors: &mut Errors, new: &Value, old: Option<&Value>) {
        let programs = &self.own().programs;
        if programs.is_empty() {
            return;
        }
        if errors.prevent_rules() {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            return errors.invalid(&Field::nowhere(), Value::Null, detail);
        }
        rules::validate(errors, programs, Schema(self.schema()), new, old);
    }

    /// Replicas are whole numbers that a Scale can hold.
    fn replicas(&self, errors: &mut Errors, object: &Value) {
        let Some(scale) = self.scale() else { return };
        for pointer in [scale.spec_replicas, scale.status_replicas] {
            let path = Field::root().child(&pointer.replace('/', "."));
            match at(object, pointer) {
                None => {}
                Some(replicas) => match replicas.as_i64() {
                    None => {
                        let detail = "accessor error: replicas must be an integer";
                        errors.invalid(&path, replicas.clone(), detail);
                    }
                    Some(replicas) if replicas < 0 => {
                        errors.invalid(&path, replicas, "should be a non-negative integer");
                    }
                    Some(replicas) if replicas > i64::from(i32::MAX) => {
                        let detail = format!("should be less than or equal to {}", i32::MAX);
                        errors.invalid(&path, replicas, &detail);
                    }
                    Some(_) => {}
                },
            }
        }
    }

    pub(crate) fn columns(&self) -> Vec<Column<'_>> {
        columns::columns(&self.own().columns)
    }

    pub(crate) fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        columns::row(&self.own().columns, object, now)
    }

    /// What was written by other rules appears as it would be written today.
    pub(crate) fn read_kept(&self, mut object: Value) -> Value {
        let kept = Schema(&self.kept().schema);
        prune::prune(kept, &mut object);
        fill(kept, &mut object);
        if self.version != self.definition.storage {
            prune::prune(Schema(self.schema()), &mut object);
        }
        set_version(&mut object, self.group(), self.version());
        object
    }

    pub(crate) fn write_kept(&self, mut object: Value) -> Value {
        if self.version != self.definition.storage {
            prune::prune(Schema(&self.kept().schema), &mut object);
        }
        set_version(&mut object, self.group(), &self.kept().name);
        object
    }
}

fn set_version(object: &mut Value, group: &str, version: &str) {
    object["apiVersion"] = format!("{group}/{version}").into();
}
