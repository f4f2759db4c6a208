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
