//! `metadata.managedFields`: who owns which fields.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::set::Set;

/// More updaters than this aren't told apart: the oldest share an entry.
const MAX_UPDATERS: usize = 10;
/// Whose entry that is.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By applying them: what it no longer applies goes, if nobody else owns it.
    Apply,
    /// By creating or changing them in any other way.
    Update,
}

/// A manager, as entries of `managedFields` tell them apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    operation: Operation,
    name: String,
    /// Empty for appliers: they stay who they are when they apply another version.
    api_version: String,
    subresource: String,
}

impl Manager {
    pub(crate) fn new(operation: Operation, name: &str, api_version: &str, subresource: &str) -> Manager {
        let api_version = match operation {
            Operation::Apply => "",
            Operation::Update => api_version,
        };
        Manager {
            operation,
            name: name.to_owned(),
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

/// As conflicts name it: `"kubectl" with subresource "status" using apps/v1`.
impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

/// What a manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) fields: Set,
    pub(crate) api_version: String,
    pub(crate) time: Option<String>,
}

/// The managers of an object. None of them owns nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managers(pub(crate) BTreeMap<Manager, Owned>);

impl Managers {
    /// Whether nobody owns anything: the object's fields aren't tracked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads `managedFields`; None where a part of it isn't what it should be.
    pub fn from_json(entries: &Value) -> Option<Managers> {
        let mut managers = BTreeMap::new();
        for entry in entries.as_array()? {
            let text = |field: &str| entry[field].as_str().unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            if !matches!(text("fieldsType"), "FieldsV1" | "") {
                return None;
            }
            let fields = match entry.get("fieldsV1") {
                None | Some(Value::Null) => Set::default(),
                Some(fields) => Set::from_json(fields)?,
            };
            if fields.is_empty() {
                continue;
            }
            let version = text("apiVersion");
            let manager = Manager::new(operation, text("manager"), version, text("subresource"));
            let owned = Owned {
                fields,
                api_version: version.to_owned(),
                time: entry["time"].as_str().map(str::to_owned),
            };
            managers.insert(manager, owned);
        }
        Some(Managers(managers))
    }

    /// Writes `managedFields`: appliers first, then by age and name.
    pub fn to_json(&self) -> Value {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by(|(a, owned_a), (b, owned_b)| {
            let key = |manager: &Manager| (manager.name.clone(), manager.api_version.clone());
            a.operation
                .cmp(&b.operation)
                .then_with(|| owned_a.time.cmp(&owned_b.time))
                .then_with(|| key(a).cmp(&key(b)))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        entries
            .into_iter()
            .map(|(manager, owned)| entry(manager, owned))
            .collect()
    }

    /// Whether the same managers own the same fields, whenever they got them.
    pub fn same_owners(&self, other: &Managers) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|(manager, owned)| {
                other
                    .0
                    .get(manager)
                    .is_some_and(|o| o.fields == owned.fields && o.api_version == owned.api_version)
            })
    }

    pub(crate) fn forget_those_without_fields(&mut self) {
        self.0.retain(|_, owned| !owned.fields.is_empty());
    }

    /// Lets the oldest updaters share an entry when there are too many.
    pub(crate) fn cap(&mut self) {
        loop {
            let mut updaters: Vec<_> = self
                .0
                .iter()
                .filter(|(manager, _)| manager.operation == Operation::Update)
                .map(|(manager, owned)| (owned.time.clone(), manager.clone()))
                .collect();
            if updaters.len() <= MAX_UPDATERS {
                return;
            }
            updaters.sort();
            // Only fields of one version can be put together.
            let pair = updaters.iter().enumerate().find_map(|(index, (_, first))| {
                let second = updaters[index + 1..]
                    .iter()
                    .find(|(_, second)| second.api_version == first.api_version)?;
                Some((first.clone(), second.1.clone()))
            });
            let Some((first, second)) = pair else { return };
            self.share(&first, &second);
        }
    }

    fn share(&mut self, first: &Manager, second: &Manager) {
        let (Some(a), Some(b)) = (self.0.remove(first), self.0.remove(second)) else {
            return;
        };
        let together = Owned {
            fields: a.fields.union(b.fields),
            // The second is the younger one.
            ..b
        };
        let ancient = Manager::new(Operation::Update, ANCIENT, &together.api_version, "");
        match self.0.get_mut(&ancient) {
            Some(owned) => owned.fields = std::mem::take(&mut owned.fields).union(together.fields),
            None => _ = self.0.insert(ancient, together),
        }
    }
}

fn entry(manager: &Manager, owned: &Owned) -> Value {
    let mut entry = json!({
        "manager": manager.name,
        "operation": match manager.operation { Operation::Apply => "Apply", Operation::Update => "Update" },
        "apiVersion": owned.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned.fields.to_json(),
    });
    if let Some(time) = &owned.time {
        entry["time"] = time.as_str().into();
    }
    if !manager.subresource.is_empty() {
        entry["subresource"] = manager.subresource.as_str().into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize) -> Value {
        let entry = |index: usize| {
            json!({
                "manager": format!("m{index}"), "operation": "Update", "apiVersion": "v1",
                "time": format!("2026-01-01T00:00:{index:02}Z"),
                "fieldsType": "FieldsV1", "fieldsV1": { "f:data": { format!("f:k{index}"): {} } },
            })
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn the_oldest_updaters_share_an_entry() {
        let mut managers = Managers::from_json(&entries(13)).unwrap();
        managers.cap();
        let json = managers.to_json();
        assert_eq!(json.as_array().unwrap().len(), 10);
        let shared = &json[0];
        assert_eq!(shared["manager"], "ancient-changes");
        assert_eq!(shared["time"], "2026-01-01T00:00:03Z");
        assert_eq!(
            shared["fieldsV1"],
            json!({ "f:data": { "f:k0": {}, "f:k1": {}, "f:k2": {}, "f:k3": {} } })
        );
        assert_eq!(json[9]["manager"], "m12");
    }

    #[test]
    fn managed_fields_are_written_as_they_were_read_and_rubbish_is_none() {
        let json = entries(3);
        assert_eq!(Managers::from_json(&json).unwrap().to_json(), json);
        for rubbish in [
            json!({}),
            json!([{}]),
            json!([{ "operation": "Apply", "fieldsType": "FieldsV2" }]),
            json!([{ "operation": "Apply", "fieldsV1": { "spec": {} } }]),
        ] {
            assert_eq!(Managers::from_json(&rubbish), None, "{rubbish}");
        }
    }
}
