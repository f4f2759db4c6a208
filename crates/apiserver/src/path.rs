//! Request paths and queries.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::status::Failure;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/`.
    Index,
    /// `/healthz`, `/livez`, `/readyz`, and one check below.
    Health {
        what: String,
        check: Option<String>,
    },
    Version,
    /// `/metrics`.
    Metrics,
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1` and `/apis/GROUP/VERSION`.
    Resources {
        group: String,
        version: String,
    },
    /// `/.well-known/openid-configuration`.
    OpenIdConfiguration,
    /// `/openid/v1/jwks`.
    OpenIdKeys,
    /// `/snapshot`.
    Snapshot,
    OpenApiV2,
    OpenApiV3Root,
    /// `/openapi/v3/PATH`.
    OpenApiV3(String),
    Resource(ResourcePath),
    Unknown,
}

/// The path of a resource, with its parts decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) resource: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// What is proxied: the path below `proxy`, as it was sent.
    pub(crate) rest: Option<String>,
}

impl ResourcePath {
    /// The path of a proxy, up to what is proxied.
    pub(crate) fn proxy_base(&self) -> String {
        let namespace = self.namespace.as_ref();
        let namespace = namespace.map(|namespace| format!("namespaces/{namespace}/"));
        format!(
            "/api/{}/{}{}/{}/proxy",
            self.version,
            namespace.unwrap_or_default(),
            self.resource,
            self.name.as_deref().unwrap_or_default()
        )
    }
}

impl Route {
    pub(crate) fn parse(path: &str) -> Route {
        let (path, rest) = split_proxy(path);
        match (Route::parse_own(path), rest) {
            (Route::Resource(path), Some(rest)) => Route::Resource(ResourcePath {
                rest: Some(rest.to_owned()),
                ..path
            }),
            (route, _) => route,
        }
    }

    fn parse_own(path: &str) -> Route {
        let Some(parts) = split(path) else {
            return Route::Unknown;
        };
        let parts: Vec<&str> = parts.iter().map(Cow::as_ref).collect();
        match &parts[..] {
            [] => Route::Index,
            [what @ ("healthz" | "livez" | "readyz"), check @ ..] if check.len() < 2 => Route::Health {
                what: (*what).to_owned(),
                check: check.first().map(|check| (*check).to_owned()),
            },
            ["version"] => Route::Version,
            ["metrics"] => Route::Metrics,
            ["api"] => Route::CoreVersions,
            ["apis"] => Route::Groups,
            ["apis", group] => Route::Group((*group).to_owned()),
            [".well-known", "openid-configuration"] => Route::OpenIdConfiguration,
            ["openid", "v1", "jwks"] => Route::OpenIdKeys,
            ["snapshot"] => Route::Snapshot,
            ["openapi", "v2"] => Route::OpenApiV2,
            ["openapi", "v3"] => Route::OpenApiV3Root,
            ["openapi", "v3", rest @ ..] => Route::OpenApiV3(rest.join("/")),
            ["api", version] => resources("", version),
            ["apis", group, version] => resources(group, version),
            ["api", version, rest @ ..] => resource("", version, rest),
            ["apis", group, version, rest @ ..] => resource(group, version, rest),
            _ => Route::Unknown,
        }
    }
}

/// Cuts a path behind `proxy` of a pod, a Service or a node: what follows is for somebody else to read.
fn split_proxy(path: &str) -> (&str, Option<&str>) {
    let mut parts = Vec::new();
    let mut end = 0;
    for part in path.split_inclusive('/') {
        end += part.len();
        let part = part.trim_end_matches('/');
        if !part.is_empty() {
            parts.push(part);
        }
        match &parts[..] {
            ["api", "v1", "namespaces", _, "pods" | "services", _, "proxy"]
            | ["api", "v1", "nodes", _, "proxy"] => {
                let end = path[..end].trim_end_matches('/').len();
                return (&path[..end], Some(&path[end..]));
            }
            parts if parts.len() > 6 => break,
            _ => {}
        }
    }
    (path, None)
}

/// The decoded segments; empty ones (a doubled or trailing slash) don't count. `None` when a segment isn't
/// UTF-8 or hides a slash: names can't have one, and a key must not be reached by a second spelling.
fn split(path: &str) -> Option<Vec<Cow<'_, str>>> {
    path.split('/')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let part = percent_decode_str(part).decode_utf8().ok()?;
            (!part.contains(['/', '\0'])).then_some(part)
        })
        .collect()
}

fn resources(group: &str, version: &str) -> Route {
    Route::Resources {
        group: group.to_owned(),
        version: version.to_owned(),
    }
}

fn resource(group: &str, version: &str, rest: &[&str]) -> Route {
    let mut path = ResourcePath {
        group: group.to_owned(),
        version: version.to_owned(),
        ..ResourcePath::default()
    };
    let rest = match rest {
        // A namespace's own subresources look like resources in it.
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => rest,
        ["namespaces", namespace, rest @ ..] => {
            path.namespace = Some((*namespace).to_owned());
            rest
        }
        rest => rest,
    };
    let (resource, name, subresource) = match rest {
        [resource] => (resource, None, None),
        [resource, name] => (resource, Some(name), None),
        [resource, name, subresource] => (resource, Some(name), Some(subresource)),
        _ => return Route::Unknown,
    };
    path.resource = (*resource).to_owned();
    path.name = name.map(|name| (*name).to_owned());
    path.subresource = subresource.map(|subresource| (*subresource).to_owned());
    Route::Resource(path)
}

/// The parameters behind the question mark.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Query {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Query(pairs.into_owned().collect())
    }

    /// The first value of a parameter that isn't empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// A flag is true for anything but absent, `0` and `false`, as Kubernetes reads them: Python writes `False`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let value = self.all(name).next();
        value.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| Failure::bad_request(format!("invalid value {text:?} for the parameter {name:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> [Option<String>; 6] {
        match Route::parse(path) {
            Route::Resource(path) => [
                Some(path.group),
                Some(path.version),
                path.namespace,
                Some(path.resource),
                path.name,
                path.subresource,
            ],
            other => panic!("{path} leads to {other:?}"),
        }
    }

    fn expect(path: &str, group: &str, namespace: &str, resource: &str, name: &str, subresource: &str) {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let expected = [
            Some(group.to_owned()),
            Some("v1".to_owned()),
            text(namespace),
            text(resource),
            text(name),
            text(subresource),
        ];
        assert_eq!(parts(path), expected, "{path}");
    }

    #[test]
    fn paths_lead_to_resources() {
        expect("/api/v1/pods", "", "", "pods", "", "");
        expect("/api/v1/nodes/n1/status", "", "", "nodes", "n1", "status");
        expect(
            "/apis/apps/v1/namespaces/x/deployments/d/scale",
            "apps",
            "x",
            "deployments",
            "d",
            "scale",
        );
        expect("/api/v1/namespaces/x/pods/p/log/", "", "x", "pods", "p", "log");
        expect("/api/v1/namespaces/x/pods/a%3Ab", "", "x", "pods", "a:b", "");
    }

    #[test]
    fn a_namespace_is_an_object_and_a_place() {
        expect("/api/v1/namespaces", "", "", "namespaces", "", "");
        expect("/api/v1/namespaces/x", "", "", "namespaces", "x", "");
        expect(
            "/api/v1/namespaces/x/finalize",
            "",
            "",
            "namespaces",
            "x",
            "finalize",
        );
        expect("/api/v1/namespaces/x/pods", "", "x", "pods", "", "");
    }

    #[test]
    fn what_is_proxied_stays_as_it_was_sent() {
        let proxied = |path: &str| match Route::parse(path) {
            Route::Resource(path) => (path.name.unwrap_or_default(), path.rest),
            other => panic!("{path} leads to {other:?}"),
        };
        let rest = |name: &str, rest: &str| (name.to_owned(), Some(rest.to_owned()));
        let pod = "/api/v1/namespaces/x/pods/http:web:80/proxy";
        assert_eq!(proxied(pod), rest("http:web:80", ""));
        assert_eq!(proxied(&format!("{pod}/")), rest("http:web:80", "/"));
        assert_eq!(
            proxied(&format!("{pod}/a%2Fb//c/%ff")),
            rest("http:web:80", "/a%2Fb//c/%ff")
        );
        assert_eq!(proxied("/api/v1/nodes/n/proxy/stats"), rest("n", "/stats"));
        assert_eq!(
            proxied("/api/v1/namespaces/x/services/s/proxy/proxy"),
            rest("s", "/proxy")
        );
        assert_eq!(
            proxied("/api/v1/namespaces/x/configmaps/proxy"),
            ("proxy".to_owned(), None)
        );
        assert_eq!(
            Route::parse("/api/v1/namespaces/x/pods/%ff/proxy/"),
            Route::Unknown
        );
    }

    #[test]
    fn a_segment_that_hides_a_slash_leads_nowhere() {
        assert_eq!(Route::parse("/api/v1/nodes/a%2Fb"), Route::Unknown);
        assert_eq!(Route::parse("/api/v1/nodes/%ff"), Route::Unknown);
        assert_eq!(Route::parse("/nothing"), Route::Unknown);
    }

    proptest::proptest! {
        #[test]
        fn no_path_hides_a_slash_in_a_name(path in "(/(api|apis|v1|namespaces|%2[eEfF]|[a-z%0-9]{0,4})){0,9}") {
            if let Route::Resource(path) = Route::parse(&path) {
                let parts = [path.namespace, path.name, path.subresource, Some(path.resource)];
                for part in parts.into_iter().flatten() {
                    proptest::prop_assert!(!part.is_empty() && !part.contains('/'));
                }
            }
        }
    }
}
