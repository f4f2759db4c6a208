//! A thousand policies and ten thousand pods: what an agent does with them, cold, again, and when one policy
//! or one pod changes. The pods needn't exist for that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use model::{
    AttachmentId, Labels, NamespacedName, PodRef, Policy, PolicyAttachment, PolicyPeer, PolicyPod,
    PolicyPort, PolicyRule, PolicySnapshot, PortMatch, Protocol, Selector,
};
use plan::PolicyIndex;

use crate::figures::{Figures, Unit, quantile};
use crate::services::Node;

const POLICIES: u32 = 1_000;
const PODS: u32 = 10_000;
/// As many of the pods are on the node.
const OWN: u32 = 100;
const NAMESPACES: u32 = 50;
/// How many kinds of pods a namespace has.
const APPS: u32 = 20;
/// How often one policy, and one pod, changes.
const CHANGES: u32 = 400;

/// Measures all of it on a node of its own.
pub(crate) async fn measure(figures: &mut Figures) -> Result<()> {
    let title = |what: &str| format!("{POLICIES} policies, {PODS} pods: {what}");
    let millis = |begin: Instant| begin.elapsed().as_secs_f64() * 1e3;
    let node = Node::new().await?;
    let snapshot = snapshot();
    let begin = Instant::now();
    let mut index = PolicyIndex::of(&snapshot);
    let tables = index.plan().tables;
    let planned = millis(begin);
    let writes = node.kernel.apply_policies(&tables)?;
    let note = format!("{writes} writes; planned in {}", Unit::Millis.write(planned));
    figures.add(
        &title("planned and written, cold"),
        millis(begin),
        Unit::Millis,
        None,
        note,
    );
    index.take_change();

    let again = node
        .kernel
        .apply_policies(&PolicyIndex::of(&snapshot).plan().tables)?;
    if again > 0 {
        bail!("an agent that starts again on the same policies writes {again} times");
    }

    let mut change = |what: &str, change: &dyn Fn(&mut PolicyIndex, u32)| -> Result<()> {
        let (mut times, mut planned, mut most) = (Vec::new(), Vec::new(), 0);
        for number in 0..CHANGES {
            let begin = Instant::now();
            change(&mut index, number);
            let change = index.take_change();
            planned.push(millis(begin));
            most = most.max(node.kernel.change_policies(&change)?);
            times.push(millis(begin));
        }
        let note = format!(
            "{CHANGES} changes, of {most} writes at most; planned in {} (p99)",
            Unit::Millis.write(quantile(&planned, 0.99))
        );
        let p50 = quantile(&times, 0.5);
        figures.add(
            &title(&format!("{what}, p50")),
            p50,
            Unit::Millis,
            None,
            note.clone(),
        );
        let p99 = quantile(&times, 0.99);
        figures.add(
            &title(&format!("{what}, p99")),
            p99,
            Unit::Millis,
            Some(100.0),
            note,
        );
        Ok(())
    };
    change("one policy changes", &|index, number| {
        let id = number * 7 % POLICIES;
        index.set_policy(
            policy_name(id),
            Arc::new(policy(id, 9000 + u16::from(number % 2 == 0))),
        );
    })?;
    change("one pod changes", &|index, number| {
        let id = number * 13 % PODS;
        let mut pod = pod(id);
        pod.labels
            .insert("app".to_owned(), format!("app-{}", (id + number) % APPS));
        index.set_pod(pod_name(id), Arc::new(pod));
    })
}

fn snapshot() -> PolicySnapshot {
    let attachments = (0..OWN).map(|number| {
        let name = pod_name(number);
        let attachment = PolicyAttachment {
            pod: PodRef {
                namespace: name.namespace,
                name: name.name,
                uid: String::new(),
            },
            addresses: vec![address(number).into()],
        };
        (AttachmentId::new(number.to_string(), "eth0"), attachment)
    });
    let namespaces = (0..NAMESPACES).map(|number| {
        let team = ("team".to_owned(), format!("team-{}", number % 10));
        (namespace(number), Labels::from([team]))
    });
    let policies = (0..POLICIES).map(|number| (policy_name(number), Arc::new(policy(number, 9000))));
    let pods = (0..PODS).map(|number| (pod_name(number), Arc::new(pod(number))));
    PolicySnapshot {
        node: "node-0".to_owned(),
        policies: policies.collect(),
        namespaces: namespaces.collect(),
        pods: pods.collect::<BTreeMap<_, _>>(),
        attachments: attachments.collect(),
        node_local: BTreeSet::new(),
    }
}

fn namespace(number: u32) -> String {
    format!("ns-{}", number % NAMESPACES)
}

fn pod_name(number: u32) -> NamespacedName {
    NamespacedName::new(namespace(number), format!("pod-{number}"))
}

fn policy_name(number: u32) -> NamespacedName {
    NamespacedName::new(namespace(number), format!("policy-{number}"))
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0af4_0000 + number)
}

fn app(number: u32) -> String {
    format!("app-{}", number / NAMESPACES % APPS)
}

fn pod(number: u32) -> PolicyPod {
    PolicyPod {
        labels: Labels::from([("app".to_owned(), app(number))]),
        addresses: vec![address(number).into()],
        node: Some(format!("node-{}", number / OWN)),
        ..PolicyPod::default()
    }
}

/// One kind of pods, from another kind, a team and a block; to that kind and a block.
fn policy(number: u32, port: u16) -> Policy {
    let pods = |app: String, team: Option<String>| PolicyPeer::Pods {
        namespaces: team.map(|team| Selector::label("team", team)),
        pods: Selector::label("app", app),
    };
    let block = PolicyPeer::Block {
        net: ipnet::Ipv4Net::new_assert(Ipv4Addr::from_bits(0xc612_0000 + number * 16), 28).into(),
        except: BTreeSet::new(),
    };
    let tcp = |port| PolicyPort {
        protocol: Protocol::Tcp,
        ports: PortMatch::One(port),
    };
    let rule = |peers, ports| PolicyRule {
        peers: Some(peers),
        ports: Some(ports),
    };
    let team = format!("team-{}", number % 10);
    Policy {
        pods: Selector::label("app", app(number)),
        ingress: Some(vec![
            rule(
                vec![pods(app(number + NAMESPACES), None)],
                vec![tcp(8080), tcp(port)],
            ),
            rule(
                vec![pods(app(number), Some(team)), block.clone()],
                vec![tcp(9090)],
            ),
        ]),
        egress: Some(vec![rule(
            vec![pods(app(number + NAMESPACES), None), block],
            vec![tcp(8080)],
        )]),
    }
}
