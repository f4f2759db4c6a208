//! Images: there already, or pulled, as the container's policy says.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use cri::message::{AuthConfig, Image, ImageSpec, PodSandboxConfig};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::credentials;
use crate::events::{About, Recorder};
use crate::objects::Lookup;
use crate::pulled::Pulled;
use crate::security::ImageUser;

/// Why a container can't have its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// An image that is on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadyImage {
    pub(crate) id: String,
    pub(crate) user: ImageUser,
}

/// The node's images. Two containers that want the same image wait for one pull.
pub(crate) struct Images {
    cri: cri::Client,
    events: Recorder,
    pulling: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// When a container last asked for an image, by id: it may not have been made yet.
    wanted: Mutex<HashMap<String, Timestamp>>,
    pub(crate) pulled: Pulled,
}

/// An image that is to be pulled.
struct Pull<'a> {
    about: &'a About,
    name: &'a str,
    policy: &'a str,
    /// What the pod has to show to the registry.
    credentials: Vec<AuthConfig>,
    sandbox: &'a PodSandboxConfig,
}

impl Images {
    pub(crate) fn new(cri: cri::Client, events: Recorder, pulled: PathBuf) -> Self {
        Self {
            cri,
            events,
            pulling: Mutex::default(),
            wanted: Mutex::default(),
            pulled: Pulled::load(pulled),
        }
    }

    /// Whether a container asked for that image in the time before now.
    pub(crate) fn was_wanted(&self, id: &str, within: SignedDuration) -> bool {
        let now = Timestamp::now();
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.retain(|_, at| now.duration_since(*at) < within);
        wanted.contains_key(id)
    }

    fn ready(&self, image: &Image) -> ReadyImage {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.insert(image.id.clone(), Timestamp::now());
        ready(image)
    }

    /// Makes sure that the container's image is here.
    pub(crate) async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        objects: &dyn Lookup,
        sandbox: &PodSandboxConfig,
    ) -> Result<ReadyImage, ImageError> {
        let about = About::container(pod, &container.name);
        let name = container.image.as_deref().unwrap_or_default();
        if !is_reference(name) {
            let message = format!(
                "Failed to apply default image tag {name:?}: couldn't parse image name {name:?}: invalid reference format"
            );
            self.events.warning(&about, "InspectFailed", message.clone());
            return Err(ImageError {
                reason: "InvalidImageName",
                message,
            });
        }
        let policy = policy(container);
        let credentials = credentials::for_image(pod, name, objects);
        let present = self.status(name).await?;
        // One that isn't for this pod is as good as none.
        let present = present.filter(|image| self.pulled.allows(image, name, &credentials));
        match (policy, present) {
            ("IfNotPresent" | "Never", Some(image)) => {
                let message = format!("Container image {name:?} already present on machine");
                self.events.normal(&about, "Pulled", message);
                Ok(self.ready(&image))
            }
            ("Never", None) => {
                let message = format!("Container image {name:?} is not present with pull policy of Never");
                self.events.warning(&about, "ErrImageNeverPull", message.clone());
                Err(ImageError {
                    reason: "ErrImageNeverPull",
                    message,
                })
            }
            _ => {
                self.warn_of_missing(pod, objects);
                let pull = Pull {
                    about: &about,
                    name,
                    policy,
                    credentials,
                    sandbox,
                };
                self.pull(&pull).await
            }
        }
    }

    async fn status(&self, name: &str) -> Result<Option<Image>, ImageError> {
        self.cri
            .image_status(ImageSpec::named(name))
            .await
            .map_err(|error| ImageError {
                reason: "ImageInspectError",
                message: format!("Failed to inspect image {name:?}: {error}"),
            })
    }

    fn warn_of_missing(&self, pod: &Pod, objects: &dyn Lookup) {
        let missing = credentials::missing(pod, objects);
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            let about = About::pod(pod);
            self.events
                .warning(&about, "FailedToRetrieveImagePullSecret", message);
        }
    }

    async fn pull(&self, pull: &Pull<'_>) -> Result<ReadyImage, ImageError> {
        let Pull { about, name, .. } = *pull;
        let asked = Instant::now();
        // Also while another's pull is waited for: whoever looks at this pod shall see what it waits for.
        self.events
            .normal(about, "Pulling", format!("Pulling image {name:?}"));
        let turn = self.turn(name);
        let _turn = turn.lock().await;
        if pull.policy == "IfNotPresent"
            && let Some(image) = self.status(name).await?
            && self.pulled.allows(&image, name, &pull.credentials)
        {
            // Another container's pull brought it while this one waited.
            let message = format!("Container image {name:?} already present on machine");
            self.events.normal(about, "Pulled", message);
            return Ok(self.ready(&image));
        }
        let begun = Instant::now();
        let auth = match self.pull_with_credentials(pull).await {
            Ok(auth) => auth,
            Err(error) => {
                let message = format!("Failed to pull image {name:?}: {error}");
                self.events.warning(about, "Failed", message);
                return Err(ImageError {
                    reason: "ErrImagePull",
                    message: error.to_string(),
                });
            }
        };
        let image = self.status(name).await?.ok_or_else(|| ImageError {
            reason: "ErrImagePull",
            message: format!("image {name:?} was pulled and is not there"),
        })?;
        self.pulled.note(&image.id, name, auth);
        let message = format!(
            "Successfully pulled image {name:?} in {:.3}s ({:.3}s including waiting). Image size: {} bytes.",
            begun.elapsed().as_secs_f64(),
            asked.elapsed().as_secs_f64(),
            image.size
        );
        self.events.normal(about, "Pulled", message);
        Ok(self.ready(&image))
    }

    fn turn(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        pulling.retain(|_, weak| weak.strong_count() > 0);
        if let Some(turn) = pulling.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        pulling.insert(name.to_owned(), Arc::downgrade(&turn));
        turn
    }

    /// Tries each of the pod's credentials for the registry, and none if there
    /// are none; returns those that it took.
    async fn pull_with_credentials<'a>(
        &self,
        pull: &'a Pull<'_>,
    ) -> Result<Option<&'a AuthConfig>, cri::Error> {
        let mut attempts: Vec<_> = pull.credentials.iter().map(Some).collect();
        if attempts.is_empty() {
            attempts.push(None);
        }
        let mut last = Ok(None);
        for auth in attempts {
            let image = ImageSpec::named(pull.name);
            let sandbox = Some(pull.sandbox.clone());
            match self.cri.pull_image(image, auth.cloned(), sandbox).await {
                Ok(_) => return Ok(auth),
                Err(error) => last = Err(error),
            }
        }
        last
    }
}

fn ready(image: &Image) -> ReadyImage {
    ReadyImage {
        id: image.id.clone(),
        user: ImageUser {
            uid: image.uid.map(|u| u.value),
            name: image.username.clone(),
        },
    }
}

/// The container's policy. API servers fill it in; where one doesn't, `latest`
/// is always pulled, as Kubernetes has it.
fn policy(container: &Container) -> &str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ => {
            let image = container.image.as_deref().unwrap_or_default();
            let last = image.rsplit('/').next().unwrap_or_default();
            let tagged = last.contains('@') || last.split_once(':').is_some_and(|(_, tag)| tag != "latest");
            if tagged { "IfNotPresent" } else { "Always" }
        }
    }
}

/// Whether a text can name an image at all.
fn is_reference(name: &str) -> bool {
    let (name, digest) = name.split_once('@').map_or((name, None), |(n, d)| (n, Some(d)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let tag_ok =
        tag.is_none_or(|t| (1..=128).contains(&t.len()) && t.chars().all(word) && !t.starts_with(['.', '-']));
    let digest_ok = digest.is_none_or(|d| {
        d.split_once(':')
            .is_some_and(|(a, h)| !a.is_empty() && h.len() >= 32)
    });
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or_default();
    let is_host = path.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let part_ok = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| word(c) && !c.is_ascii_uppercase())
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let first_ok = part_ok(first) || (is_host && !first.is_empty() && !first.contains(char::is_whitespace));
    first_ok && parts.all(part_ok) && tag_ok && digest_ok
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("busybox", true)]
    #[case("localhost/ripstop/toolbox:1", true)]
    #[case("registry.example:5000/a/b_c:v1.2", true)]
    #[case(
        "x@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        true
    )]
    #[case("", false)]
    #[case("Upper/Case", false)]
    #[case("a b", false)]
    #[case("a:", false)]
    #[case("a//b", false)]
    #[case("a@sha256:short", false)]
    fn references(#[case] name: &str, #[case] good: bool) {
        assert_eq!(is_reference(name), good);
    }

    #[rstest]
    #[case("busybox", "Always")]
    #[case("busybox:latest", "Always")]
    #[case("busybox:1", "IfNotPresent")]
    #[case("host:5000/busybox", "Always")]
    fn the_default_policy_goes_by_the_tag(#[case] image: &str, #[case] expected: &str) {
        let container = Container {
            image: Some(image.into()),
            ..Container::default()
        };
        assert_eq!(policy(&container), expected);
    }
}
