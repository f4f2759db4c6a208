//! A server on loopback with certificates of its own, and clients for it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use apiserver::{ApiServer, ClientTls, Config, Identity, ServerTls};
use pki::{Authority, KeyPairPem, Subject};
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
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path()).unwrap();
        let kubelet_client = client_pair(&authority, "kube-apiserver-kubelet-client", "system:masters");
        let config = Config {
            store: dir.path().join("store.redb"),
            kubelet_client: Some(ClientTls {
                ca_pem: authority.cert_pem().to_owned(),
                cert_pem: kubelet_client.cert,
                key_pem: kubelet_client.key,
            }),
        };
        let server = ApiServer::open(config).unwrap();
        server.ensure_namespaces().await.unwrap();
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

pub(crate) fn client_pair(authority: &Authority, user: &str, group: &str) -> KeyPairPem {
    authority.issue_client(&Subject::in_group(user, group)).unwrap()
}
