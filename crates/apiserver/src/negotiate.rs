//! What the client wants to get: the `Accept` header.

use http::{HeaderMap, header};

use crate::path::Query;
use crate::status::Failure;

/// The form of objects in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
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

/// The first form that we can give.
pub(crate) fn form(headers: &HeaderMap, query: &Query) -> Result<Form, Failure> {
    for range in ranges(headers).iter().filter(|range| range.is_json()) {
        match (range.parameter("as"), range.parameter("g")) {
            ("", _) => return Ok(Form::Objects),
            ("Table", "meta.k8s.io") => return include(query).map(Form::Table),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io") => {
                return Ok(Form::Metadata);
            }
            _ => {}
        }
    }
    Err(Failure::not_acceptable())
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

    #[test]
    fn kubectl_gets_a_table_and_programs_get_objects() {
        let query = Query::default();
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(
            form(&headers(kubectl), &query),
            Ok(Form::Table(Include::Metadata))
        );
        assert_eq!(form(&headers("application/json, */*"), &query), Ok(Form::Objects));
        assert_eq!(form(&HeaderMap::new(), &query), Ok(Form::Objects));
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(form(&headers(metadata), &query), Ok(Form::Metadata));
    }

    #[test]
    fn protobuf_gives_way_to_json_where_the_client_takes_it() {
        let query = Query::default();
        let both = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(form(&headers(both), &query), Ok(Form::Objects));
        let only = form(&headers("application/vnd.kubernetes.protobuf"), &query);
        assert_eq!(only.unwrap_err().code, 406);
    }

    #[test]
    fn discovery_is_aggregated_for_who_asks() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(discovery(&headers(kubectl)), Ok(DiscoveryForm::Aggregated("v2")));
        assert_eq!(discovery(&headers("application/json")), Ok(DiscoveryForm::Plain));
    }
}
