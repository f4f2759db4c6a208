//! Whatever goes wrong with a registry is told as the runtime heard it, and ends when the registry does well
//! again.

use std::process::Command;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::DeleteParams;
use pki::Subject;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use testkit::Trouble;
use tokio_rustls::TlsAcceptor;

use crate::lab::{Lab, container, on_a_node};
use crate::registry::{PLACE, registry, sleeper};

/// An address that no runtime takes for its own machine, and so asks only with TLS.
const ELSEWHERE: &str = "192.0.2.1";

/// A pod, which is a repository too; what is wrong with it; and what is said of that. Versions of containerd
/// use different words: each stands between bars.
const FAULTS: [(&str, &str); 10] = [
    ("no-credentials", "401 Unauthorized|authorization failed"),
    ("wrong-credentials", "401 Unauthorized|authorization failed"),
    ("denied", "403 Forbidden"),
    ("no-repository", "127.0.0.1:5000/no-repository:1: not found"),
    ("no-tag", "127.0.0.1:5000/no-tag:1: not found"),
    ("down", "503 Service Unavailable"),
    ("corrupt", "unexpected digest|unexpected commit digest"),
    ("cut-short", "EOF"),
    ("refused", "connection refused"),
    ("unknown-authority", "certificate signed by unknown authority"),
];

#[test]
fn what_goes_wrong_with_a_registry_is_told_and_ends_with_it() {
    on_a_node(async |lab| {
        let (registry, image) = registry(lab);
        for name in [
            "no-credentials",
            "wrong-credentials",
            "denied",
            "down",
            "corrupt",
            "cut-short",
        ] {
            registry.push(name, "1", &image.with_label(name));
        }
        registry.push("no-tag", "2", &image);
        for name in ["no-credentials", "wrong-credentials"] {
            registry.protect(name, "ann", "s3cret");
        }
        let denied = "requested access to the resource is denied";
        registry.trouble("denied", Trouble::refuses(403, "DENIED", denied));
        registry.trouble("down", Trouble::refuses(503, "UNAVAILABLE", "back soon"));
        registry.trouble("corrupt", Trouble::Corrupt);
        registry.trouble("cut-short", Trouble::CutShort);
        let _strange = strange(lab).await;
        wrong_credentials(lab).await;

        for (name, _) in FAULTS {
            let place = match name {
                "refused" => "localhost:1",
                "unknown-authority" => ELSEWHERE,
                _ => PLACE,
            };
            let mut pod = sleeper(&format!("{name}:1"));
            pod["containers"][0]["image"] = format!("{place}/{name}:1").into();
            if name == "wrong-credentials" {
                pod["imagePullSecrets"] = json!([{"name": "wrong"}, {"name": "gone"}]);
            }
            lab.pod(name, pod).await;
        }
        for (name, words) in FAULTS {
            is_told(lab, name, words).await;
        }
        let warned = lab
            .event("wrong-credentials", "FailedToRetrieveImagePullSecret")
            .await;
        assert!(
            warned.starts_with("Unable to retrieve some image pull secrets (gone); "),
            "{warned}"
        );

        // After its back-off a pull is tried again, and finds that all is well.
        for name in ["denied", "down", "corrupt", "cut-short"] {
            registry.mend(name);
        }
        for name in ["denied", "down", "corrupt", "cut-short"] {
            lab.ready(name).await;
        }
        for (name, _) in FAULTS {
            lab.delete(name, &DeleteParams::default()).await;
        }
        lab.nothing_left().await;
    });
}

/// What `kubectl describe` shows of a pull that failed and waits for its next attempt.
async fn is_told(lab: &Lab, name: &str, words: &str) {
    let waits = |pod: &Pod| container(pod, "a")["state"]["waiting"]["reason"] == "ImagePullBackOff";
    let pod = lab.pod_where(name, "ImagePullBackOff", waits).await;
    let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    let state = &container(&pod, "a")["state"]["waiting"];
    let message = state["message"].as_str().unwrap().to_owned();
    let begins = format!("Back-off pulling image {image:?}: ErrImagePull: ");
    assert!(message.starts_with(&begins), "{message}");
    assert!(
        words.split('|').any(|word| message.contains(word)),
        "{name}: {message}"
    );
    let wanted = [
        ("Pulling", format!("Pulling image {image:?}")),
        ("Failed", format!("Failed to pull image {image:?}: ")),
        ("Failed", "Error: ErrImagePull".to_owned()),
        ("BackOff", format!("Back-off pulling image {image:?}")),
        ("Failed", "Error: ImagePullBackOff".to_owned()),
    ];
    lab.eventually(&format!("events of {name}"), || async {
        let events = lab.events(name).await;
        let has = |(reason, begins): &(&str, String)| {
            events
                .iter()
                .any(|(r, message)| r == reason && message.starts_with(begins))
        };
        wanted.iter().all(has).then_some(())
    })
    .await;
}

async fn wrong_credentials(lab: &Lab) {
    let auths = json!({"auths": {PLACE: {"username": "ann", "password": "guessed"}}});
    lab.create::<Secret>(
        json!({"metadata": {"name": "wrong"}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": auths.to_string()}}),
    )
    .await;
}

/// A registry whose certificate is of an authority that nobody here knows.
async fn strange(lab: &Lab) -> tokio_util::task::AbortOnDropHandle<()> {
    let add = ["address", "add", "192.0.2.1/32", "dev", "lo"];
    assert!(Command::new("ip").args(add).status().unwrap().success());
    let pair = lab
        .authority
        .issue_server(&Subject::new("registry"), &[ELSEWHERE.to_owned()])
        .unwrap();
    let certificate = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind((ELSEWHERE, 443)).await.unwrap();
    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever comes turns away again.
            let _ = acceptor.accept(stream).await;
        }
    }))
}

/// Nothing but time tells a slow registry from one that has stopped: it shows as being pulled until it is done.
#[test]
fn a_slow_pull_shows_as_one_and_ends_when_the_image_is_there() {
    on_a_node(async |lab| {
        let (registry, image) = registry(lab);
        registry.push("slow", "1", &image.with_label("slow"));
        registry.trouble("slow", Trouble::stalls());
        lab.pod("slow", sleeper("slow:1")).await;
        let pulling = lab.event("slow", "Pulling").await;
        assert_eq!(pulling, format!("Pulling image \"{PLACE}/slow:1\""));
        let asked = || {
            registry
                .requests()
                .iter()
                .any(|request| request.contains("/blobs/"))
        };
        lab.eventually("a blob is asked for", || async { asked().then_some(()) })
            .await;
        let pod = lab.pods().get("slow").await.unwrap();
        let state: Value = container(&pod, "a")["state"].clone();
        assert_eq!(state["waiting"]["reason"], "ContainerCreating");
        lab.pod("waits", sleeper("slow:1")).await;
        lab.event("waits", "Pulling").await;
        registry.mend("slow");
        let mut pulls = Vec::new();
        for name in ["slow", "waits"] {
            lab.ready(name).await;
            pulls.push(lab.event(name, "Pulled").await);
        }
        assert!(pulls[0].starts_with("Successfully pulled image"), "{pulls:?}");
        // Of those who wait for the same pull each takes what it brought.
        assert_eq!(
            pulls[1],
            format!("Container image \"{PLACE}/slow:1\" already present on machine")
        );
    });
}
