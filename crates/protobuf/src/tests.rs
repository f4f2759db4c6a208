//! Objects there and back, as people write them and at random; and bytes that nobody should send.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::messages::{EVERYWHERE, KINDS};
use crate::table::{Message, Or, Root, Shape, Type, find};
use crate::{Error, List, decode, decode_event, encode, event, wire};

/// Makes objects out of a list of random bytes: what there is of a message, and which values.
struct Maker<'a>(std::slice::Iter<'a, u8>);

impl Maker<'_> {
    fn pick(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    /// An object as decoding gives it: plain scalars aren't zero, lists and maps not empty.
    fn message(&mut self, of: &Message) -> Map<String, Value> {
        let mut object = Map::new();
        self.fields(of, &mut object);
        object
    }

    fn fields(&mut self, of: &Message, into: &mut Map<String, Value>) {
        for field in of.fields {
            if let (Shape::Inline, Type::Message(inner)) = (field.shape, field.value) {
                self.fields(inner, into);
                continue;
            }
            // Some types have times that must be there.
            let always = field.shape == Shape::Always || matches!(field.value, Type::Time);
            let chosen = always || self.pick() % 4 == 1;
            if !chosen {
                continue;
            }
            let value = match field.shape {
                Shape::List => (0..=self.pick() % 2).map(|_| self.value(field.value)).collect(),
                Shape::Map => {
                    let keys = (0..=self.pick() % 2).map(|n| format!("key-{n}"));
                    let entries: Vec<_> = keys.collect();
                    entries
                        .into_iter()
                        .map(|key| (key, self.value(field.value)))
                        .collect()
                }
                Shape::Optional => match self.pick() % 2 {
                    0 => zero(field.value).unwrap_or_else(|| self.value(field.value)),
                    _ => self.value(field.value),
                },
                _ => self.value(field.value),
            };
            into.insert(field.name.to_owned(), value);
        }
    }

    fn value(&mut self, of: Type) -> Value {
        let number = u32::from(self.pick()) + 1;
        match of {
            Type::String => ["a", "käse", "x.y/z", "\n"][number as usize % 4].into(),
            Type::Bytes => "AAEC/w==".into(),
            Type::Bool => true.into(),
            Type::Int32 => (number as i32 * if number.is_multiple_of(2) { 1 } else { -8_000_000 }).into(),
            Type::Int64 => (i64::from(number) << 40).into(),
            Type::Time => format!("2024-02-{:02}T00:00:00Z", number % 28 + 1).into(),
            Type::MicroTime => format!("2024-02-01T00:00:00.{number:06}Z").into(),
            Type::Quantity => ["100m", "1Gi", "5"][number as usize % 3].into(),
            Type::IntOrString if number.is_multiple_of(2) => number.into(),
            Type::IntOrString => "25%".into(),
            Type::Strings => json!(["a", "b"]),
            Type::Json => json!({ "f:x": { ".": {} } }),
            Type::Double => (f64::from(number) / 4.0 + 0.1).into(),
            Type::SchemaOr(_, Or::Bool) if number.is_multiple_of(2) => false.into(),
            Type::SchemaOr(_, Or::Strings) if number.is_multiple_of(2) => json!(["a"]),
            Type::SchemaOr(message, Or::List) if number.is_multiple_of(2) => json!([self.message(message)]),
            Type::SchemaOr(message, _) | Type::Message(message) => self.message(message).into(),
        }
    }
}

/// A zero that is still there after decoding, in an optional field.
fn zero(of: Type) -> Option<Value> {
    match of {
        Type::String => Some("".into()),
        Type::Bool => Some(false.into()),
        Type::Int32 | Type::Int64 | Type::IntOrString => Some(0.into()),
        _ => None,
    }
}

/// Makes some of what is in an object null, and leaves some out.
fn leave_out<'a>(value: &mut Value, choices: &mut impl Iterator<Item = &'a u8>) {
    match value {
        Value::Object(fields) => {
            // What an object is, is said; and null is no schema, in Go neither.
            fields.retain(|field, value| match field.as_str() {
                "apiVersion" | "kind" | "dependencies" => true,
                _ => match choose(choices) {
                    0 => false,
                    1 => {
                        *value = Value::Null;
                        true
                    }
                    _ => true,
                },
            });
            fields.values_mut().for_each(|value| leave_out(value, choices));
        }
        Value::Array(list) => {
            for value in list {
                match choose(choices) {
                    0 => *value = Value::Null,
                    _ => leave_out(value, choices),
                }
            }
        }
        _ => {}
    }
}

fn choose<'a>(choices: &mut impl Iterator<Item = &'a u8>) -> u8 {
    choices.next().copied().unwrap_or_default() % 8
}

fn typed(api_version: &str, of: &Message, mut object: Map<String, Value>) -> Value {
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), of.name.into());
    object.into()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn every_kind_survives_there_and_back(choices in prop::collection::vec(any::<u8>(), 0..2000)) {
        for (api_version, kinds) in KINDS {
            for of in kinds.iter().chain(EVERYWHERE) {
                let mut maker = Maker(choices.iter());
                let object = typed(api_version, of, maker.message(of));
                prop_assert_eq!(decode(&encode(&object).unwrap(), None).unwrap(), object);
            }
        }
    }

    #[test]
    fn a_served_kind_is_the_same_as_if_it_had_come_as_json(
        choices in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        for kind in kinds::all() {
            let version = format!("{}/{}", kind.group(), kind.version());
            let version = version.trim_start_matches('/');
            let Some(Root::Object(of)) = find(version, kind.kind()) else {
                panic!("{version} {}", kind.kind());
            };
            let object = typed(version, of, Maker(choices.iter()).message(of));
            let as_json = kind.decode(&object).unwrap().object;
            let through = decode(&encode(&as_json).unwrap(), None).unwrap();
            prop_assert_eq!(kind.decode(&through).unwrap().object, as_json);
        }
    }

    #[test]
    fn what_go_writes_as_null_or_leaves_out_is_read_in_any_kind(
        choices in prop::collection::vec(any::<u8>(), 0..2000),
        left_out in prop::collection::vec(any::<u8>(), 1..50),
    ) {
        for kind in kinds::all() {
            let version = kind.api_version();
            let Some(Root::Object(of)) = find(&version, kind.kind()) else {
                panic!("{version} {}", kind.kind());
            };
            let mut object = typed(&version, of, Maker(choices.iter()).message(of));
            leave_out(&mut object, &mut left_out.iter().cycle());
            let as_json = kind.decode(&object);
            prop_assert!(as_json.is_ok(), "{} {object}", as_json.unwrap_err().message);
            let as_json = as_json.unwrap().object;
            // Some zeros are there in protobuf alone.
            let through = decode(&encode(&as_json).unwrap(), None).unwrap();
            prop_assert!(kind.decode(&through).is_ok());
        }
    }

    #[test]
    fn any_bytes_are_an_object_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes, None);
        for (api_version, kinds) in KINDS {
            for of in kinds.iter() {
                let _ = decode(&crate::envelope::close(api_version, of.name, &bytes), None);
            }
        }
        let _ = decode_event(&mut bytes.as_slice());
    }

    #[test]
    fn a_damaged_object_is_an_object_or_an_error(
        place in any::<prop::sample::Index>(),
        byte: u8,
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(&pod()).unwrap();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(object) = decode(&bytes, None) {
            prop_assert_eq!(decode(&encode(&object).unwrap(), None).unwrap(), object);
        }
        bytes.truncate(end.index(bytes.len()));
        let _ = decode(&bytes, None);
    }
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p", "namespace": "default", "labels": { "app": "web" },
            "creationTimestamp": "2024-01-01T00:00:00Z",
        },
        "spec": {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 0,
            "hostNetwork": true,
            "volumes": [
                { "name": "settings", "configMap": { "name": "c", "items": [{ "key": "k", "path": "p" }] } },
                { "name": "scratch", "emptyDir": {} },
                { "name": "all", "projected": { "sources": [{ "secret": { "name": "s", "optional": false } }] } },
            ],
            "containers": [{
                "name": "c", "image": "i",
                "ports": [{ "containerPort": 80, "hostIP": "127.0.0.1" }],
                "env": [
                    { "name": "HERE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
                    { "name": "WORD", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } },
                ],
                "livenessProbe": { "httpGet": { "port": "http" }, "periodSeconds": 10 },
                "resources": { "limits": { "cpu": "500m", "memory": "1Gi" } },
            }],
        },
        "status": { "podIPs": [{ "ip": "10.0.0.1" }], "hostIPs": [{ "ip": "172.30.0.11" }] },
    })
}

#[test]
fn what_json_has_in_place_is_found_and_put_back() {
    assert_eq!(decode(&encode(&pod()).unwrap(), None).unwrap(), pod());
}

#[test]
fn a_go_clients_zeros_are_as_if_they_had_not_been_sent() {
    // What kubectl 1.32 sends for `create deployment d --image=i`.
    let bytes = b"k8s\0\n\x15\n\x07apps/v1\x12\nDeployment\x12\x9b\x01\n\x1b\n\x01d\x12\0\x1a\0\"\0*\x002\x008\0B\0\
        Z\x08\n\x03app\x12\x01d\x12n\x08\x01\x12\n\n\x08\n\x03app\x12\x01d\x1aV\n\x1a\n\0\x12\0\x1a\0\"\0*\x002\0\
        8\0B\0Z\x08\n\x03app\x12\x01d\x128\x12\x1a\n\x01i\x12\x01i*\0B\0j\0r\0\x80\x01\0\x88\x01\0\x90\x01\0\
        \xa2\x01\0\x1a\x002\0B\0J\0R\0X\0`\0h\0\x82\x01\0\x8a\x01\0\x9a\x01\0\xc2\x01\0\"\x02\n\0(\x008\0\x1a\x0c\
        \x08\0\x10\0\x18\0 \0(\x008\0\x1a\0\"\0";
    let expected = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "d", "labels": { "app": "d" } },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "d" } },
            "strategy": {},
            "template": {
                "metadata": { "labels": { "app": "d" } },
                "spec": { "containers": [{ "name": "i", "image": "i", "resources": {} }] },
            },
        },
        "status": {},
    });
    assert_eq!(decode(bytes, None).unwrap(), expected);
}

#[test]
fn a_type_that_is_left_open_is_that_of_the_path() {
    let bytes = b"k8s\0\x12\x05\n\x03\n\x01n";
    assert_eq!(decode(bytes, None), Err(Error::Untyped));
    let found = decode(bytes, Some(("v1", "Namespace"))).unwrap();
    assert_eq!(
        found,
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } })
    );
}

#[test]
fn lists_are_the_same_whole_and_item_by_item() {
    let metadata = json!({ "resourceVersion": "7", "remainingItemCount": 0 });
    let mut list = List::new("v1", "Pod", &metadata).unwrap();
    list.push(&pod()).unwrap();
    list.push(&json!({ "metadata": { "name": "q" } })).unwrap();
    let bytes = list.finish();
    let found = decode(&bytes, None).unwrap();
    assert_eq!(found["metadata"], metadata);
    assert_eq!(found["items"][0]["spec"], pod()["spec"]);
    assert_eq!(
        (&found["kind"], &found["items"][1]["metadata"]["name"]),
        (&"PodList".into(), &"q".into())
    );
    assert_eq!(encode(&found).unwrap(), bytes);
    let empty = List::new("apps/v1", "Deployment", &Value::Null).unwrap().finish();
    assert_eq!(decode(&empty, None).unwrap()["items"], json!([]));
    assert!(List::new("apps/v1", "Pod", &Value::Null).is_err());
}

#[test]
fn events_come_off_a_stream_one_by_one_once_they_are_complete() {
    let stream = [
        event("ADDED", &encode(&pod()).unwrap()),
        event("DELETED", &encode(&pod()).unwrap()),
    ]
    .concat();
    let mut left = &stream[..stream.len() - 1];
    let first = decode_event(&mut left).unwrap().unwrap();
    assert_eq!(first, json!({ "type": "ADDED", "object": pod() }));
    assert_eq!(decode_event(&mut left), Ok(None));
    let mut left = &stream[stream.len() - left.len() - 1..];
    assert_eq!(decode_event(&mut left).unwrap().unwrap()["type"], "DELETED");
    assert_eq!(decode_event(&mut left), Ok(None));
}

#[test]
fn fields_that_come_in_parts_are_merged_and_the_last_of_two_counts() {
    let metadata = |field: u32, text: &str| {
        let (mut metadata, mut raw) = (Vec::new(), Vec::new());
        wire::bytes(field, text.as_bytes(), &mut metadata);
        wire::bytes(1, &metadata, &mut raw);
        raw
    };
    let raw = [metadata(1, "old"), metadata(3, "default"), metadata(1, "new")].concat();
    let found = decode(&crate::envelope::close("v1", "Pod", &raw), None).unwrap();
    assert_eq!(
        found["metadata"],
        json!({ "name": "new", "namespace": "default" })
    );
}

#[test]
fn objects_inside_objects_and_crowds_of_them_have_their_bounds() {
    let mut nested = encode(&pod()).unwrap();
    for _ in 0..100 {
        let (mut data, mut raw) = (Vec::new(), Vec::new());
        wire::bytes(1, &nested, &mut data);
        wire::bytes(2, &data, &mut raw);
        nested = crate::envelope::close("apps/v1", "ControllerRevision", &raw);
    }
    assert_eq!(decode(&nested, None), Err(Error::TooComplex));
    // Empty containers, two bytes each.
    let mut raw = Vec::new();
    wire::bytes(2, &[0x12, 0].repeat(1 << 20), &mut raw);
    let crowd = crate::envelope::close("v1", "Pod", &raw);
    assert_eq!(decode(&crowd, None), Err(Error::TooComplex));
}

#[test]
fn mistakes_say_where_they_are() {
    let text = |error: Error| error.to_string();
    assert!(text(decode(b"{}", None).unwrap_err()).contains("not Kubernetes protobuf"));
    let raw = [0x0a, 3, 0x0a, 1, 0xff];
    let error = decode(&crate::envelope::close("v1", "Pod", &raw), None).unwrap_err();
    assert_eq!(text(error), "ObjectMeta.name: a text isn't UTF-8");
    let error = decode(&crate::envelope::close("v1", "Pod", &[0x08, 1]), None).unwrap_err();
    assert_eq!(text(error), "Pod.metadata: the field has another wire type");
    let error = decode(&crate::envelope::close("v1", "Podd", b""), None).unwrap_err();
    assert_eq!(
        text(error),
        "no kind \"Podd\" in version \"v1\" is known as protobuf"
    );
    let mut wrong = pod();
    wrong["spec"]["hostNetwork"] = "yes".into();
    assert_eq!(
        text(encode(&wrong).unwrap_err()),
        "PodSpec.hostNetwork must be a boolean"
    );
}
