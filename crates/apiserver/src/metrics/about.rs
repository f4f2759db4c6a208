//! What requests are about, as labels tell it. There is a bounded number of these, whatever clients ask for: names
//! that the server doesn't know are left out.

use http::Method;
use kinds::Kind;

use crate::auth::review::REVIEWS;
use crate::path::{Query, ResourcePath, Route};
use crate::reply::Request;
use crate::server::ApiServer;
use crate::{apply, input};

/// The labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct About {
    pub(super) verb: &'static str,
    pub(super) dry_run: bool,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    /// For what isn't a resource: its path.
    pub(super) subresource: String,
    pub(super) scope: &'static str,
}

impl About {
    pub(crate) fn of(server: &ApiServer, route: &Route, request: &Request) -> About {
        let mut about = About {
            verb: plain_verb(request.method()),
            dry_run: false,
            group: String::new(),
            version: String::new(),
            resource: String::new(),
            subresource: String::new(),
            scope: "",
        };
        match route {
            Route::Resource(path) => about.resource(server, path, request),
            Route::Health { what, .. } => about.subresource = format!("/{what}"),
            Route::Version => about.subresource = "/version".into(),
            Route::Metrics => about.subresource = "/metrics".into(),
            Route::Snapshot => about.subresource = "/snapshot".into(),
            Route::OpenApiV2 => about.subresource = "/openapi/v2".into(),
            Route::OpenApiV3Root | Route::OpenApiV3(_) => about.subresource = "/openapi/v3".into(),
            Route::CoreVersions | Route::Groups | Route::Group(_) | Route::Resources { .. } => {
                about.subresource = "/discovery".into();
            }
            Route::OpenIdConfiguration | Route::OpenIdKeys => about.subresource = "/openid".into(),
            Route::Index => about.subresource = "/".into(),
            Route::Unknown => {}
        }
        about
    }

    fn resource(&mut self, server: &ApiServer, path: &ResourcePath, request: &Request) {
        let query = Query::parse(request.uri().query());
        // A store that can't be read is told of by whoever answers.
        let kind = server
            .kind(&path.group, &path.version, &path.resource)
            .ok()
            .flatten();
        let review = REVIEWS.iter().any(|review| {
            review.group == path.group && review.plural == path.resource && path.version == "v1"
        });
        if kind.is_none() && !review {
            return;
        }
        self.group.clone_from(&path.group);
        self.version.clone_from(&path.version);
        self.resource.clone_from(&path.resource);
        let subresource = path.subresource.as_deref().unwrap_or_default();
        if kind.is_some_and(|kind| has(&kind, subresource)) || path.rest.is_some() {
            self.subresource = subresource.to_owned();
        }
        self.verb = self.verb_of(path, request, &query);
        self.dry_run = query.get("dryRun").is_some();
        self.scope = match (&path.name, &path.namespace) {
            _ if self.verb == "POST" => "resource",
            (Some(_), _) => "resource",
            (None, Some(_)) => "namespace",
            (None, None) => "cluster",
        };
    }

    fn verb_of(&self, path: &ResourcePath, request: &Request, query: &Query) -> &'static str {
        let applies = || input::media_type(request.headers()) == apply::MEDIA_TYPE;
        match *request.method() {
            _ if path.rest.is_some() || is_connection(&self.resource, &self.subresource) => "CONNECT",
            Method::GET if path.subresource.is_none() && query.flag("watch") => "WATCH",
            Method::GET if path.name.is_none() => "LIST",
            Method::DELETE if path.name.is_none() => "DELETECOLLECTION",
            Method::PATCH if applies() => "APPLY",
            _ => self.verb,
        }
    }

    /// Whether it goes on after its answer has begun.
    pub(super) fn is_long(&self) -> bool {
        matches!(self.verb, "WATCH" | "CONNECT") || (self.resource == "pods" && self.subresource == "log")
    }
}

fn has(kind: &Kind, subresource: &str) -> bool {
    kind.subresources().contains(&subresource)
        || (subresource == "status" && kind.has_status())
        || (subresource == "scale" && kind.scale().is_some())
}

fn is_connection(resource: &str, subresource: &str) -> bool {
    resource == "pods" && matches!(subresource, "exec" | "attach" | "portforward")
}

fn plain_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
