//! The schemas of the served kinds, and of what requests carry besides them.

use k8s_openapi::api::{
    authentication::v1 as authentication, autoscaling::v1 as autoscaling, core::v1 as core,
    policy::v1 as policy,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::{JsonSchema, SchemaGenerator};

/// Adds a type's schema, and those it refers to, to a generator.
type Add = fn(&mut SchemaGenerator);

/// Bodies of requests and answers that aren't objects of the store.
const OTHERS: &[Add] = &[
    add::<meta::DeleteOptions>,
    add::<meta::ListMeta>,
    add::<meta::Patch>,
    add::<meta::Status>,
    add::<authentication::TokenRequest>,
    add::<autoscaling::Scale>,
    add::<core::Binding>,
    add::<policy::Eviction>,
];

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

/// Adds every type that the documents need.
pub(crate) fn add_all(generator: &mut SchemaGenerator) {
    for kind in kinds::all() {
        kind.add_schema(generator);
    }
    for add in OTHERS {
        add(generator);
    }
}
