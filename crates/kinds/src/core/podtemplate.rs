//! PodTemplate.

use k8s_openapi::api::core::v1::PodTemplate;
use serde_json::json;

use crate::check::errors::Field;
use crate::columns::{self, column};
use crate::entry::Entry;
use crate::json::set_default;
use crate::kind::Generation;
use crate::{decode, labels, pod};

pub(crate) const KIND: Entry = Entry {
    generation: Generation::Content,
    decode: |raw| {
        let mut decoded = decode::typed::<PodTemplate>(raw)?;
        if let Some(spec) = decoded.object.pointer_mut("/template/spec") {
            pod::quantities::pod_spec(spec, "template.spec")?;
        }
        Ok(decoded)
    },
    default: |object| {
        set_default(object, "template", json!({}));
        pod::defaults::template(&mut object["template"]);
    },
    rules: |errors, object, _| {
        pod::validation::template(errors, &object["template"], &Field::root().child("template"));
    },
    columns: &[
        columns::NAME,
        column("Containers", "string", "Names of each container in the template."),
        column(
            "Images",
            "string",
            "Images referenced by each container in the template.",
        ),
        column("Pod Labels", "string", "The labels of pods made of the template."),
    ],
    row: |object, _| {
        let (names, images) = columns::containers(&object["template"]);
        let labels = labels::format_map(object, "/template/metadata/labels");
        vec![columns::name(object), names, images, labels.into()]
    },
    ..Entry::namespaced::<PodTemplate>("podtemplate")
};
