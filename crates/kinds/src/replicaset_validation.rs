//! The rules of ReplicaSets.

use serde_json::Value;

use crate::errors::{Errors, Field};
use crate::kind::FieldError;
use crate::{meta_validation, names, workload_validation};

pub(crate) fn validate(set: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta_validation::object(&mut errors, set, old, true, names::subdomain);
    let old = old.map(|old| &old["spec"]);
    workload_validation::workload(&mut errors, &set["spec"], old, &Field::root().child("spec"));
    errors.into_list()
}
