//! A container registry for tests: the pulling half of the OCI distribution API, over plain HTTP, with
//! basic authentication where a test wants it, and whatever goes wrong with registries.
//!
//! Container runtimes take plain HTTP from `localhost`, so a test listens on loopback where its runtime is.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use base64::Engine;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image to push.
#[derive(Debug, Clone)]
pub struct RegistryImage {
    config: Bytes,
    layers: Vec<Bytes>,
}

impl RegistryImage {
    /// One of the images of a docker-archive.
    ///
    /// # Panics
    /// If the archive can't be read or doesn't have it.
    pub fn from_archive(archive: &Path, name: &str) -> RegistryImage {
        let mut files = HashMap::new();
        let file = fs::File::open(archive).unwrap_or_else(|e| panic!("open {}: {e}", archive.display()));
        for entry in tar::Archive::new(file).entries().expect("a tar archive") {
            let mut entry = entry.expect("a whole tar archive");
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).expect("a whole tar archive");
            files.insert(path, Bytes::from(content));
        }
        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).expect("a manifest");
        let images = manifest.as_array().expect("a list of images");
        let tagged = |image: &&Value| image["RepoTags"][0] == name;
        let image = images.iter().find(tagged);
        let image = image.unwrap_or_else(|| panic!("{} has no {name}", archive.display()));
        let file = |path: &Value| files[path.as_str().expect("a path")].clone();
        let layers = image["Layers"].as_array().expect("a list of layers");
        RegistryImage {
            config: file(&image["Config"]),
            layers: layers.iter().map(file).collect(),
        }
    }
}

impl RegistryImage {
    /// The same image with one label more, and so another one.
    ///
    /// # Panics
    /// If the image's configuration isn't JSON.
    pub fn with_label(&self, label: &str) -> RegistryImage {
        let mut config: Value = serde_json::from_slice(&self.config).expect("a configuration");
        config["config"]["Labels"][label] = "yes".into();
        RegistryImage {
            config: Bytes::from(config.to_string()),
            layers: self.layers.clone(),
        }
    }
}

/// What may be wrong with a repository.
#[derive(Debug)]
pub enum Trouble {
    /// Whatever it is asked, it answers with an error, whose code is as in `TOOMANYREQUESTS`.
    Refuses {
        /// The HTTP status.
        status: StatusCode,
        /// The error's code.
        code: &'static str,
        /// The error in words.
        message: &'static str,
    },
    /// The content of blobs isn't what their digests say.
    Corrupt,
    /// The connection ends in the middle of a blob.
    CutShort,
    /// Blobs stop in the middle, until the trouble is over.
    Stalls(watch::Sender<()>),
}

impl Trouble {
    /// An error whatever is asked.
    ///
    /// # Panics
    /// If `status` is no HTTP status.
    pub fn refuses(status: u16, code: &'static str, message: &'static str) -> Trouble {
        let status = StatusCode::from_u16(status).expect("a status");
        Trouble::Refuses {
            status,
            code,
            message,
        }
    }

    /// Blobs that stop in the middle.
    pub fn stalls() -> Trouble {
        Trouble::Stalls(watch::Sender::new(()))
    }
}

/// A registry; what listens ends with it.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Mutex<Shared>>,
    stop: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Shared {
    blobs: BTreeMap<String, Bytes>,
    /// Manifests by repository and tag.
    tags: BTreeMap<(String, String), String>,
    /// The one who may pull from a repository, as the header says it.
    secrets: BTreeMap<String, String>,
    troubles: BTreeMap<String, Trouble>,
    requests: Vec<String>,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Registry {
    fn default() -> Registry {
        Registry {
            shared: Arc::default(),
            stop: watch::Sender::new(()),
        }
    }
}

impl Registry {
    /// Answers at a listener too, from a thread of its own.
    ///
    /// # Panics
    /// If the listener isn't usable.
    pub fn serve(&self, listener: TcpListener) {
        let (shared, mut stop) = (Arc::clone(&self.shared), self.stop.subscribe());
        listener.set_nonblocking(true).expect("a listener");
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = accept(listener, shared) => {}
                    // The registry is gone.
                    _ = stop.changed() => {}
                }
            });
        });
    }

    /// Puts an image there, and returns its manifest's digest.
    pub fn push(&self, repository: &str, tag: &str, image: &RegistryImage) -> String {
        let mut shared = lock(&self.shared);
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|layer| json!({"mediaType": LAYER, "digest": shared.add(layer), "size": layer.len()}))
            .collect();
        let config =
            json!({"mediaType": CONFIG, "digest": shared.add(&image.config), "size": image.config.len()});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let digest = shared.add(&Bytes::from(manifest.to_string()));
        let key = (repository.to_owned(), tag.to_owned());
        shared.tags.insert(key, digest.clone());
        digest
    }

    /// From now on only that user pulls from the repository.
    pub fn protect(&self, repository: &str, user: &str, password: &str) {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let mut shared = lock(&self.shared);
        shared
            .secrets
            .insert(repository.to_owned(), format!("Basic {pair}"));
    }

    /// From now on something is wrong with the repository.
    pub fn trouble(&self, repository: &str, trouble: Trouble) {
        lock(&self.shared).troubles.insert(repository.to_owned(), trouble);
    }

    /// All is well with the repository again.
    pub fn mend(&self, repository: &str) {
        lock(&self.shared).troubles.remove(repository);
    }

    /// What was asked so far, as in `GET /v2/web/manifests/1`.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared).requests.clone()
    }
}

impl Shared {
    fn add(&mut self, blob: &Bytes) -> String {
        let hex: String = Sha256::digest(blob)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let digest = format!("sha256:{hex}");
        self.blobs.insert(digest.clone(), blob.clone());
        digest
    }

    fn answer(&mut self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        self.requests.push(format!("{} {path}", request.method()));
        let Some(rest) = path.strip_prefix("/v2/") else {
            return refuse(
                StatusCode::NOT_FOUND,
                &errors("NOT_FOUND", "there is nothing here"),
            );
        };
        let parts: Vec<&str> = rest.rsplitn(3, '/').collect();
        let [reference, what, repository] = parts[..] else {
            return plain(StatusCode::OK);
        };
        let trouble = self.troubles.get(repository);
        if let Some(Trouble::Refuses {
            status,
            code,
            message,
        }) = trouble
        {
            return refuse(*status, &errors(code, message));
        }
        let given = request.headers().get(header::AUTHORIZATION);
        if let Some(secret) = self.secrets.get(repository)
            && given.is_none_or(|given| given.as_bytes() != secret.as_bytes())
        {
            let why = errors("UNAUTHORIZED", "authentication required");
            let mut response = refuse(StatusCode::UNAUTHORIZED, &why);
            let challenge = header::HeaderValue::from_static("Basic realm=\"test registry\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            return response;
        }
        let key = (repository.to_owned(), reference.to_owned());
        let digest = match what {
            "manifests" => self.tags.get(&key).map_or(reference, String::as_str),
            _ => reference,
        };
        let known = self.tags.keys().any(|(known, _)| known == repository);
        match self.blobs.get(digest) {
            Some(blob) => {
                let trouble = trouble.filter(|_| what == "blobs");
                found(request.method(), what, digest, blob, trouble)
            }
            None if !known => refuse(
                StatusCode::NOT_FOUND,
                &errors("NAME_UNKNOWN", "repository name not known to registry"),
            ),
            None if what == "manifests" => refuse(
                StatusCode::NOT_FOUND,
                &errors("MANIFEST_UNKNOWN", "manifest unknown"),
            ),
            None => refuse(StatusCode::NOT_FOUND, &errors("BLOB_UNKNOWN", "blob unknown")),
        }
    }
}

fn errors(code: &str, message: &str) -> Value {
    json!({"errors": [{"code": code, "message": message}]})
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

fn whole(content: Bytes) -> BoxBody<Bytes, io::Error> {
    Full::from(content).map_err(|never| match never {}).boxed()
}

fn plain(status: StatusCode) -> Answer {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn refuse(status: StatusCode, errors: &Value) -> Answer {
    let mut response = Response::new(whole(Bytes::from(errors.to_string())));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn found(method: &Method, what: &str, digest: &str, blob: &Bytes, trouble: Option<&Trouble>) -> Answer {
    let kind = if what == "manifests" {
        MANIFEST
    } else {
        "application/octet-stream"
    };
    let body = if method == Method::HEAD {
        whole(Bytes::new())
    } else {
        content(blob, trouble)
    };
    Response::builder()
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, blob.len())
        .header("Docker-Content-Digest", digest)
        .body(body)
        .expect("headers made of digests and numbers")
}

/// A blob as somebody gets it who asks for it.
fn content(blob: &Bytes, trouble: Option<&Trouble>) -> BoxBody<Bytes, io::Error> {
    let half = blob.len() / 2;
    let first = stream::iter([Ok(Frame::data(blob.slice(..half)))]);
    match trouble {
        Some(Trouble::Corrupt) => whole(blob.iter().map(|byte| !byte).collect()),
        Some(Trouble::CutShort) => {
            let end = stream::iter([Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
            BodyExt::boxed(StreamBody::new(first.chain(end)))
        }
        Some(Trouble::Stalls(until)) => {
            let (mut over, second) = (until.subscribe(), blob.slice(half..));
            let rest = stream::once(async move {
                // Nothing is ever sent: it is over when the sender is gone.
                let _ = over.changed().await;
                Ok(Frame::data(second))
            });
            BodyExt::boxed(StreamBody::new(first.chain(rest)))
        }
        _ => whole(blob.clone()),
    }
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let answer = lock(&shared).answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        // A client that goes away in the middle is its own affair.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
