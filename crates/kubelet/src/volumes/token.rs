//! Service account tokens for projected volumes: asked of the API server,
//! bound to the pod, and renewed before they end.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::Api;
use kube::api::PostParams;

use crate::pod::{self, PodKey};

/// What a token lasts unless the volume says otherwise.
const DEFAULT_SECONDS: i64 = 3600;
/// How old a token may get before it is renewed, however long it lasts.
const MAX_SECONDS: i64 = 24 * 3600;

struct Token {
    text: String,
    renew_at: Timestamp,
}

/// A pod's tokens, by volume and path.
#[derive(Default)]
pub(crate) struct Tokens {
    tokens: BTreeMap<(String, String), Token>,
}

impl Tokens {
    pub(crate) fn get(&self, volume: &str, path: &str) -> Result<String, String> {
        let token = self.tokens.get(&(volume.to_owned(), path.to_owned()));
        token
            .map(|t| t.text.clone())
            .ok_or_else(|| "no service account token was issued".to_owned())
    }

    /// Asks for whatever the pod's volumes need and isn't here, or is getting
    /// old. A token that can't be renewed stays while it is good.
    pub(crate) async fn refresh(&mut self, client: &kube::Client, pod: &Pod) -> Result<(), String> {
        for volume in pod::spec(pod).volumes.iter().flatten() {
            let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
            for wanted in sources.filter_map(|s| s.service_account_token.as_ref()) {
                let key = (volume.name.clone(), wanted.path.clone());
                let have = self.tokens.get(&key);
                if have.is_some_and(|t| Timestamp::now() < t.renew_at) {
                    continue;
                }
                match request(client, pod, wanted).await {
                    Ok(token) => {
                        self.tokens.insert(key, token);
                    }
                    Err(error) if have.is_some() => {
                        tracing::warn!(pod = %PodKey::of(pod), error, "cannot renew a service account token");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// When the next token wants renewing.
    pub(crate) fn renew_in(&self) -> Option<Duration> {
        let first = self.tokens.values().map(|t| t.renew_at).min()?;
        let left = first.duration_since(Timestamp::now());
        // A renewal that failed is tried again, not at once.
        Some(
            Duration::try_from(left)
                .unwrap_or_default()
                .max(Duration::from_secs(10)),
        )
    }
}

async fn request(
    client: &kube::Client,
    pod: &Pod,
    wanted: &ServiceAccountTokenProjection,
) -> Result<Token, String> {
    let key = PodKey::of(pod);
    let account = pod::spec(pod)
        .service_account_name
        .as_deref()
        .unwrap_or("default");
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(wanted.audience.iter().cloned().collect()),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(key.name.clone()),
                uid: Some(key.uid.clone()),
            }),
            expiration_seconds: Some(wanted.expiration_seconds.unwrap_or(DEFAULT_SECONDS)),
        }),
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &key.namespace);
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &body)
        .await
        .map_err(|error| format!("failed to fetch token: {error}"))?;
    let status = answer.status.unwrap_or_default();
    let text = status.token.ok_or("failed to fetch token: the answer has none")?;
    let now = Timestamp::now();
    let ends = status.expiration_timestamp.map_or(now, |t| t.0);
    let life = ends.duration_since(now);
    // Renewed after 80 % of its life, and every day at least, as Kubernetes does.
    let seconds = (life.as_secs() * 4 / 5).min(MAX_SECONDS);
    let renew_at = now + SignedDuration::from_secs(seconds);
    Ok(Token { text, renew_at })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::pod::tests::pod;
    use serde_json::json;

    /// An API server that hands out `token-1`, `token-2` and so on for an hour each, until it must not.
    fn client(asked: Arc<AtomicU32>, most: u32) -> kube::Client {
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            assert_eq!(
                request.uri().path(),
                "/api/v1/namespaces/default/serviceaccounts/robot/token"
            );
            let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                let ends = Timestamp::now() + SignedDuration::from_hours(1);
                let status =
                    json!({"token": format!("token-{number}"), "expirationTimestamp": ends.to_string()});
                let answer = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
                    "metadata": {}, "spec": {"audiences": []}, "status": status});
                let mut response =
                    http::Response::new(http_body_util::Full::new(bytes::Bytes::from(answer.to_string())));
                if number > most {
                    *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        kube::Client::new(service, "default")
    }

    fn age(tokens: &mut Tokens) {
        for token in tokens.tokens.values_mut() {
            token.renew_at = Timestamp::now() - SignedDuration::from_secs(1);
        }
    }

    #[tokio::test]
    async fn a_token_is_renewed_in_time_and_kept_while_that_fails() {
        let it = pod(
            json!({"spec": {"serviceAccountName": "robot", "containers": [], "volumes": [
            {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]}}),
        );
        let asked = Arc::new(AtomicU32::new(0));
        let client = client(Arc::clone(&asked), 2);
        let mut tokens = Tokens::default();
        let refreshed = async |tokens: &mut Tokens| {
            tokens.refresh(&client, &it).await.unwrap();
            tokens.get("v", "token").unwrap()
        };
        assert_eq!(refreshed(&mut tokens).await, "token-1");
        let left = tokens.renew_in().unwrap().as_secs();
        assert!((2870..=2880).contains(&left), "80 % of an hour, not {left} s");
        assert_eq!(refreshed(&mut tokens).await, "token-1");
        age(&mut tokens);
        assert_eq!(refreshed(&mut tokens).await, "token-2");
        age(&mut tokens);
        assert_eq!(refreshed(&mut tokens).await, "token-2");
        assert_eq!(tokens.renew_in(), Some(Duration::from_secs(10)));
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
