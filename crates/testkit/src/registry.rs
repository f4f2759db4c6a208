//! A container registry for tests: the pulling half of the OCI distribution API, over plain HTTP, with
//! basic authentication where a test wants it, and errors of a test's choice.
//!
//! Container runtimes take plain HTTP from `localhost`, so a test listens on loopback where its runtime is.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use base64::Engine;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
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
    /// What a repository answers whatever it is asked.
    failures: BTreeMap<String, (StatusCode, Value)>,
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

    /// From now on the repository answers with an error, whose code is as in `TOOMANYREQUESTS`.
    ///
    /// # Panics
    /// If `status` is no HTTP status.
    pub fn fail(&self, repository: &str, status: u16, code: &str, message: &str) {
        let status = StatusCode::from_u16(status).expect("a status");
        let failure = (status, errors(code, message));
        lock(&self.shared).failures.insert(repository.to_owned(), failure);
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

    fn answer(&mut self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
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
        if let Some((status, errors)) = self.failures.get(repository) {
            return refuse(*status, errors);
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
        match self.blobs.get(digest) {
            Some(blob) => found(request.method(), what, digest, blob),
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

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

fn refuse(status: StatusCode, errors: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(errors.to_string()));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn found(method: &Method, what: &str, digest: &str, blob: &Bytes) -> Response<Full<Bytes>> {
    let kind = if what == "manifests" {
        MANIFEST
    } else {
        "application/octet-stream"
    };
    let body = if method == Method::HEAD {
        Bytes::new()
    } else {
        blob.clone()
    };
    Response::builder()
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, blob.len())
        .header("Docker-Content-Digest", digest)
        .body(Full::from(body))
        .expect("headers made of digests and numbers")
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
