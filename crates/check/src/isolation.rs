//! Policies in force: a pod that a default deny isolates in both directions, but for what two more
//! policies allow.

use std::net::IpAddr;

use futures::future::{join_all, try_join_all};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::ask::{families, path};
use crate::checks::look_at;
use crate::lab::{Answer, Lab, Spot};
use crate::pods::{ISOLATED, KIND, NAME};
use crate::report::Row;
use crate::services::until_passed;
use crate::shell::plain;

const MADE: &str = "policies";
const DENIED: &str = "policy, what it doesn't allow";
const ALLOWED: &str = "policy, what it allows";
const NAMES: &str = "policy, names under a default deny";

/// Who may ask the isolated pod: one on its node, one elsewhere.
const FRIENDS: [&str; 2] = ["neighbour-0", "pod-1"];
/// What isn't answered is waited for this long.
const SILENCE: &str = "1s";

/// Makes the policies, before the pod that they isolate.
pub(crate) async fn make(client: &Client, namespace: &str) -> Result<(), String> {
    let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let objects = objects();
    let create = async |object: &NetworkPolicy| {
        let name = object.metadata.name.clone().unwrap_or_default();
        let made = api.create(&PostParams::default(), object).await;
        made.map(drop)
            .map_err(|error| format!("the API refuses the NetworkPolicy {name}: {}", plain(&error)))
    };
    try_join_all(objects.iter().map(create)).await.map(drop)
}

fn objects() -> Vec<NetworkPolicy> {
    let policy = |name: &str, mut spec: Value| {
        spec["podSelector"] = json!({"matchLabels": {KIND: ISOLATED}});
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name}, "spec": spec,
        });
        serde_json::from_value(object).expect("the literal is a NetworkPolicy")
    };
    let friends = json!([{"key": NAME, "operator": "In", "values": FRIENDS}]);
    let dns = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    });
    let port = json!([{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]);
    vec![
        policy("default-deny", json!({"policyTypes": ["Ingress", "Egress"]})),
        policy(
            "allow-friends",
            json!({
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {"matchExpressions": friends}}], "ports": [{"port": "http"}]}],
            }),
        ),
        policy(
            "allow-dns",
            json!({"policyTypes": ["Egress"], "egress": [{"to": [dns], "ports": port}]}),
        ),
    ]
}

/// To the isolated pod and from it.
pub(crate) async fn isolation(lab: &Lab) -> Vec<Row> {
    if let Err(why) = &lab.policies {
        let next = "`ripstop status` shows whether the server runs; the log of the server says more";
        return vec![Row::failed(MADE, "", why, next)];
    }
    let mut places = lab.places.iter();
    let (Some(here), there) = (places.next(), places.next()) else {
        return Vec::new();
    };
    let Some(isolated) = &here.isolated else {
        return vec![Row::skipped(DENIED, "its pod didn't start")];
    };
    let spots = |all: [Option<&Spot>; 3]| all.into_iter().flatten().cloned().collect::<Vec<_>>();
    let friends = spots([
        here.neighbour.as_ref(),
        there.and_then(|place| place.pod.as_ref()),
        // Its own node, as probes come from there.
        here.host.as_ref(),
    ]);
    let strangers = spots([
        here.pod.as_ref(),
        there.and_then(|place| place.host.as_ref()),
        None,
    ]);
    let neighbour = here.neighbour.as_ref();
    let denied = strangers.iter().map(|from| (from, isolated));
    let denied = denied.chain(neighbour.map(|to| (isolated, to)));
    let denied = denied.map(|(from, to)| silence(lab, from, to));
    let allowed = friends
        .iter()
        .map(|from| until_passed(lab, || answers(lab, from, isolated)));
    let (denied, allowed, names) = tokio::join!(join_all(denied), join_all(allowed), names(lab, isolated));
    [denied.concat(), allowed.concat(), vec![names]].concat()
}

/// What nothing allows has no answer, and never had one: the policies were there first.
async fn silence(lab: &Lab, from: &Spot, to: &Spot) -> Vec<Row> {
    ask(lab, DENIED, [from, to], |answer| match &answer.error {
        Some(why) => Ok(why.clone()),
        None => Err("answered, and no policy allows it".to_owned()),
    })
    .await
}

async fn answers(lab: &Lab, from: &Spot, to: &Spot) -> Vec<Row> {
    ask(lab, ALLOWED, [from, to], |answer| {
        let seen = answer.seen()?;
        Ok(format!("seen as {seen}; {:.1} ms", answer.ms))
    })
    .await
}

async fn ask(
    lab: &Lab,
    check: &str,
    [from, to]: [&Spot; 2],
    judge: impl Fn(&Answer) -> Result<String, String>,
) -> Vec<Row> {
    let addresses: Vec<IpAddr> = families(from, &to.addresses).collect();
    let urls: Vec<String> = addresses.iter().map(|address| to.url(*address, "/")).collect();
    let told = lab.get_within(SILENCE, from, &urls).await;
    let rows = addresses.iter().enumerate().map(|(number, address)| {
        let verdict = match &told {
            Ok(told) => judge(&told[number]),
            Err(why) => Err(why.clone()),
        };
        let path = format!(
            "{} ({})",
            path(from, to, *address),
            [&*from.pod, &*to.pod].join(" → ")
        );
        row(lab, check, path, [from, to], verdict)
    });
    rows.collect()
}

/// Names are found, by the usual rule for the cluster's DNS.
async fn names(lab: &Lab, from: &Spot) -> Row {
    let words = [
        "timeout",
        "10",
        "nslookup",
        "kubernetes.default.svc.cluster.local",
    ];
    let out = lab.shell.exec(&from.pod, words.map(str::to_owned).to_vec()).await;
    let verdict = out.and_then(|out| match out.code {
        0 => Ok("found, though nothing else is allowed to leave".to_owned()),
        _ => Err(format!("not found: {}{}", out.stdout.trim(), out.stderr.trim())),
    });
    row(lab, NAMES, from.node.clone(), [from, from], verdict)
}

fn row(lab: &Lab, check: &str, path: String, [from, to]: [&Spot; 2], verdict: Result<String, String>) -> Row {
    match verdict {
        Ok(detail) => Row::passed(check, path, detail),
        Err(cause) => {
            let logs = look_at(lab.cluster.as_deref(), &[&from.node, &to.node]);
            let next = format!("{logs} says which policies it couldn't read or write");
            Row::failed(check, path, cause, next)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{lab, works};

    fn paths<'a>(rows: &'a [Row], check: &str) -> Vec<&'a str> {
        let rows = rows.iter().filter(|row| row.check == check);
        rows.map(|row| row.path.as_str()).collect()
    }

    #[tokio::test]
    async fn friends_and_the_own_node_ask_and_strangers_do() {
        let rows = isolation(&lab(2, works())).await;
        assert!(!rows.iter().any(Row::is_failure), "{rows:#?}");
        assert_eq!(
            paths(&rows, DENIED),
            [
                "node-0 → node-0 (pod-0 → isolated-8)",
                "node-1 → node-0 (host-1 → isolated-8)",
                "node-0 → node-0 (isolated-8 → neighbour-9)",
            ]
        );
        assert_eq!(
            paths(&rows, ALLOWED),
            [
                "node-0 → node-0 (neighbour-9 → isolated-8)",
                "node-1 → node-0 (pod-1 → isolated-8)",
                "node-0 → node-0 (host-0 → isolated-8)",
            ]
        );
        assert_eq!(paths(&rows, NAMES), ["node-0"]);
    }

    #[tokio::test]
    async fn an_answer_that_no_policy_allows_is_a_failure() {
        let rows = isolation(&lab(2, works().without_policies())).await;
        let failed: Vec<&Row> = rows.iter().filter(|row| row.is_failure()).collect();
        assert_eq!(failed.len(), 3, "{rows:#?}");
        let text = format!("{:?}", failed[0]);
        assert!(
            text.contains("no policy allows it") && text.contains("agent node-0"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn policies_that_the_api_refuses_are_told() {
        let mut lab = lab(2, works());
        lab.policies = Err("the API refuses the NetworkPolicy allow-dns: forbidden".to_owned());
        let rows = isolation(&lab).await;
        assert!(rows.len() == 1 && rows[0].is_failure());
    }

    #[test]
    fn the_pod_is_isolated_in_both_directions() {
        let all = objects().into_iter().filter_map(|object| object.spec);
        let types: Vec<Vec<String>> = all.filter_map(|spec| spec.policy_types).collect();
        assert_eq!(types[0], ["Ingress", "Egress"]);
        assert_eq!(types.len(), 3);
    }
}
