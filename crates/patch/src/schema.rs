//! What the API's types say about merging: which lists merge and by which key, which maps are replaced whole.
//!
//! Two vocabularies are kept side by side, because Kubernetes has both. The *patch strategy* (one merge key)
//! governs strategic merge patches. The *list and map types* (one or more map keys) govern server-side apply
//! and are published for clients.

use crate::facts::TYPES;

/// A type of the API, by the name of its OpenAPI definition.
#[derive(Debug)]
pub struct Type {
    /// Definition name, as in `io.k8s.api.core.v1.PodSpec`.
    pub name: &'static str,
    /// The fields that the table knows something about.
    pub fields: &'static [Field],
    /// Whether objects of this type are replaced whole by server-side apply.
    pub map_atomic: bool,
}

/// A field of a type.
#[derive(Debug)]
pub struct Field {
    /// Name, as in `containers`.
    pub name: &'static str,
    /// Definition name of the field's own type, or of its elements', where that type's fields matter.
    of: Option<&'static str>,
    /// Whether a strategic merge patch merges this list instead of replacing it.
    pub merges: bool,
    /// The key by which such a list's objects are matched; none for a set of scalars.
    pub merge_key: Option<&'static str>,
    /// Whether clients send `$retainKeys` for the field's objects, for unions.
    pub retain_keys: bool,
    /// How server-side apply treats the list.
    pub list: Option<List>,
    /// A key of such a list that may be left out, and what it is then.
    pub key_default: Option<(&'static str, &'static str)>,
    /// Whether server-side apply replaces this map whole.
    pub map_atomic: bool,
}

/// How server-side apply treats a list (`x-kubernetes-list-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Replaced whole.
    Atomic,
    /// Scalars, each once.
    Set,
    /// Objects, matched by these keys together.
    Map(&'static [&'static str]),
}

impl Type {
    pub(crate) const fn atomic(mut self) -> Type {
        self.map_atomic = true;
        self
    }

    /// A field that the table knows.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Field {
    /// The field's own type, or its elements', where the table knows more about it.
    pub fn ty(&self) -> Option<&'static Type> {
        self.of.and_then(find)
    }

    pub(crate) const fn of(mut self, ty: &'static str) -> Field {
        self.of = Some(ty);
        self
    }

    pub(crate) const fn merge_by(mut self, key: &'static str) -> Field {
        self.merges = true;
        self.merge_key = Some(key);
        self
    }

    pub(crate) const fn merge_set(mut self) -> Field {
        self.merges = true;
        self
    }

    pub(crate) const fn retain_keys(mut self) -> Field {
        self.retain_keys = true;
        self
    }

    pub(crate) const fn list_map(mut self, keys: &'static [&'static str]) -> Field {
        self.list = Some(List::Map(keys));
        self
    }

    pub(crate) const fn key_default(mut self, key: &'static str, value: &'static str) -> Field {
        self.key_default = Some((key, value));
        self
    }

    pub(crate) const fn list_set(mut self) -> Field {
        self.list = Some(List::Set);
        self
    }

    pub(crate) const fn list_atomic(mut self) -> Field {
        self.list = Some(List::Atomic);
        self
    }

    pub(crate) const fn map_atomic(mut self) -> Field {
        self.map_atomic = true;
        self
    }
}

pub(crate) const fn ty(name: &'static str, fields: &'static [Field]) -> Type {
    Type {
        name,
        fields,
        map_atomic: false,
    }
}

pub(crate) const fn field(name: &'static str) -> Field {
    Field {
        name,
        of: None,
        merges: false,
        merge_key: None,
        retain_keys: false,
        list: None,
        key_default: None,
        map_atomic: false,
    }
}

/// The type with this definition name, if the table knows something about it.
pub fn find(name: &str) -> Option<&'static Type> {
    let found = |types: &'static [Type]| {
        let index = types.binary_search_by(|ty| ty.name.cmp(name)).ok()?;
        Some(&types[index])
    };
    TYPES.iter().copied().find_map(found)
}

/// Every type that the table knows, ordered by name.
pub fn types() -> impl Iterator<Item = &'static Type> {
    TYPES.iter().copied().flatten()
}

/// The OpenAPI definition name of a kind, as in `io.k8s.api.apps.v1.Deployment`: the group's first label
/// (`core` where it is empty), version and kind.
pub fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let package = match group.split('.').next() {
        None | Some("") => "core",
        Some("apiextensions") => {
            return format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}");
        }
        Some(first) => first,
    };
    format!("io.k8s.api.{package}.{version}.{kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_in_order_for_the_look_up() {
        assert!(types().is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn every_type_that_a_field_leads_to_is_in_the_table() {
        for field in types().flat_map(|ty| ty.fields) {
            assert_eq!(field.of, field.ty().map(|ty| ty.name), "{}", field.name);
        }
    }

    #[test]
    fn merge_keys_are_among_the_map_keys() {
        for (ty, field) in types().flat_map(|ty| ty.fields.iter().map(move |field| (ty, field))) {
            if let (Some(key), Some(List::Map(keys))) = (field.merge_key, field.list) {
                assert!(keys.contains(&key), "{}.{}", ty.name, field.name);
            }
        }
    }

    #[test]
    fn definition_names_are_kubernetes_own() {
        assert_eq!(definition_name("", "v1", "Pod"), "io.k8s.api.core.v1.Pod");
        assert_eq!(
            definition_name("apps", "v1", "Deployment"),
            "io.k8s.api.apps.v1.Deployment"
        );
        assert_eq!(
            definition_name("coordination.k8s.io", "v1", "Lease"),
            "io.k8s.api.coordination.v1.Lease"
        );
    }
}
