//! Images that come from a registry, and go when nobody needs them.

use std::net::TcpListener;

use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use kubelet::ImageGc;
use serde_json::{Value, json};
use testkit::{Registry, RegistryImage};

use crate::image;
use crate::lab::{Lab, NODE, container, on_a_node};

/// The network namespace is the test's own, and so are its ports.
pub(crate) const PLACE: &str = "127.0.0.1:5000";

pub(crate) fn registry(lab: &Lab) -> (Registry, RegistryImage) {
    let registry = Registry::default();
    registry.serve(TcpListener::bind(PLACE).unwrap());
    let image = RegistryImage::from_archive(&lab.dir.path().join("image.tar"), image::IMAGE);
    (registry, image)
}

pub(crate) fn sleeper(image: &str) -> Value {
    json!({"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "a", "image": format!("{PLACE}/{image}"), "command": ["sleep", "1000"]}]})
}

#[test]
fn an_image_is_pulled_with_the_pods_credentials_and_only_when_it_has_to_be() {
    on_a_node(async |lab| {
        let (registry, image) = registry(lab);
        registry.push("team/app", "1", &image);
        registry.protect("team/app", "ann", "s3cret");
        let auths = json!({"auths": {PLACE: {"username": "ann", "password": "s3cret"}}});
        lab.create::<Secret>(
            json!({"metadata": {"name": "pull"}, "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": auths.to_string()}}),
        )
        .await;
        lab.pod("stranger", sleeper("team/app:1")).await;
        let failed = lab.event("stranger", "Failed").await;
        // Versions of containerd say it in different words.
        let refused = ["401 Unauthorized", "authorization failed"];
        assert!(refused.iter().any(|words| failed.contains(words)), "{failed}");
        let mut friend = sleeper("team/app:1");
        friend["imagePullSecrets"] = json!([{"name": "pull"}]);
        lab.pod("friend", friend.clone()).await;
        lab.ready("friend").await;
        let pulled = lab.event("friend", "Pulled").await;
        assert!(pulled.starts_with("Successfully pulled image \"127.0.0.1:5000/team/app:1\" in "));
        // It is here now: one that doesn't insist asks nobody.
        let before = registry.requests().len();
        friend["containers"][0]["imagePullPolicy"] = "IfNotPresent".into();
        lab.pod("again", friend.clone()).await;
        lab.ready("again").await;
        assert_eq!(registry.requests().len(), before);
        // Nor does it have to be given again to those who may have it; to others it isn't given.
        let mut other = sleeper("team/app:1");
        other["containers"][0]["imagePullPolicy"] = "IfNotPresent".into();
        lab.pod("other", other).await;
        let failed = lab.event("other", "Failed").await;
        assert!(refused.iter().any(|words| failed.contains(words)), "{failed}");
        friend["containers"][0]["imagePullPolicy"] = "Always".into();
        lab.pod("fresh", friend).await;
        lab.ready("fresh").await;
        assert!(registry.requests().len() > before);
        for name in ["stranger", "friend", "again", "other", "fresh"] {
            lab.delete(name, &DeleteParams::default()).await;
        }
        lab.nothing_left().await;
    });
}

#[test]
fn images_that_nobody_uses_go_when_the_disk_is_full_and_others_stay() {
    on_a_node(async |lab| {
        let (registry, image) = registry(lab);
        // An image is known by its content: these are to be others than the one that is there.
        registry.push("old", "1", &image.with_label("old"));
        registry.push("used", "1", &image.with_label("used"));
        lab.pod("old", sleeper("old:1")).await;
        lab.pod("used", sleeper("used:1")).await;
        lab.ready("old").await;
        let used = lab.ready("used").await;
        let used = container(&used, "a")["imageID"].as_str().unwrap().to_owned();
        lab.delete("old", &DeleteParams::default()).await;

        // Any disk is fuller than this.
        lab.stop_kubelet().await;
        lab.config.image_gc = ImageGc {
            high_percent: 0,
            low_percent: 0,
            min_age_seconds: 1,
            period_seconds: 1,
        };
        lab.start_kubelet();
        let tags = async || -> Vec<String> {
            let images = lab.cri.list_images().await.unwrap();
            images.into_iter().flat_map(|image| image.repo_tags).collect()
        };
        lab.eventually("the old image is gone", || async {
            let gone = !tags().await.contains(&format!("{PLACE}/old:1"));
            gone.then_some(())
        })
        .await;
        let left = tags().await;
        assert!(
            left.contains(&format!("{PLACE}/used:1")),
            "{used} is used: {left:?}"
        );
        assert!(
            left.contains(&image::IMAGE.to_owned()),
            "no registry has it: {left:?}"
        );
        let event = lab.event(NODE, "FreeDiskSpaceFailed").await;
        assert!(
            event.starts_with("Failed to garbage collect required amount of images."),
            "{event}"
        );
        lab.delete("used", &DeleteParams::default()).await;
    });
}
