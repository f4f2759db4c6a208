//! Whose images they are: an image that a registry gave for somebody's credentials is for pods that have
//! them too, also when it is on the node already. One that came without a pull, or that the registry gives
//! to anybody, is for all (KEP-2535).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cri::message::{AuthConfig, Image};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::credentials;

/// What was pulled, remembered across restarts.
pub(crate) struct Pulled {
    file: PathBuf,
    images: Mutex<Images>,
}

/// By image and repository, as the same image may be in several.
type Images = BTreeMap<String, BTreeMap<String, Given>>;

/// To whom a registry gave an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    /// To whoever asked.
    #[serde(default)]
    anybody: bool,
    /// To those who have one of these, of which the digests are kept.
    #[serde(default)]
    credentials: BTreeSet<String>,
}

impl Pulled {
    /// What the file tells; nothing if there is none, or it can't be read: then all images are for all, as if
    /// they had been loaded by hand.
    pub(crate) fn load(file: PathBuf) -> Self {
        let text = fs::read(&file).unwrap_or_default();
        let images = serde_json::from_slice(&text).unwrap_or_else(|error| {
            if !text.is_empty() {
                tracing::warn!(file = %file.display(), %error, "cannot tell whose images they are: they are for all");
            }
            Images::default()
        });
        Self {
            file,
            images: Mutex::new(images),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Images> {
        // A map is whole at every point where a panic could leave it.
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a pod with these credentials may use an image under that name without asking the registry.
    pub(crate) fn allows(&self, image: &Image, name: &str, credentials: &[AuthConfig]) -> bool {
        let images = self.lock();
        let Some(repositories) = images.get(&image.id) else {
            return true;
        };
        let wanted = repository(name);
        match repositories.get(&wanted) {
            Some(given) => {
                let has = |auth| given.credentials.contains(&digest(auth));
                given.anybody || credentials.iter().any(has)
            }
            // A name that it has without a pull came by hand; its id alone is nobody's name for it.
            None => {
                let mut names = image.repo_tags.iter().chain(&image.repo_digests);
                names.any(|own| repository(own) == wanted)
            }
        }
    }

    /// The registry gave the image, for these credentials or for none.
    pub(crate) fn note(&self, id: &str, name: &str, auth: Option<&AuthConfig>) {
        let mut images = self.lock();
        let repositories = images.entry(id.to_owned()).or_default();
        let given = repositories.entry(repository(name)).or_default();
        let before = given.clone();
        match auth {
            Some(auth) => drop(given.credentials.insert(digest(auth))),
            None => given.anybody = true,
        }
        if *given != before {
            self.save(&images);
        }
    }

    /// The image isn't here any more.
    pub(crate) fn forget(&self, id: &str) {
        let mut images = self.lock();
        if images.remove(id).is_some() {
            self.save(&images);
        }
    }

    fn save(&self, images: &Images) {
        let write = || -> io::Result<()> {
            let new = self.file.with_extension("new");
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(serde_json::to_string(images)?.as_bytes())?;
            fs::rename(&new, &self.file)
        };
        if let Err(error) = write() {
            let file = self.file.display();
            tracing::warn!(%file, %error, "whose images they are won't be known after a restart");
        }
    }
}

/// A name in full, without its tag and digest.
fn repository(name: &str) -> String {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let bare = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => path,
        _ => name,
    };
    match credentials::split(bare) {
        ("docker.io" | "index.docker.io", path) if !path.contains('/') => format!("docker.io/library/{path}"),
        ("index.docker.io", path) => format!("docker.io/{path}"),
        (registry, path) => format!("{registry}/{path}"),
    }
}

fn digest(auth: &AuthConfig) -> String {
    let mut hasher = Sha256::new();
    for part in [&auth.username, &auth.password] {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(user: &str) -> AuthConfig {
        AuthConfig {
            username: user.to_owned(),
            password: "s3cret".to_owned(),
            ..AuthConfig::default()
        }
    }

    fn image(id: &str, names: &[&str]) -> Image {
        Image {
            id: id.to_owned(),
            repo_tags: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Image::default()
        }
    }

    #[test]
    fn an_image_is_for_those_who_could_pull_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pulled.json");
        let pulled = Pulled::load(file.clone());
        let app = image("id", &["here:5000/team/app:1", "by/hand:1"]);
        let name = "here:5000/team/app:1";
        assert!(pulled.allows(&app, name, &[]), "nobody pulled it");
        pulled.note("id", name, Some(&auth("ann")));
        for pulled in [pulled, Pulled::load(file.clone())] {
            let may = |name: &str, user: &str| pulled.allows(&app, name, &[auth(user)]);
            assert!(may(name, "ann") && may("here:5000/team/app:2", "ann"));
            assert!(!may(name, "bob") && !pulled.allows(&app, name, &[]));
            // The same content came under another name that isn't the registry's; but an id is no name.
            assert!(may("by/hand:1", "bob") && may("docker.io/by/hand:1", "bob"));
            assert!(!may("id", "bob"));
        }
        let pulled = Pulled::load(file.clone());
        pulled.note("id", name, None);
        assert!(pulled.allows(&app, name, &[]));
        pulled.forget("id");
        assert!(Pulled::load(file).allows(&app, "id", &[]));
    }

    #[test]
    fn names_lose_their_tags_and_are_in_full() {
        for name in [
            "h:5000/a",
            "h:5000/a:1",
            "h:5000/a@sha256:feed",
            "h:5000/a:1@sha256:feed",
        ] {
            assert_eq!(repository(name), "h:5000/a");
        }
        for name in [
            "a",
            "a:1",
            "docker.io/a",
            "docker.io/library/a:1",
            "index.docker.io/library/a",
        ] {
            assert_eq!(repository(name), "docker.io/library/a");
        }
    }
}
