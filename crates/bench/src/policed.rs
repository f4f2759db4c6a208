//! A thousand NetworkPolicies in the namespace of two pods that are both isolated, and may talk.

use std::net::IpAddr;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::extent::Extent;
use crate::known::{self, Known};

const POLICIES: usize = 1_000;
/// Of so many, one selects the client and one the server.
const SHARE: usize = 50;
/// How many are made at once.
const AT_ONCE: usize = 8;

/// Two pods, by what the API knows of them, in a namespace of their own.
pub(crate) struct Policed {
    client: Client,
    namespace: String,
    pub(crate) asks: Known,
    pub(crate) answers: Known,
}

impl Policed {
    /// Makes the namespace, the pods, and as many policies as are to be measured.
    pub(crate) async fn make(client: &Client, namespace: &str, extent: &Extent) -> Result<Self> {
        known::namespace(client, namespace).await?;
        let names = ["client", "server"].map(str::to_owned);
        let [asks, answers] = <[Known; 2]>::try_from(known::pods(client, namespace, names).await?)
            .expect("as many pods as names");
        let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
        let made = (0..POLICIES / extent.divisor).map(|number| {
            let api = api.clone();
            async move {
                let object = serde_json::from_value(policy(number))?;
                api.create(&PostParams::default(), &object).await?;
                anyhow::Ok(())
            }
        });
        stream::iter(made)
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            asks,
            answers,
        })
    }

    /// Tells the API the addresses of who asks and who answers.
    pub(crate) async fn know(&self, asks: IpAddr, answers: IpAddr) -> Result<()> {
        self.asks.has(&self.client, asks).await?;
        self.answers.has(&self.client, answers).await
    }

    /// Takes them all out again.
    pub(crate) async fn remove(self) -> Result<()> {
        known::remove_namespace(&self.client, &self.namespace).await
    }
}

/// Both pods are selected by several; each of these allows what the benchmark sends, by a range of its own.
fn policy(number: usize) -> Value {
    let app = |name: &str| json!({"matchLabels": {"app": name}});
    let rule = |to_or_from: &str, name: &str| {
        let first = 8000 - number / SHARE;
        let ports =
            ["TCP", "UDP"].map(|protocol| json!({"protocol": protocol, "port": first, "endPort": 9100}));
        let block = json!({"ipBlock": {"cidr": format!("192.0.2.{}/32", number % 250)}});
        json!([{to_or_from: [{"podSelector": app(name)}, block], "ports": ports}])
    };
    let spec = match number % SHARE {
        0 => {
            json!({"podSelector": app("client"), "policyTypes": ["Egress", "Ingress"], "egress": rule("to", "server")})
        }
        1 => {
            json!({"podSelector": app("server"), "policyTypes": ["Egress", "Ingress"], "ingress": rule("from", "client")})
        }
        _ => {
            let other = format!("other-{}", number % 97);
            json!({"podSelector": app(&other), "ingress": rule("from", "client"), "egress": rule("to", "server")})
        }
    };
    json!({"metadata": {"name": format!("policy-{number}")}, "spec": spec})
}
