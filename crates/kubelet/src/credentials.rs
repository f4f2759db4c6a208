//! What a pod has to show to a registry: the Secrets among its `imagePullSecrets` that are for the image.

use std::cmp::Reverse;
use std::collections::HashMap;

use base64::Engine;
use cri::message::AuthConfig;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;

use crate::objects::{Data, Lookup, Source};
use crate::pod;

/// The part of a `kubernetes.io/dockerconfigjson` that matters.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

/// The pod's credentials for the image, in the order to try them: those for the longest path first.
pub(crate) fn for_image(pod: &Pod, image: &str, objects: &dyn Lookup) -> Vec<AuthConfig> {
    let secrets = pod::spec(pod).image_pull_secrets.iter().flatten();
    let data = secrets.filter_map(|s| objects.data(Source::Secret, &s.name).ok().flatten());
    let all = data
        .filter_map(|data| config(&data))
        .flat_map(|config| config.auths);
    let mut fitting: Vec<_> = all.filter(|(place, _)| is_for(place, image)).collect();
    // The order within one Secret is lost: this one doesn't change from pull to pull.
    fitting.sort_by(|(one, _), (two, _)| (Reverse(one.len()), one).cmp(&(Reverse(two.len()), two)));
    fitting.into_iter().map(|(_, auth)| credential(auth)).collect()
}

/// Those of the pod's `imagePullSecrets` that can't be had.
pub(crate) fn missing<'a>(pod: &'a Pod, objects: &dyn Lookup) -> Vec<&'a str> {
    let names = pod::spec(pod).image_pull_secrets.iter().flatten();
    let names = names.map(|secret| secret.name.as_str());
    let is_there = |name: &&str| matches!(objects.data(Source::Secret, name), Ok(Some(_)));
    names.filter(|name| !name.is_empty() && !is_there(name)).collect()
}

fn config(data: &Data) -> Option<DockerConfig> {
    let modern = data
        .get(".dockerconfigjson")
        .map(|text| serde_json::from_slice::<DockerConfig>(text));
    let old = || {
        data.get(".dockercfg")
            .map(|text| serde_json::from_slice(text).map(|auths| DockerConfig { auths }))
    };
    modern.or_else(old)?.ok()
}

/// What the runtime is told. Not which server it is for, as Kubernetes doesn't either: runtimes compare that
/// with a URL's host, and the names in these Secrets mostly aren't URLs.
fn credential(auth: DockerAuth) -> AuthConfig {
    let decoded = base64::engine::general_purpose::STANDARD.decode(&auth.auth).ok();
    let decoded = decoded.and_then(|b| String::from_utf8(b).ok());
    let (username, password) = match decoded.as_deref().and_then(|t| t.split_once(':')) {
        Some((user, password)) if auth.username.is_empty() => (user.to_owned(), password.to_owned()),
        _ => (auth.username, auth.password),
    };
    AuthConfig {
        username,
        password,
        ..AuthConfig::default()
    }
}

/// Whether credentials for a place are for that image. A place is a registry, with or without a scheme, each
/// part of whose name may have `*`, and with the beginning of a path if not all of it is meant.
fn is_for(place: &str, image: &str) -> bool {
    let bare = place.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    // Docker's own registry is named by its API: `https://index.docker.io/v1/`.
    let path = ["v1", "v2"].iter().find_map(|version| {
        let rest = path.strip_prefix(version)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
    });
    let path = path.unwrap_or_else(|| bare.split_once('/').map_or("", |(_, path)| path));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    };
    let (registry, repository) = split(image);
    let (labels, wanted) = (host.split('.'), registry.split('.'));
    labels.clone().count() == wanted.clone().count()
        && labels.zip(wanted).all(|(label, wanted)| fits(label, wanted))
        && repository.starts_with(path.trim_end_matches('/'))
}

/// An image's registry, and its path there.
pub(crate) fn split(image: &str) -> (&str, &str) {
    match image.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", image),
    }
}

/// Whether a text is as a pattern says, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|left| {
            let ends = left.char_indices().map(|(at, _)| at).chain([left.len()]);
            ends.into_iter().any(|at| fits(tail, &left[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::Fixed;
    use crate::pod::tests::pod;
    use rstest::rstest;
    use serde_json::json;

    #[test]
    fn credentials_are_for_the_right_registry() {
        let auth = base64::engine::general_purpose::STANDARD.encode("me:secret");
        let config = json!({"auths": {
            "registry.example:5000": {"auth": auth},
            "registry.example:5000/team": {"username": "team", "password": "t"},
            "https://index.docker.io/v1/": {"username": "u", "password": "p"}}})
        .to_string();
        let objects = Fixed::default().with(Source::Secret, "pull", &[(".dockerconfigjson", &config)]);
        let it = pod(
            json!({"spec": {"containers": [], "imagePullSecrets": [{"name": "pull"}, {"name": "gone"}]}}),
        );
        let found = for_image(&it, "busybox:1", &objects);
        assert!(found.iter().all(|auth| auth.server_address.is_empty()));
        let user = |image: &str| -> Vec<String> {
            for_image(&it, image, &objects)
                .into_iter()
                .map(|a| format!("{}/{}", a.username, a.password))
                .collect()
        };
        assert_eq!(user("registry.example:5000/a:1"), ["me/secret"]);
        assert_eq!(user("registry.example:5000/team/a:1"), ["team/t", "me/secret"]);
        assert_eq!(user("busybox:1"), ["u/p"]);
        assert!(user("localhost/a:1").is_empty());
        assert_eq!(missing(&it, &objects), ["gone"]);
    }

    #[rstest]
    #[case("*.example.com", "eu.example.com/a:1", true)]
    #[case("*.example.com", "example.com/a:1", false)]
    #[case("*.example.com", "a.b.example.com/a:1", false)]
    #[case("r*y.example.com", "registry.example.com/a:1", true)]
    #[case("registry.example.com", "registry.example.com:5000/a:1", false)]
    #[case("https://registry.example.com/v2/", "registry.example.com/a:1", true)]
    #[case("registry.example.com/v2ray", "registry.example.com/a:1", false)]
    #[case("docker.io", "library/busybox", true)]
    fn places(#[case] place: &str, #[case] image: &str, #[case] expected: bool) {
        assert_eq!(is_for(place, image), expected);
    }
}
