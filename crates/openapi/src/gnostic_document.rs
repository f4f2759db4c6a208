//! From the v2 document as JSON to the same as protobuf.

use prost::Message;
use serde_json::{Map, Value};

use crate::gnostic::{
    AdditionalProperties, Any, BodyParameter, Document, Info, Items, NamedAny, NamedPathItem, NamedResponse,
    NamedSchema, NamedSchemas, NonBodyKind, NonBodyParameter, Operation, Parameter, ParameterKind,
    ParametersItem, PathItem, PathParameter, Paths, QueryParameter, Response, ResponseValue, Responses,
    Schema, SchemaItem, Texts,
};

/// Encodes a v2 document.
pub(crate) fn encode(document: &Value) -> Vec<u8> {
    let paths = entries(document, "paths").map(|(name, item)| NamedPathItem {
        name: name.clone(),
        value: Some(path_item(item)),
    });
    let info = &document["info"];
    Document {
        swagger: text(document, "swagger"),
        info: Some(Info {
            title: text(info, "title"),
            version: text(info, "version"),
        }),
        paths: Some(Paths {
            path: paths.collect(),
        }),
        definitions: Some(named_schemas(document, "definitions")),
    }
    .encode_to_vec()
}

fn entries<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(field).and_then(Value::as_object).into_iter().flatten()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, field: &str) -> String {
    value
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    list(value, field)
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn flag(value: &Value, field: &str) -> bool {
    value.get(field).and_then(Value::as_bool).unwrap_or_default()
}

fn named_schemas(value: &Value, field: &str) -> NamedSchemas {
    let schemas = entries(value, field).map(|(name, value)| NamedSchema {
        name: name.clone(),
        value: Some(schema(value)),
    });
    NamedSchemas {
        additional_properties: schemas.collect(),
    }
}

fn schema(value: &Value) -> Schema {
    let has = |field: &str| value.get(field).is_some();
    Schema {
        reference: text(value, "$ref"),
        format: text(value, "format"),
        description: text(value, "description"),
        required: texts(value, "required"),
        additional_properties: value.get("additionalProperties").map(|value| {
            Box::new(AdditionalProperties {
                schema: Some(Box::new(schema(value))),
            })
        }),
        ty: has("type").then(|| Texts {
            value: vec![text(value, "type")],
        }),
        items: value.get("items").map(|items| Items {
            schema: vec![schema(items)],
        }),
        properties: has("properties").then(|| named_schemas(value, "properties")),
        vendor_extension: extensions(value),
    }
}

/// Fields named `x-…`. JSON is YAML, so it goes in as it is.
fn extensions(value: &Value) -> Vec<NamedAny> {
    let fields = value.as_object().map(Map::iter).into_iter().flatten();
    fields
        .filter(|(name, _)| name.starts_with("x-"))
        .map(|(name, value)| NamedAny {
            name: name.clone(),
            value: Some(Any {
                yaml: format!("{value}\n"),
            }),
        })
        .collect()
}

fn path_item(item: &Value) -> PathItem {
    let operation = |method: &str| item.get(method).map(operation);
    PathItem {
        get: operation("get"),
        put: operation("put"),
        post: operation("post"),
        delete: operation("delete"),
        patch: operation("patch"),
        parameters: list(item, "parameters").map(parameter).collect(),
    }
}

fn operation(value: &Value) -> Operation {
    let responses = entries(value, "responses").map(|(name, response)| NamedResponse {
        name: name.clone(),
        value: Some(ResponseValue {
            response: Some(Response {
                description: text(response, "description"),
                schema: response.get("schema").map(|value| SchemaItem {
                    schema: Some(schema(value)),
                }),
            }),
        }),
    });
    Operation {
        tags: texts(value, "tags"),
        description: text(value, "description"),
        operation_id: text(value, "operationId"),
        produces: texts(value, "produces"),
        consumes: texts(value, "consumes"),
        parameters: list(value, "parameters").map(parameter).collect(),
        responses: Some(Responses {
            response_code: responses.collect(),
        }),
        schemes: texts(value, "schemes"),
        vendor_extension: extensions(value),
    }
}

fn parameter(value: &Value) -> ParametersItem {
    let (name, place, description) = (text(value, "name"), text(value, "in"), text(value, "description"));
    let ty = text(value, "type");
    let kind = match place.as_str() {
        "body" => ParameterKind::Body(BodyParameter {
            name,
            place,
            required: flag(value, "required"),
            schema: value.get("schema").map(schema),
        }),
        "path" => ParameterKind::NonBody(NonBodyParameter {
            kind: Some(NonBodyKind::Path(PathParameter {
                required: true,
                place,
                description,
                name,
                ty,
            })),
        }),
        _ => ParameterKind::NonBody(NonBodyParameter {
            kind: Some(NonBodyKind::Query(QueryParameter {
                place,
                description,
                name,
                ty,
            })),
        }),
    };
    ParametersItem {
        parameter: Some(Parameter { kind: Some(kind) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2;

    #[test]
    fn the_protobuf_document_says_what_the_json_one_does() {
        let json = v2::document(&[]);
        let decoded = Document::decode(encode(&json).as_slice()).unwrap();
        let definitions = decoded.definitions.unwrap().additional_properties;
        assert_eq!(definitions.len(), json["definitions"].as_object().unwrap().len());
        let pod_spec = definitions
            .iter()
            .find(|d| d.name == "io.k8s.api.core.v1.PodSpec")
            .unwrap();
        let pod_spec = pod_spec.value.as_ref().unwrap();
        assert_eq!(pod_spec.required, ["containers"]);
        let properties = &pod_spec.properties.as_ref().unwrap().additional_properties;
        let containers = properties
            .iter()
            .find(|p| p.name == "containers")
            .unwrap()
            .value
            .as_ref()
            .unwrap();
        assert_eq!(containers.ty.as_ref().unwrap().value, ["array"]);
        assert_eq!(
            containers.items.as_ref().unwrap().schema[0].reference,
            "#/definitions/io.k8s.api.core.v1.Container"
        );
        assert!(containers.vendor_extension.iter().any(|extension| {
            extension.name == "x-kubernetes-patch-merge-key"
                && extension.value.as_ref().unwrap().yaml == "\"name\"\n"
        }));
    }

    #[test]
    fn nothing_of_version_3_is_left() {
        let text = v2::document(&[]).to_string();
        for word in [
            "components/schemas",
            // As words of a schema; properties of these names are in the schema of schemas.
            "\"allOf\":[",
            "\"oneOf\":[",
            "\"x-kubernetes-int-or-string\":true",
        ] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
