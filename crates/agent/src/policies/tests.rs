//! An API that tests play, and what comes of it.

use std::collections::BTreeSet;
use std::io;

use http::{Request, Response};
use kube::client::Body;
use kube::runtime::watcher::Event;
use model::PodRef;
use serde_json::{Value, json};

use super::*;

/// An API that answers what a test says, by path; or is away.
pub(crate) fn answering(answer: impl Fn(&str) -> Option<Value> + Send + Sync + 'static) -> Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer(request.uri().path());
        async move {
            let answer = answer.ok_or(io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let bytes = serde_json::to_vec(&answer).expect("JSON");
            Ok::<_, io::Error>(Response::new(Body::from(bytes)))
        }
    });
    Client::new(service, "default")
}

/// An API that is away.
pub(crate) fn away() -> Client {
    answering(|_| None)
}

/// An API whose namespace `shop` has policies of these names and versions at that of the list.
pub(crate) fn with_versions(at: &str, policies: &[(&str, &str)]) -> Client {
    let item = |(name, version): &(&str, &str)| {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
               "metadata": {"name": name, "namespace": "shop", "resourceVersion": version}})
    };
    let items: Vec<Value> = policies.iter().map(item).collect();
    let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                      "metadata": {"resourceVersion": at}, "items": items});
    answering(move |path| {
        path.ends_with("/namespaces/shop/networkpolicies")
            .then(|| list.clone())
    })
}

pub(crate) fn pod(namespace: &str, name: &str) -> Pod {
    let object = json!({"metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
                        "spec": {"nodeName": "a", "containers": []}});
    serde_json::from_value(object).expect("a Pod")
}

pub(crate) fn pod_of_uid(name: &str, uid: &str) -> Pod {
    let mut pod = pod("shop", name);
    pod.metadata.uid = Some(uid.to_owned());
    pod
}

pub(crate) fn namespace(name: &str) -> Namespace {
    serde_json::from_value(json!({"metadata": {"name": name}})).expect("a Namespace")
}

/// One that lets nothing to the pods of `shop`.
pub(crate) fn policy(name: &str, version: &str) -> NetworkPolicy {
    let object = json!({"metadata": {"name": name, "namespace": "shop", "resourceVersion": version},
                        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    serde_json::from_value(object).expect("a NetworkPolicy")
}

fn list<K: Listed>(policies: &Policies, all: &[K]) {
    let mut follower = Follower::new(policies);
    follower.step(Event::<K>::Init);
    let applied = all.iter().cloned().map(Event::InitApply);
    applied.for_each(|event| follower.step(event));
    follower.step(Event::<K>::InitDone);
}

impl Policies {
    /// As if the API had these objects and no others.
    pub(crate) fn list(&self, policies: &[NetworkPolicy], namespaces: &[Namespace], pods: &[Pod]) {
        list(self, policies);
        list(self, namespaces);
        list(self, pods);
    }
}

fn of(uid: &str) -> PodRef {
    PodRef {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid: uid.to_owned(),
    }
}

fn knowing(client: Client, policies: &[NetworkPolicy], pods: &[Pod]) -> Policies {
    let known = Policies::new(client, "a", &BTreeSet::new());
    known.list(policies, &[namespace("shop")], pods);
    known
}

#[tokio::test(start_paused = true)]
async fn nothing_is_settled_before_all_three_lists_are_complete() {
    let policies = Policies::new(away(), "a", &BTreeSet::new());
    list(&policies, &[policy("deny", "5")]);
    list(&policies, &[pod_of_uid("web", "u")]);
    assert!(policies.with_index(|_| ()).is_none());
    let missing = policies
        .settle(&of("u"))
        .await
        .expect_err("namespaces aren't listed");
    assert_eq!(missing, Unsettled::NotListed(Kind::Namespaces));
    list(&policies, &[namespace("shop")]);
    assert!(policies.with_index(|_| ()).is_some());
    policies.settle(&of("u")).await.expect("settled");
}

#[tokio::test(start_paused = true)]
async fn while_the_api_is_away_what_is_known_counts() {
    let policies = knowing(away(), &[policy("deny", "5")], &[pod_of_uid("web", "u")]);
    assert_eq!(policies.settle(&of("u")).await, Ok(of("u")));
    let missing = policies.settle(&of("newer")).await.expect_err("another pod");
    assert_eq!(missing, Unsettled::Pod("shop/web".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_a_policy_that_was_there_before_it() {
    let pods = [pod_of_uid("web", "u")];
    let policies = knowing(
        with_versions("9", &[("deny", "7")]),
        &[policy("deny", "5")],
        &pods,
    );
    let pod = of("u");
    let mut settling = std::pin::pin!(policies.settle(&pod));
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), settling.as_mut());
    early.await.expect_err("the watch is behind");
    policies.put(policy("deny", "7"));
    settling.await.expect("settled");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_gone_is_waited_for_too_and_one_that_came_later_is_not() {
    let pods = [pod_of_uid("web", "u")];
    let policies = knowing(with_versions("9", &[]), &[policy("old", "5")], &pods);
    let missing = policies.settle(&of("u")).await.expect_err("it's still known");
    assert_eq!(missing, Unsettled::Policies("shop".to_owned()));
    policies.gone(&policy("old", "5"));
    policies.put(policy("later", "12"));
    policies.settle(&of("u")).await.expect("settled");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_stays_behind_begins_anew() {
    let pods = [pod_of_uid("web", "u")];
    let policies = knowing(with_versions("9", &[("deny", "7")]), &[], &pods);
    let anew = policies.anew.each_ref().map(watch::Sender::subscribe);
    let pod = of("u");
    let settling = policies.settle(&pod);
    let listing = async {
        let mut asked = anew[Kind::Policies as usize].clone();
        asked.changed().await.expect("open");
        list(&policies, &[policy("deny", "7")]);
    };
    let (settled, ()) = tokio::join!(settling, listing);
    settled.expect("settled");
    assert!(!anew[Kind::Pods as usize].has_changed().expect("open"));
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_does_not_say_which_pod_it_is_has_the_api_asked() {
    let client = answering(|path| {
        path.ends_with("/pods/web").then(|| {
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                   "metadata": {"name": "web", "namespace": "shop", "uid": "newer"}})
        })
    });
    let policies = knowing(client, &[], &[pod_of_uid("web", "older")]);
    let missing = policies.settle(&of("")).await.expect_err("the watch is behind");
    assert_eq!(missing, Unsettled::Pod("shop/web".to_owned()));
    policies.put(pod_of_uid("web", "newer"));
    assert_eq!(policies.settle(&of("")).await, Ok(of("newer")));
}

#[tokio::test(start_paused = true)]
async fn a_new_list_takes_away_what_is_not_in_it() {
    let policies = knowing(
        away(),
        &[policy("a", "1"), policy("b", "2")],
        &[pod("shop", "web"), pod("shop", "db")],
    );
    policies.list(&[policy("b", "2")], &[namespace("shop")], &[pod("shop", "web")]);
    let known = policies.known();
    assert_eq!(NetworkPolicy::keys(&known), [("shop".to_owned(), "b".to_owned())]);
    assert_eq!(Pod::keys(&known), [("shop".to_owned(), "web".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_pod_of_the_cluster_waits_for_the_lists_alone() {
    let policies = knowing(away(), &[], &[]);
    assert_eq!(policies.settle(&PodRef::default()).await, Ok(PodRef::default()));
}
