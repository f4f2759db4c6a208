//! A server on loopback with certificates of its own, and clients for it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::{ApiServer, ClientTls, Config, Identity, ServerTls, ServiceConfig, TokenConfig};
use http_body_util::BodyExt;
use pki::{Authority, KeyPairPem, Subject};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A running server; it ends when this is dropped, with the runtime.
pub(crate) struct Running {
    pub(crate) server: Arc<ApiServer>,
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) stop: CancellationToken,
    pub(crate) task: tokio::task::JoinHandle<Result<(), apiserver::Error>>,
}

impl Running {
    pub(crate) async fn start() -> Running {
        Running::start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(address: &str) -> Running {
        Running::start_with(address, false).await
    }

    /// A server that gives ServiceAccount tokens, with the account `default` in the namespace `default`.
    pub(crate) async fn with_tokens() -> Running {
        let running = Running::start_with("127.0.0.1:0", true).await;
        running.account("default").await;
        running
    }

    /// A server whose store is elsewhere.
    pub(crate) async fn with_store(store: &Path) -> Running {
        Running::start_full(Some(store), "127.0.0.1:0", false, ServiceConfig::default()).await
    }

    async fn start_with(address: &str, with_tokens: bool) -> Running {
        Running::start_full(None, address, with_tokens, ServiceConfig::default()).await
    }

    /// A server whose Services get something else.
    pub(crate) async fn with_services(services: ServiceConfig) -> Running {
        Running::start_full(None, "127.0.0.1:0", false, services).await
    }

    async fn start_full(
        store: Option<&Path>,
        address: &str,
        with_tokens: bool,
        services: ServiceConfig,
    ) -> Running {
        let dir = tempfile::tempdir().unwrap();
        Running::start_in(dir, store, address, with_tokens, services).await
    }

    /// Ends the server and starts one anew where it was, with what it had: once nothing holds the old one.
    pub(crate) async fn restart(self) -> Running {
        let (dir, address) = (self.dir, self.address.to_string());
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        testkit::eventually_async(std::time::Duration::from_secs(30), async || {
            Arc::strong_count(&self.server) == 1
        })
        .await;
        drop(self.server);
        Running::start_in(dir, None, &address, false, ServiceConfig::default()).await
    }

    async fn start_in(
        dir: tempfile::TempDir,
        store: Option<&Path>,
        address: &str,
        with_tokens: bool,
        services: ServiceConfig,
    ) -> Running {
        let authority = Authority::load_or_create(dir.path()).unwrap();
        let kubelet_client = client_pair(&authority, "kube-apiserver-kubelet-client", "system:masters");
        let config = Config {
            store: store.map_or_else(|| dir.path().join("store.redb"), Path::to_owned),
            kubelet_client: Some(ClientTls {
                ca_pem: authority.cert_pem().to_owned(),
                cert_pem: kubelet_client.cert,
                key_pem: kubelet_client.key,
            }),
            tokens: with_tokens.then(|| token_config(dir.path())),
            services,
            loss_toleration: apiserver::LossToleration::default(),
        };
        let server = ApiServer::open(config).unwrap();
        server.bootstrap().await.unwrap();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let pair = authority
            .issue_server(&Subject::new("server"), &["127.0.0.1".to_owned()])
            .unwrap();
        let tls = ServerTls {
            ca_pem: authority.cert_pem().to_owned(),
            cert_pem: pair.cert,
            key_pem: pair.key,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.clone().serve(listener, tls, stop.clone()));
        Running {
            server,
            address,
            authority,
            dir,
            stop,
            task,
        }
    }

    /// A client without sockets, as controllers have.
    pub(crate) fn client(&self, user: &str, group: &str) -> kube::Client {
        self.server.client(Identity::new(user, [group]))
    }

    pub(crate) fn admin(&self) -> kube::Client {
        self.client("admin", "system:masters")
    }

    /// A client over TLS with a certificate.
    pub(crate) async fn over_tls(&self, user: &str, group: &str) -> kube::Client {
        let kubeconfig = kube::config::Kubeconfig::read_from(self.kubeconfig(user, group)).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// A client over TLS without a certificate.
    pub(crate) fn stranger(&self) -> kube::Client {
        kube::Client::try_from(self.stranger_config()).unwrap()
    }

    fn stranger_config(&self) -> kube::Config {
        let mut config = kube::Config::new(format!("https://{}", self.address).parse().unwrap());
        let der = CertificateDer::from_pem_slice(self.authority.cert_pem().as_bytes()).unwrap();
        config.root_cert = Some(vec![der.to_vec()]);
        config
    }

    /// A client over TLS with a token.
    pub(crate) fn with_token(&self, token: &str) -> Raw {
        let mut config = self.stranger_config();
        config.auth_info.token = Some(token.to_owned().into());
        Raw(kube::Client::try_from(config).unwrap())
    }

    /// Creates a ServiceAccount in the namespace `default`.
    pub(crate) async fn account(&self, name: &str) {
        let account = json!({ "metadata": { "name": name } });
        assert_eq!(self.raw().post(ACCOUNTS, &account).await.code, 201);
    }

    /// A token for a ServiceAccount, as asked for.
    pub(crate) async fn token(&self, account: &str, spec: Value) -> String {
        let path = format!("{ACCOUNTS}/{account}/token");
        let answer = self.raw().post(&path, &json!({ "spec": spec })).await;
        assert_eq!(answer.code, 201, "{}", answer.body);
        answer.body["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Requests of an administrator.
    pub(crate) fn raw(&self) -> Raw {
        Raw(self.admin())
    }

    /// A kubeconfig for a user with a certificate.
    pub(crate) fn kubeconfig(&self, user: &str, group: &str) -> PathBuf {
        let pair = client_pair(&self.authority, user, group);
        let write = |name: &str, text: &str| {
            let path = self.dir.path().join(format!("{}-{name}", user.replace(':', "-")));
            std::fs::write(&path, text).unwrap();
            path
        };
        let ca = write("ca.crt", self.authority.cert_pem());
        let cert = write("client.crt", &pair.cert);
        let key = write("client.key", &pair.key);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: 'https://{}', certificate-authority: '{}'}}}}]\n\
             users: [{{name: test, user: {{client-certificate: '{}', client-key: '{}'}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            self.address,
            ca.display(),
            cert.display(),
            key.display()
        );
        write("kubeconfig", &text)
    }
}

/// A ConfigMap with labels.
pub(crate) fn config_map(name: &str, labels: Value) -> Value {
    json!({ "metadata": { "name": name, "labels": labels }, "data": { "k": "v" } })
}

/// A pod with the given containers.
pub(crate) fn pod(name: &str, containers: &[&str]) -> Value {
    let containers: Vec<_> = containers
        .iter()
        .map(|name| json!({ "name": name, "image": "localhost/image:1" }))
        .collect();
    json!({ "metadata": { "name": name }, "spec": { "containers": containers } })
}

/// A Deployment with one container.
pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    })
}

/// An answer: its code, and its body as JSON.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
    pub(crate) headers: http::HeaderMap,
}

impl Answer {
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// Requests as they are, without a library's help.
pub(crate) struct Raw(pub(crate) kube::Client);

impl Raw {
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(kube::client::Body::from(body.into())).unwrap();
        let response = self.0.send(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let is_protobuf = head
            .headers
            .get("content-type")
            .is_some_and(|t| t == protobuf::MEDIA_TYPE);
        let body = if is_protobuf {
            protobuf::decode(&bytes, None).unwrap()
        } else {
            serde_json::from_slice(&bytes).unwrap_or_default()
        };
        Answer {
            code: head.status.as_u16(),
            body,
            headers: head.headers,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(
            "PUT",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Answer {
        self.send(
            "DELETE",
            path,
            &[("content-type", "application/json")],
            options.to_string(),
        )
        .await
    }

    /// Applies on the server's side; `parameters` begins with the manager's name.
    pub(crate) async fn apply(&self, path: &str, parameters: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/apply-patch+yaml")];
        let path = format!("{path}?fieldManager={parameters}");
        self.send("PATCH", &path, &headers, body.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let content_type = format!("application/{kind}-patch+json");
        self.send(
            "PATCH",
            path,
            &[("content-type", &content_type)],
            body.to_string(),
        )
        .await
    }
}

/// Who issues tokens here.
pub(crate) const ISSUER: &str = "https://issuer.test";

fn token_config(dir: &std::path::Path) -> TokenConfig {
    let keys = pki::TokenKeys::load_or_create(dir).unwrap();
    TokenConfig {
        issuer: ISSUER.to_owned(),
        public_url: "https://server.test:6443".to_owned(),
        signing_pem: keys.signing,
        verification_pem: keys.verification,
    }
}

pub(crate) const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

pub(crate) fn client_pair(authority: &Authority, user: &str, group: &str) -> KeyPairPem {
    authority.issue_client(&Subject::in_group(user, group)).unwrap()
}
