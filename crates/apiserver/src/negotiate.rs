//! What the client wants to get: the `Accept` header.

use http::{HeaderMap, header};
use kinds::Kind;

use crate::path::Query;
use crate::status::Failure;

/// What objects in a response look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) encoding: Encoding,
}

/// What objects are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Encoding {
    #[default]
    Json,
    Protobuf,
}

/// The form of objects in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Form {
    /// As they are.
    #[default]
    Objects,
    /// Rows for people, as `kubectl get` shows them.
    Table(Include),
    /// Only the metadata.
    Metadata,
}

/// What each row of a table brings of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

/// The form of discovery documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiscoveryForm {
    /// One document a group and version.
    Plain,
    /// Everything at once, as `apidiscovery.k8s.io` in this version.
    Aggregated(&'static str),
}

/// One media range of the header: type and parameters, in lower case except values.
struct Range<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Range<'a> {
        let mut parts = text.split(';').map(str::trim);
        Range {
            media_type: parts.next().unwrap_or_default(),
            parameters: parts.filter_map(|part| part.split_once('=')).collect(),
        }
    }

    fn parameter(&self, name: &str) -> &'a str {
        let found = self.parameters.iter().find(|(n, _)| *n == name);
        found.map_or("", |(_, value)| value.trim_matches('"'))
    }

    fn is_json(&self) -> bool {
        matches!(
            self.media_type,
            "application/json" | "application/*" | "*/*" | "*"
        )
    }

    fn encoding(&self) -> Option<Encoding> {
        if self.is_json() {
            Some(Encoding::Json)
        } else {
            (self.media_type == protobuf::MEDIA_TYPE).then_some(Encoding::Protobuf)
        }
    }
}

/// The header's ranges, in the client's order: the clients of this API list what they prefer first.
fn ranges(headers: &HeaderMap) -> Vec<Range<'_>> {
    let values = headers.get_all(header::ACCEPT).iter();
    let ranges: Vec<_> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| Range::parse(range.trim()))
        .filter(|range| !range.media_type.is_empty())
        .collect();
    if ranges.is_empty() {
        return vec![Range::parse("*/*")];
    }
    ranges
}

/// What the client likes best of what we can give. Tables are JSON, and so are kinds that protobuf has no
/// messages for.
pub(crate) fn accept(headers: &HeaderMap, kind: &Kind, query: &Query) -> Result<Accept, Failure> {
    for range in ranges(headers) {
        let Some(encoding) = range.encoding() else {
            continue;
        };
        let parameters = (range.parameter("as"), range.parameter("g"), range.parameter("v"));
        let form = match (encoding, parameters) {
            (Encoding::Json, ("", ..)) => Form::Objects,
            (Encoding::Protobuf, ("", ..)) if protobuf::knows(&kind.api_version(), kind.kind()) => {
                Form::Objects
            }
            (Encoding::Json, ("Table", "meta.k8s.io", _)) => Form::Table(include(query)?),
            (Encoding::Json, ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", _))
            | (
                Encoding::Protobuf,
                ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1"),
            ) => Form::Metadata,
            _ => continue,
        };
        return Ok(Accept { form, encoding });
    }
    Err(Failure::not_acceptable())
}

/// What the client wants a review to be written in, of which there is no other form, such as a table.
pub(crate) fn encoding_of_whole(headers: &HeaderMap) -> Result<Encoding, Failure> {
    let ranges = ranges(headers);
    let mut whole = ranges.iter().filter(|range| range.parameter("as").is_empty());
    whole
        .find_map(Range::encoding)
        .ok_or_else(Failure::not_acceptable)
}

/// What the client wants a `Status` to be written in.
pub(crate) fn encoding(headers: &HeaderMap) -> Encoding {
    let mut encodings = ranges(headers).into_iter().filter_map(|range| range.encoding());
    encodings.next().unwrap_or_default()
}

fn include(query: &Query) -> Result<Include, Failure> {
    match query.get("includeObject") {
        None | Some("Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(other) => Err(Failure::bad_request(format!(
            "unrecognized includeObject value: {other:?}"
        ))),
    }
}

/// How the client wants discovery.
pub(crate) fn discovery(headers: &HeaderMap) -> Result<DiscoveryForm, Failure> {
    for range in ranges(headers).iter().filter(|range| range.is_json()) {
        match (range.parameter("as"), range.parameter("g"), range.parameter("v")) {
            ("", ..) => return Ok(DiscoveryForm::Plain),
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => {
                return Ok(DiscoveryForm::Aggregated("v2"));
            }
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1") => {
                return Ok(DiscoveryForm::Aggregated("v2beta1"));
            }
            _ => {}
        }
    }
    Err(Failure::not_acceptable())
}

/// Whether the client prefers the protobuf form of OpenAPI v2.
pub(crate) fn wants_openapi_protobuf(headers: &HeaderMap) -> bool {
    let ranges = ranges(headers);
    let first = ranges
        .iter()
        .find(|range| range.is_json() || is_openapi_protobuf(range));
    first.is_some_and(is_openapi_protobuf)
}

fn is_openapi_protobuf(range: &Range<'_>) -> bool {
    range.media_type == "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        || range.media_type == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())])
    }

    fn accepted(accept: &str) -> Result<(Form, Encoding), Failure> {
        let pods = kinds::find("", "v1", "pods").unwrap();
        let accept = super::accept(&headers(accept), pods, &Query::default())?;
        Ok((accept.form, accept.encoding))
    }

    #[test]
    fn kubectl_gets_a_table_and_programs_get_objects() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(
            accepted(kubectl),
            Ok((Form::Table(Include::Metadata), Encoding::Json))
        );
        let objects = Ok((Form::Objects, Encoding::Json));
        assert_eq!(accepted("application/json, */*"), objects);
        assert_eq!(accepted("text/plain, */*"), objects);
        let nothing = accept(
            &HeaderMap::new(),
            kinds::find("", "v1", "pods").unwrap(),
            &Query::default(),
        );
        assert_eq!(nothing, Ok(Accept::default()));
        assert_eq!(accepted("text/plain").unwrap_err().code, 406);
    }

    #[test]
    fn protobuf_is_for_who_asks_for_it_first_and_never_a_table() {
        let protobuf = "application/vnd.kubernetes.protobuf";
        let objects = Ok((Form::Objects, Encoding::Protobuf));
        assert_eq!(accepted(protobuf), objects);
        assert_eq!(accepted(&format!("{protobuf},application/json")), objects);
        let json = accepted(&format!("application/json,{protobuf}"));
        assert_eq!(json, Ok((Form::Objects, Encoding::Json)));
        let table = format!("{protobuf};as=Table;g=meta.k8s.io;v=v1");
        assert_eq!(accepted(&table).unwrap_err().code, 406);
        let metadata = format!("{protobuf};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json");
        assert_eq!(accepted(&metadata), Ok((Form::Metadata, Encoding::Protobuf)));
    }

    #[test]
    fn discovery_is_aggregated_for_who_asks() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(discovery(&headers(kubectl)), Ok(DiscoveryForm::Aggregated("v2")));
        assert_eq!(discovery(&headers("application/json")), Ok(DiscoveryForm::Plain));
    }
}
