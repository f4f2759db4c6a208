//! `ripstop policy show`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use model::{Direction, NamespacedName, PolicyRule};
use plan::{ClassId, Isolation, PolicyPlan, PolicyTables, RuleId, RuleName, SetId};
use serde_json::{Value, json};

use crate::args::{self, Output};
use crate::explain::{self, Names, PodView, What, World};
use crate::failure::Failure;
use crate::output::{note, out};

pub(crate) async fn run(command: args::Policy) -> Result<(), Failure> {
    let args::Policy::Show { pod, source, output } = command;
    let world = explain::world(&source).await?;
    let names = Names {
        world: &world,
        namespace: &source.namespace,
    };
    let text = if pod.contains('/') {
        pod
    } else {
        format!("pod/{pod}")
    };
    let place = names.find(&text)?;
    let What::Pod(name) = place.what else {
        return Err(Failure::usage(
            format!("{text} is no pod"),
            "policies select pods",
        ));
    };
    let shown = Shown::new(&world, &name)?;
    match output {
        Output::Table => {
            for what in &world.assumed {
                note!("assumed: {what}");
            }
            for what in &world.problems {
                note!("warning: {what}");
            }
            out!("{}", shown.text().trim_end());
        }
        Output::Json => out!("{:#}", shown.json(&world)),
    }
    Ok(())
}

/// All that is told of a pod's policies, as text and as JSON.
pub(crate) fn told(world: &World, pod: &NamespacedName) -> Result<(String, Value), Failure> {
    let shown = Shown::new(world, pod)?;
    Ok((shown.text(), shown.json(world)))
}

/// What is shown of a pod.
struct Shown<'a> {
    name: NamespacedName,
    view: &'a PodView,
    directions: Vec<OneWay>,
    /// Who may reach it, and by which rules; none: everybody.
    reached_by: Option<Vec<(String, Vec<RuleName>)>>,
    rules: BTreeMap<RuleName, PolicyRule>,
}

struct OneWay {
    direction: Direction,
    /// None: it's free.
    policies: Option<Vec<(NamespacedName, Vec<RuleName>)>>,
}

impl<'a> Shown<'a> {
    fn new(world: &'a World, name: &NamespacedName) -> Result<Shown<'a>, Failure> {
        let view = &world.pods[name];
        if view.pod.host_network {
            return Err(Failure::usage(
                format!("pod {name} is on its node's network, and policies don't select it"),
                "as a peer it's its node: an ipBlock matches that",
            ));
        }
        let node = view.pod.node.clone().unwrap_or_default();
        let plan = world.policies_of(&node);
        let address = view.pod.addresses.first().copied();
        let isolation = address.and_then(|address| plan.tables.isolation.get(&address));
        let isolation = isolation.copied().unwrap_or_default();
        let mut rules = BTreeMap::new();
        let directions = Direction::ALL.map(|direction| {
            let set = set_of(isolation, direction);
            let policies = plan.sets.get(&set).map(|set| {
                let selecting = set.policies.iter();
                let named =
                    selecting.map(|policy| (policy.clone(), rules_of(world, policy, direction, &mut rules)));
                named.collect()
            });
            OneWay { direction, policies }
        });
        Ok(Shown {
            name: name.clone(),
            view,
            directions: directions.into(),
            reached_by: reached_by(world, name, &plan, isolation.ingress),
            rules,
        })
    }

    fn text(&self) -> String {
        let pod = &self.view.pod;
        let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        let labels: Vec<String> = pod
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut text = format!("pod {}, {}", self.name, addresses.join(", "));
        let _ = writeln!(text, ", labels {}", or_none(&labels.join(",")));
        for way in &self.directions {
            let _ = match &way.policies {
                None => writeln!(text, "{}: free, as no policy selects it", way.direction),
                Some(_) => writeln!(text, "{}: isolated, but for", way.direction),
            };
            for (policy, rules) in way.policies.iter().flatten() {
                let _ = writeln!(
                    text,
                    "  policy {policy}{}",
                    if rules.is_empty() { ": nothing" } else { "" }
                );
                for rule in rules {
                    let _ = writeln!(text, "    rule {}: {}", rule.index, self.rules[rule]);
                }
            }
        }
        let _ = match self.reached_by.as_deref() {
            None => writeln!(text, "may reach it: everybody"),
            Some([]) => writeln!(text, "may reach it: nobody but its node"),
            Some(_) => writeln!(text, "may reach it:"),
        };
        for (who, rules) in self.reached_by.iter().flatten() {
            for rule in rules {
                let ports = PolicyRule {
                    peers: None,
                    ports: self.rules[rule].ports.clone(),
                };
                let ports = ports.to_string().replacen("everybody: ", "", 1);
                let _ = writeln!(text, "  {who}: {ports} ({} rule {})", rule.policy, rule.index);
            }
        }
        text
    }

    fn json(&self, world: &World) -> Value {
        let rule = |rule: &RuleName| json!({"index": rule.index, "allows": self.rules[rule].to_string()});
        let mut value = json!({
            "pod": self.name.to_string(),
            "node": self.view.pod.node,
            "addresses": self.view.pod.addresses,
            "labels": self.view.pod.labels,
            "reachedBy": self.reached_by.as_ref().map(|list| {
                let list = list.iter().map(|(who, rules)| {
                    let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
                    json!({"who": who, "by": rules})
                });
                list.collect::<Vec<_>>()
            }),
            "assumed": world.assumed,
            "warnings": world.problems,
        });
        for way in &self.directions {
            let policies = way.policies.as_ref().map(|policies| {
                let policies = policies.iter().map(|(name, rules)| {
                    json!({"policy": name.to_string(), "rules": rules.iter().map(rule).collect::<Vec<_>>()})
                });
                policies.collect::<Vec<_>>()
            });
            value[way.direction.to_string()] = json!({"isolated": policies.is_some(), "policies": policies});
        }
        value
    }
}

fn set_of(isolation: Isolation, direction: Direction) -> SetId {
    match direction {
        Direction::Ingress => isolation.ingress,
        Direction::Egress => isolation.egress,
    }
}

fn rules_of(
    world: &World,
    policy: &NamespacedName,
    direction: Direction,
    all: &mut BTreeMap<RuleName, PolicyRule>,
) -> Vec<RuleName> {
    let spec = world.policies.get(policy);
    let rules = spec.and_then(|spec| spec.rules(direction)).unwrap_or_default();
    let named = rules.iter().enumerate().map(|(index, rule)| {
        let name = RuleName {
            policy: policy.clone(),
            direction,
            index,
        };
        all.insert(name.clone(), rule.clone());
        name
    });
    named.collect()
}

/// Who may reach a pod that has a set of ingress, and by which rules; none if everybody may.
fn reached_by(
    world: &World,
    own: &NamespacedName,
    plan: &PolicyPlan,
    set: SetId,
) -> Option<Vec<(String, Vec<RuleName>)>> {
    if set.is_free() {
        return None;
    }
    let tables = &plan.tables;
    let names = |class: ClassId| -> Vec<RuleName> {
        let ids = rules_for(tables, set, class);
        let mut names: Vec<RuleName> = ids.iter().filter_map(|id| plan.rules.get(id).cloned()).collect();
        names.sort();
        names
    };
    let mut list = vec![("everybody".to_owned(), names(ClassId::ANY))];
    for (name, view) in world
        .pods
        .iter()
        .filter(|(name, view)| *name != own && !view.pod.host_network)
    {
        let classes: BTreeSet<ClassId> = view.pod.addresses.iter().map(|one| class(tables, *one)).collect();
        let mut rules: Vec<RuleName> = classes.into_iter().flat_map(&names).collect();
        rules.sort();
        rules.dedup();
        list.push((format!("pod {name}"), rules));
    }
    for (net, class) in tables.blocks.iter().filter(|(_, class)| **class != ClassId::ANY) {
        let blocks = plan.classes.get(class).map(Vec::as_slice);
        let who = match blocks {
            Some([block]) => block.clone(),
            _ => net.to_string(),
        };
        list.push((who, names(*class)));
    }
    list.retain(|(_, rules)| !rules.is_empty());
    Some(list)
}

/// An address's class, unless it's none: what everybody may is told once.
fn class(tables: &PolicyTables, address: IpAddr) -> ClassId {
    match tables.class(address) {
        ClassId::ANY => ClassId(u64::MAX),
        class => class,
    }
}

fn rules_for(tables: &PolicyTables, set: SetId, class: ClassId) -> BTreeSet<RuleId> {
    let rules = tables
        .rules
        .iter()
        .filter(|(key, _)| key.set == set && key.class == class);
    let ranges = tables
        .ranges
        .iter()
        .filter(|(key, _)| key.set == set && key.class == class);
    rules
        .map(|(_, rule)| *rule)
        .chain(ranges.map(|(_, rule)| *rule))
        .collect()
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}
