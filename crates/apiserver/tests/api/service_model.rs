//! Random changes of Services against a model that knows who has what.

use std::collections::{BTreeMap, BTreeSet};

use apiserver::ServiceConfig;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::services::{ADDRESSES, SERVICES, config};
use crate::support::{Raw, Running};

#[derive(Debug, Clone)]
struct Wish {
    name: u8,
    kind: &'static str,
    /// The last number of an address, and of a node port.
    address: Option<u8>,
    port: Option<u16>,
    rehearsal: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Create(Wish),
    /// Another type or port.
    Change(Wish),
    Delete(u8),
}

fn wish() -> impl Strategy<Value = Wish> {
    let kind = prop::sample::select(
        &[
            "ClusterIP",
            "NodePort",
            "LoadBalancer",
            "ExternalName",
            "Headless",
        ][..],
    );
    let address = prop::option::weighted(0.4, 0..20u8);
    let port = prop::option::weighted(0.4, 0..12u16);
    (0..10u8, kind, address, port, prop::bool::weighted(0.1)).prop_map(
        |(name, kind, address, port, rehearsal)| Wish {
            name,
            kind,
            address,
            port,
            rehearsal,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => wish().prop_map(Step::Create),
        3 => wish().prop_map(Step::Change),
        2 => (0..10u8).prop_map(Step::Delete),
    ]
}

/// A range of 14 addresses and one of 8 ports: both run out.
fn small() -> ServiceConfig {
    ServiceConfig {
        node_ports: 30_000..=30_007,
        ..config(&["10.96.0.0/28"])
    }
}

fn body(wish: &Wish, changed: bool) -> Value {
    let mut spec =
        json!({ "type": wish.kind, "externalName": null, "ports": [{ "port": 80, "nodePort": null }] });
    match wish.kind {
        "Headless" if changed => spec["type"] = "ClusterIP".into(),
        "Headless" => {
            spec["type"] = "ClusterIP".into();
            spec["clusterIP"] = "None".into();
        }
        "ExternalName" => spec["externalName"] = "example.org".into(),
        _ => {}
    }
    if let (Some(last), false) = (wish.address, changed || spec.get("clusterIP").is_some()) {
        spec["clusterIP"] = format!("10.96.0.{last}").into();
    }
    if let (Some(port), "NodePort" | "LoadBalancer") = (wish.port, wish.kind) {
        spec["ports"][0]["nodePort"] = (30_000 + port).into();
    }
    json!({ "metadata": { "name": format!("s{}", wish.name) }, "spec": spec })
}

/// What a Service holds, as the API shows it.
fn holds(service: &Value) -> (BTreeSet<String>, BTreeSet<u64>) {
    let spec = &service["spec"];
    let addresses = spec["clusterIPs"].as_array().into_iter().flatten();
    let addresses = addresses.filter_map(Value::as_str).filter(|ip| *ip != "None");
    let ports = spec["ports"].as_array().into_iter().flatten();
    let ports = ports.filter_map(|port| port["nodePort"].as_u64());
    (addresses.map(str::to_owned).collect(), ports.collect())
}

type Model = BTreeMap<String, (BTreeSet<String>, BTreeSet<u64>)>;

fn is_free(model: &Model, own: &str, service: &Value, wish: &Wish) -> bool {
    let others = || {
        model
            .iter()
            .filter(|(name, _)| *name != own)
            .map(|(_, held)| held)
    };
    let address = service["spec"]["clusterIP"].as_str();
    let address_free = address.is_none_or(|ip| ip == "None" || !others().any(|held| held.0.contains(ip)));
    let in_range =
        wish.address.is_none_or(|last| (1..=14).contains(&last)) || address.is_none_or(|ip| ip == "None");
    let port = service["spec"]["ports"][0]["nodePort"].as_u64();
    let port_free = port.is_none_or(|port| port <= 30_007 && !others().any(|held| held.1.contains(&port)));
    address_free && in_range && port_free
}

async fn take(raw: &Raw, model: &mut Model, step: &Step) {
    let (wish, changed) = match step {
        Step::Delete(name) => {
            let name = format!("s{name}");
            let code = raw.delete(&format!("{SERVICES}/{name}"), &json!({})).await.code;
            assert_eq!(code == 200, model.remove(&name).is_some());
            return;
        }
        Step::Create(wish) => (wish, false),
        Step::Change(wish) => (wish, true),
    };
    let (name, object) = (format!("s{}", wish.name), body(wish, changed));
    let query = if wish.rehearsal { "?dryRun=All" } else { "" };
    let answer = if changed {
        raw.patch(&format!("{SERVICES}/{name}{query}"), "merge", &object)
            .await
    } else {
        raw.post(&format!("{SERVICES}{query}"), &object).await
    };
    let there = model.contains_key(&name);
    match answer.code {
        200 | 201 => {
            assert_eq!(there, changed, "{step:?}");
            assert!(is_free(model, &name, &object, wish), "{step:?} {}", answer.body);
            if !wish.rehearsal {
                model.insert(name, holds(&answer.body));
            }
        }
        404 => assert!(changed && !there),
        409 => assert!(!changed && there),
        // Nothing left, or nothing in the object's own favour.
        500 => {
            let addresses: usize = model.values().map(|held| held.0.len()).sum();
            let ports: usize = model.values().map(|held| held.1.len()).sum();
            assert!(addresses == 14 || ports == 8, "{step:?}: {}", answer.body);
        }
        422 => {
            let message = answer.message();
            let expected = !is_free(model, &name, &object, wish)
                // Kubernetes' own rules.
                || message.contains("may not be set for ExternalName") || message.contains("may not change once set")
                || message.contains("may not be set to 'None'") || message.contains("may not be used when")
                || message.contains("Required value");
            assert!(expected, "{step:?}: {message}");
        }
        code => panic!("{step:?}: {code} {}", answer.body),
    }
}

/// Nobody shares anything, and what is taken is what Services have.
async fn check(raw: &Raw, model: &Model) {
    let list = raw.get(ADDRESSES).await.body;
    let items = list["items"].as_array().unwrap().iter();
    let taken: BTreeSet<_> = items
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    let held: Vec<_> = model.values().flat_map(|held| held.0.iter().cloned()).collect();
    assert_eq!(held.len(), taken.len());
    assert_eq!(held.into_iter().collect::<BTreeSet<_>>(), taken);
    let ports: Vec<_> = model.values().flat_map(|held| held.1.iter()).collect();
    assert_eq!(ports.len(), ports.iter().collect::<BTreeSet<_>>().len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_two_services_ever_have_the_same(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let running = Running::with_services(small()).await;
            let (raw, mut model) = (running.raw(), Model::new());
            for step in &steps {
                take(&raw, &mut model, step).await;
                check(&raw, &model).await;
            }
        });
    }
}
