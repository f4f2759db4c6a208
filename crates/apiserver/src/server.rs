//! The server: what it is made of, and how a request finds its way.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use kinds::Kind;
use serde_json::{Value, json};
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::admission::{self, LossToleration};
use crate::auth::authenticate::authenticate;
use crate::auth::authorize::{self, Action};
use crate::auth::identity::{Identity, account_of};
use crate::auth::node::Nodes;
use crate::auth::rbac::Rbac;
use crate::auth::tokens::{TokenConfig, Tokens};
use crate::call::Call;
use crate::definitions::Definitions;
use crate::error::Error;
use crate::kubelet::Kubelets;
use crate::limits::Limits;
use crate::metrics::{About, Metrics};
use crate::negotiate::{self, DiscoveryForm};
use crate::openapi_documents::{Form, OpenApi};
use crate::path::Route;
use crate::proxy::Insecure;
use crate::reply::{self, Request, Response};
use crate::services::ServiceConfig;
use crate::status::Failure;
use crate::tls::ClientTls;
use crate::{about, compress, create, discovery, metrics, object, resource, snapshot};

/// What the server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The store's file; made when it isn't there.
    pub store: PathBuf,
    /// The credentials for kubelets' APIs: logs, exec and the like are refused without.
    pub kubelet_client: Option<ClientTls>,
    /// How ServiceAccount tokens are made and checked: pods get none without.
    pub tokens: Option<TokenConfig>,
    /// What Services get.
    pub services: ServiceConfig,
    /// How long pods stay on nodes that are lost.
    pub loss_toleration: LossToleration,
}

/// Namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// The API server: generic over the table of kinds, with the store behind it.
pub struct ApiServer {
    pub(crate) store: Store,
    pub(crate) kubelets: Option<Kubelets>,
    pub(crate) insecure: Insecure,
    pub(crate) limits: Limits,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) rbac: Rbac,
    pub(crate) nodes: Nodes,
    pub(crate) services: ServiceConfig,
    pub(crate) loss_toleration: LossToleration,
    pub(crate) definitions: Definitions,
    /// Cancelled when the server shuts down: watches and streams end then.
    pub(crate) stopping: CancellationToken,
    pub(crate) metrics: Arc<Metrics>,
    /// The store's file.
    pub(crate) path: PathBuf,
    openapi: OpenApi,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Opens the store and prepares to serve it. [`ApiServer::bootstrap`] completes a new cluster.
    pub fn open(config: Config) -> Result<Arc<ApiServer>, Error> {
        let unusable = |source| Error::Store {
            path: config.store.clone(),
            source,
        };
        let store = Store::open(&config.store, store::Options::default()).map_err(unusable)?;
        Ok(Arc::new(ApiServer {
            kubelets: config.kubelet_client.as_ref().map(Kubelets::new).transpose()?,
            insecure: Insecure::new().map_err(|error| Error::Certificate {
                what: "proxy",
                why: error.to_string(),
            })?,
            tokens: config.tokens.as_ref().map(Tokens::new).transpose()?,
            rbac: Rbac::new(&store).map_err(unusable)?,
            nodes: Nodes::new(&store).map_err(unusable)?,
            services: config.services,
            loss_toleration: config.loss_toleration,
            definitions: Definitions::new(&store).map_err(unusable)?,
            store,
            limits: Limits::default(),
            stopping: CancellationToken::new(),
            metrics: Arc::default(),
            path: config.store.clone(),
            openapi: OpenApi::default(),
        }))
    }

    /// Puts in place what every cluster has: namespaces, default roles and bindings, Services. [`ApiServer::serve`] does so
    /// before it accepts connections.
    pub async fn bootstrap(&self) -> Result<(), Error> {
        for name in NAMESPACES {
            let call = Call::of_server(self.namespaces(), None);
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            match create::create(self, &call, namespace).await {
                Ok(_) => {}
                Err(failure) if failure.reason == "AlreadyExists" => {}
                Err(failure) => return Err(Error::Namespace(name, failure.message)),
            }
        }
        admission::keep_classes(self).await?;
        let roles = Rbac::reconcile(self).await;
        roles.map_err(|failure| Error::Roles(failure.message))?;
        let services = self.keep_services().await;
        services.map_err(|failure| Error::Services(failure.message))
    }

    /// Forgets what happened until now, as time does: lists of the past and watches from there begin anew.
    pub async fn forget_history(&self) -> Result<(), Error> {
        let revision = self.store.revision();
        self.store.compact(revision).await.map_err(Error::Compact)
    }

    /// A client within this process: its requests go to the handler directly, in the name of `identity`.
    pub fn client(self: &Arc<Self>, identity: Identity) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (server, identity) = (server.clone(), identity.clone());
            async move {
                let mut request = request;
                // What these clients write is theirs by name.
                let name = match account_of(&identity.user) {
                    Some((_, name)) => name,
                    None => identity.user.trim_start_matches("system:"),
                };
                if let Ok(name) = HeaderValue::from_str(name) {
                    request.headers_mut().entry(header::USER_AGENT).or_insert(name);
                }
                let request = request.map(|body| {
                    use http_body_util::BodyExt;
                    body.map_err(Into::into).boxed_unsync()
                });
                Ok::<_, std::convert::Infallible>(server.handle(Some(identity), request).await)
            }
        });
        kube::Client::new(service, "default")
    }

    /// Answers a request, whoever sent it. `connection` is who showed a certificate, if anybody did.
    pub(crate) async fn handle(
        self: Arc<Self>,
        connection: Option<Identity>,
        mut request: Request,
    ) -> Response {
        let route = Route::parse(request.uri().path());
        let about = About::of(&self, &route, &request);
        let started = self.metrics.start(about, &mut request);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let encoding = negotiate::encoding(request.headers());
        let gzip = compress::accepted(request.headers());
        let mut user = String::new();
        let response = match authenticate(&self, connection, request.headers()) {
            Ok(identity) => {
                user.clone_from(&identity.user);
                self.answer(identity, route, request).await
            }
            Err(failure) => Err(failure),
        };
        let response = response.unwrap_or_else(|failure| reply::failure(encoding, &failure));
        let response = started.answered(response);
        tracing::debug!(%method, path, user, status = response.status().as_u16(), "request");
        if gzip {
            compress::gzip(response).await
        } else {
            response
        }
    }

    async fn answer(
        self: Arc<Self>,
        identity: Identity,
        route: Route,
        request: Request,
    ) -> Result<Response, Failure> {
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        if let Route::Resource(path) = route {
            return resource::handle(&self, identity, path, request).await;
        }
        let action = Action {
            verb: match *request.method() {
                Method::POST => "post",
                Method::PUT => "put",
                Method::PATCH => "patch",
                Method::DELETE => "delete",
                _ => "get",
            },
            path: request.uri().path(),
            ..Action::default()
        };
        authorize::check(&self, &identity, &action)?;
        if !read {
            return Err(Failure::method_not_allowed());
        }
        if route == Route::Snapshot {
            return Ok(snapshot::send(self));
        }
        if route == Route::Metrics {
            return metrics::answer(self).await;
        }
        self.document(route, &request)
    }

    /// Documents about the API itself.
    fn document(&self, route: Route, request: &Request) -> Result<Response, Failure> {
        let headers = request.headers();
        let (edition, custom) = self.definitions.edition(&self.store)?;
        let document = match &route {
            Route::Index => Some(about::index(&custom)),
            Route::Health { what, check } => {
                return about::health(what, check.as_deref(), request.uri().query());
            }
            Route::Version => return Ok(reply::json(StatusCode::OK, &about::version())),
            Route::OpenIdConfiguration | Route::OpenIdKeys => return self.open_id(&route),
            Route::CoreVersions | Route::Groups => return self.root(&route, headers),
            Route::Group(group) => discovery::group(group, &custom),
            Route::Resources { group, version } => discovery::resource_list(group, version, &custom),
            Route::OpenApiV2 if negotiate::wants_openapi_protobuf(headers) => {
                let document = self.openapi.get(Form::V2Protobuf, edition, &custom);
                let content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
                return Ok(tagged(headers, content_type, document));
            }
            Route::OpenApiV2 => {
                let document = self.openapi.get(Form::V2Json, edition, &custom);
                return Ok(tagged(headers, "application/json", document));
            }
            Route::OpenApiV3Root => {
                let document = self.openapi.get(Form::V3Root, edition, &custom);
                return Ok(tagged(headers, "application/json", document));
            }
            Route::OpenApiV3(path) => {
                let document = openapi::v3(path, &custom).ok_or_else(Failure::no_such_path)?;
                return Ok(tagged(headers, "application/json", document));
            }
            Route::Resource(_) | Route::Snapshot | Route::Metrics | Route::Unknown => None,
        };
        let document = document.ok_or_else(Failure::no_such_path)?;
        Ok(tagged(headers, "application/json", document.to_string()))
    }

    /// How others can check our tokens.
    fn open_id(&self, route: &Route) -> Result<Response, Failure> {
        let tokens = self.tokens.as_ref().ok_or_else(Failure::no_such_path)?;
        let (content_type, document) = match route {
            Route::OpenIdKeys => ("application/jwk-set+json", tokens.key_set()),
            _ => ("application/json", tokens.open_id_configuration()),
        };
        let mut response = reply::bytes(StatusCode::OK, content_type, document.to_string());
        let cached = HeaderValue::from_static("public, max-age=3600");
        response.headers_mut().insert(header::CACHE_CONTROL, cached);
        Ok(response)
    }

    /// `/api` and `/apis`: an index, or everything below it.
    fn root(&self, route: &Route, headers: &HeaderMap) -> Result<Response, Failure> {
        let core = *route == Route::CoreVersions;
        let custom = self.definitions.kinds(&self.store)?;
        let (content_type, document) = match negotiate::discovery(headers)? {
            DiscoveryForm::Aggregated(version) => (
                match version {
                    "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                    _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
                },
                discovery::aggregated(core, version, &custom),
            ),
            DiscoveryForm::Plain if core => ("application/json", discovery::core_versions()),
            DiscoveryForm::Plain => ("application/json", discovery::group_list(&custom)),
        };
        let mut response = tagged(headers, content_type, document.to_string());
        response
            .headers_mut()
            .insert(header::VARY, HeaderValue::from_static("Accept"));
        Ok(response)
    }

    /// The kinds that the server itself deals with.
    pub(crate) fn namespaces(&self) -> &'static Kind {
        kinds::find("", "v1", "namespaces").expect("the table has Namespace")
    }

    pub(crate) fn pods(&self) -> &'static Kind {
        kinds::find("", "v1", "pods").expect("the table has Pod")
    }

    pub(crate) fn node(&self, name: &str) -> Result<Option<Value>, Failure> {
        let nodes = kinds::find("", "v1", "nodes").expect("the table has Node");
        let entry = self.store.get(&object::key(nodes, None, name))?;
        entry.map(|entry| object::parse(&entry.value)).transpose()
    }
}

/// A document with its tag; only the tag for a client that has it already.
fn tagged(headers: &HeaderMap, content_type: &'static str, document: impl Into<Bytes>) -> Response {
    let document = document.into();
    let mut hasher = DefaultHasher::new();
    (content_type, &document).hash(&mut hasher);
    let tag = format!("\"{:016X}\"", hasher.finish());
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|value| value.to_str().is_ok_and(|tags| tags.contains(&tag)));
    let mut response = if known {
        reply::bytes(StatusCode::NOT_MODIFIED, content_type, Bytes::new())
    } else {
        reply::bytes(StatusCode::OK, content_type, document)
    };
    let tag = HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes make a header");
    response.headers_mut().insert(header::ETAG, tag);
    response
}
