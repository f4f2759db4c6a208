//! Rollouts against a simulated cluster: its ReplicaSets get what they ask for, pods become
//! available one at a time, and in every step the Deployment's promises are checked.

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::DeploymentCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::replicaset::desired;

struct Cluster {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    /// Images whose pods never become available.
    broken: Vec<String>,
    now: Timestamp,
    /// How many pods become available in one step.
    pace: i32,
}

impl Cluster {
    fn new(spec: Value) -> Self {
        let mut object = json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "d", "generation": 1 },
            "spec": {
                "replicas": 4,
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } },
                              "spec": { "containers": [{ "name": "c", "image": "v1" }] } },
                "strategy": { "type": "RollingUpdate" },
            },
        });
        json_patch::merge(&mut object["spec"], &spec);
        Self {
            deployment: serde_json::from_value(object).unwrap(),
            sets: Vec::new(),
            broken: Vec::new(),
            now: "2026-11-21T12:00:00Z".parse().unwrap(),
            pace: 1,
        }
    }

    /// A user changes the spec.
    fn change(&mut self, spec: Value) {
        let mut object = serde_json::to_value(&self.deployment).unwrap();
        json_patch::merge(&mut object["spec"], &spec);
        self.deployment = serde_json::from_value(object).unwrap();
        let generation = self.deployment.metadata.generation.get_or_insert(0);
        *generation += 1;
    }

    fn image(&mut self, image: &str) {
        let containers = json!([{ "name": "c", "image": image }]);
        self.change(json!({ "template": { "spec": { "containers": containers } } }));
    }

    /// `kubectl rollout undo` puts an old ReplicaSet's template into the Deployment.
    fn undo_to(&mut self, image: &str) {
        let set = self.sets.iter().find(|set| image_of(set) == image).unwrap();
        let mut template = set.spec.as_ref().unwrap().template.clone().unwrap();
        let labels = template.metadata.as_mut().unwrap().labels.as_mut().unwrap();
        labels.remove(template::HASH_LABEL);
        self.deployment.spec.as_mut().unwrap().template = template;
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn sync(&self) -> Vec<Action> {
        let sets: Vec<_> = self.sets.iter().cloned().map(Arc::new).collect();
        let running: Vec<_> = self
            .sets
            .iter()
            .filter(|set| replica_sets::actual(set) > 0)
            .filter_map(|set| set.metadata.uid.clone())
            .collect();
        sync(&Observed {
            deployment: &self.deployment,
            replica_sets: &sets,
            running: &running,
            now: self.now,
        })
    }

    /// One step of the controller; says whether anything was done.
    fn step(&mut self) -> bool {
        let mut done = false;
        for action in self.sync() {
            done |= !matches!(action, Action::ComeBack(_));
            self.apply(action);
        }
        done
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Create(mut set) => {
                set.metadata.uid = set.metadata.name.clone();
                set.metadata.creation_timestamp = Some(Time(self.now));
                set.metadata.generation = Some(1);
                assert!(
                    self.sets
                        .iter()
                        .all(|other| other.metadata.name != set.metadata.name)
                );
                self.sets.push(*set);
            }
            Action::Update(update) => {
                let name = &update.replica_set.metadata.name;
                let set = self
                    .sets
                    .iter_mut()
                    .find(|set| set.metadata.name == *name)
                    .unwrap();
                let spec = set.spec.as_mut().unwrap();
                spec.replicas = update.replicas.or(spec.replicas);
                spec.min_ready_seconds = update.min_ready_seconds.or(spec.min_ready_seconds);
                set.metadata
                    .annotations
                    .get_or_insert_default()
                    .extend(update.annotations);
            }
            Action::Delete(set) => {
                self.sets.retain(|other| other.metadata.name != set.metadata.name);
            }
            Action::SetRevision(revision) => {
                let annotations = self.deployment.metadata.annotations.get_or_insert_default();
                annotations.insert(revision::REVISION.to_owned(), revision);
            }
            Action::UpdateStatus(status) => self.deployment.status = Some(*status),
            Action::ComeBack(_) => {}
        }
    }

    /// The ReplicaSet controller and the kubelets.
    fn nodes(&mut self) {
        self.now += SignedDuration::from_secs(1);
        let mut pace = self.pace;
        for set in &mut self.sets {
            let wanted = desired(set);
            let broken = self.broken.contains(&image_of(set).to_owned());
            let status = set.status.get_or_insert_default();
            status.observed_generation = Some(1);
            status.replicas = wanted;
            let available = status.available_replicas.get_or_insert(0);
            *available = (*available).min(wanted);
            let more = if broken {
                0
            } else {
                (wanted - *available).min(pace)
            };
            *available += more;
            pace -= more;
            status.ready_replicas = status.available_replicas;
        }
    }

    /// Lets everything go on until nothing changes, checking `promise` at every step.
    fn settle(&mut self, promise: impl Fn(&Self)) {
        for _ in 0..500 {
            let before = self.sets.clone();
            let done = self.step();
            promise(self);
            self.nodes();
            promise(self);
            if !done && before == self.sets {
                return;
            }
        }
        panic!("never settles: {:#?}", self.sync());
    }

    fn numbers(&self) -> Numbers {
        Numbers::of(self.deployment.spec.as_ref().unwrap())
    }

    fn pods(&self) -> i32 {
        self.sets.iter().map(desired).sum()
    }

    fn available(&self) -> i32 {
        self.sets.iter().map(replica_sets::available).sum()
    }

    fn sizes(&self) -> Vec<(String, i32)> {
        self.sets
            .iter()
            .map(|set| (image_of(set).to_owned(), desired(set)))
            .collect()
    }

    fn condition(&self, kind: &str) -> DeploymentCondition {
        let conditions = self
            .deployment
            .status
            .as_ref()
            .unwrap()
            .conditions
            .as_ref()
            .unwrap();
        condition::find(conditions, kind)
            .unwrap_or_else(|| panic!("no {kind}"))
            .clone()
    }

    fn reason(&self, kind: &str) -> String {
        self.condition(kind).reason.unwrap()
    }

    fn revision_of(&self, image: &str) -> &str {
        let set = self.sets.iter().find(|set| image_of(set) == image).unwrap();
        replica_sets::annotation(set, revision::REVISION).unwrap()
    }

    fn revision(&self) -> &str {
        &self.deployment.metadata.annotations.as_ref().unwrap()[revision::REVISION]
    }
}

fn image_of(set: &ReplicaSet) -> &str {
    let spec = set
        .spec
        .as_ref()
        .unwrap()
        .template
        .as_ref()
        .unwrap()
        .spec
        .as_ref()
        .unwrap();
    spec.containers[0].image.as_deref().unwrap()
}

fn anything(_: &Cluster) {}

fn rolled_out(spec: Value) -> Cluster {
    let mut cluster = Cluster::new(spec);
    cluster.settle(anything);
    cluster
}

#[test]
fn a_new_deployment_gets_its_replica_set_with_all_pods_at_once() {
    let mut cluster = Cluster::new(json!({}));
    cluster.step();
    assert_eq!(cluster.sizes(), [("v1".to_owned(), 4)]);
    assert_eq!(cluster.reason("Progressing"), "NewReplicaSetCreated");
    assert_eq!(cluster.reason("Available"), "MinimumReplicasUnavailable");
    let set = &cluster.sets[0];
    let hash = &set.metadata.labels.as_ref().unwrap()[template::HASH_LABEL];
    assert_eq!(set.metadata.name.as_deref(), Some(format!("web-{hash}").as_str()));
    let spec = set.spec.as_ref().unwrap();
    assert_eq!(
        &spec.selector.match_labels.as_ref().unwrap()[template::HASH_LABEL],
        hash
    );

    cluster.settle(anything);
    assert_eq!(cluster.reason("Progressing"), "NewReplicaSetAvailable");
    assert_eq!(cluster.reason("Available"), "MinimumReplicasAvailable");
    assert_eq!(cluster.revision(), "1");
    let status = cluster.deployment.status.as_ref().unwrap();
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(
        (status.updated_replicas, status.unavailable_replicas),
        (Some(4), Some(0))
    );
}

#[test]
fn a_settled_deployment_is_left_alone() {
    let cluster = rolled_out(json!({}));
    assert_eq!(cluster.sync(), []);
}

#[test]
fn an_update_replaces_the_pods_step_by_step() {
    let mut cluster = rolled_out(json!({}));
    cluster.image("v2");
    cluster.step();
    // 25 % of 4: one more, and one fewer.
    assert_eq!(cluster.sizes(), [("v1".to_owned(), 4), ("v2".to_owned(), 1)]);
    cluster.step();
    assert_eq!(cluster.sizes(), [("v1".to_owned(), 3), ("v2".to_owned(), 1)]);
    cluster.settle(anything);
    assert_eq!(cluster.sizes(), [("v1".to_owned(), 0), ("v2".to_owned(), 4)]);
    assert_eq!((cluster.revision_of("v1"), cluster.revision_of("v2")), ("1", "2"));
    assert_eq!(cluster.revision(), "2");
}

#[test]
fn an_undo_brings_the_old_replica_set_back_as_the_newest_revision() {
    let mut cluster = rolled_out(json!({}));
    cluster.image("v2");
    cluster.settle(anything);
    cluster.undo_to("v1");
    cluster.settle(anything);
    assert_eq!(cluster.sizes(), [("v1".to_owned(), 4), ("v2".to_owned(), 0)]);
    assert_eq!((cluster.revision_of("v1"), cluster.revision_of("v2")), ("3", "2"));
    let history = "deployment.kubernetes.io/revision-history";
    assert_eq!(replica_sets::annotation(&cluster.sets[0], history), Some("1"));
    assert_eq!(cluster.reason("Progressing"), "NewReplicaSetAvailable");
}

#[test]
fn a_recreation_has_no_two_versions_at_once() {
    let mut cluster = rolled_out(json!({ "strategy": { "type": "Recreate" } }));
    cluster.image("v2");
    cluster.settle(|cluster| {
        let running = |set: &&ReplicaSet| replica_sets::actual(set) > 0 || desired(set) > 0;
        assert!(
            cluster.sets.iter().filter(running).count() <= 1,
            "{:?}",
            cluster.sizes()
        );
    });
    assert_eq!(cluster.sizes(), [("v1".to_owned(), 0), ("v2".to_owned(), 4)]);
    cluster.change(json!({ "replicas": 7 }));
    cluster.settle(anything);
    assert_eq!(cluster.pods(), 7);
}

#[test]
fn a_broken_version_stops_the_rollout_and_the_deadline_passes() {
    let mut cluster = rolled_out(json!({ "progressDeadlineSeconds": 30 }));
    cluster.broken.push("bad".to_owned());
    cluster.image("bad");
    for _ in 0..20 {
        cluster.step();
        cluster.nodes();
        assert!(cluster.available() >= 3);
    }
    assert_eq!(cluster.reason("Progressing"), "ReplicaSetUpdated");
    let come_back = cluster.sync().pop().unwrap();
    let Action::ComeBack(delay) = come_back else {
        panic!("{come_back:?}")
    };
    assert!(delay <= Duration::from_secs(31));
    cluster.now += SignedDuration::try_from(delay).unwrap();
    cluster.settle(anything);
    let progressing = cluster.condition("Progressing");
    assert_eq!(progressing.status, "False");
    assert_eq!(progressing.reason.as_deref(), Some("ProgressDeadlineExceeded"));
    assert!(
        progressing
            .message
            .unwrap()
            .ends_with("has timed out progressing.")
    );
    assert_eq!(cluster.reason("Available"), "MinimumReplicasAvailable");
    // A good version gets it going again.
    cluster.image("v3");
    cluster.settle(|cluster| assert!(cluster.available() >= 3));
    assert_eq!(cluster.reason("Progressing"), "NewReplicaSetAvailable");
}

#[test]
fn a_paused_deployment_scales_and_does_not_roll() {
    let mut cluster = rolled_out(json!({}));
    cluster.change(json!({ "paused": true }));
    cluster.image("v2");
    cluster.settle(anything);
    assert_eq!(cluster.sizes(), [("v1".to_owned(), 4)]);
    assert_eq!(cluster.reason("Progressing"), "DeploymentPaused");
    cluster.change(json!({ "replicas": 6 }));
    cluster.settle(anything);
    assert_eq!(cluster.sizes(), [("v1".to_owned(), 6)]);
    cluster.change(json!({ "paused": false }));
    cluster.settle(anything);
    assert_eq!(cluster.sizes(), [("v1".to_owned(), 0), ("v2".to_owned(), 6)]);
    assert_eq!(cluster.reason("Progressing"), "NewReplicaSetAvailable");
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_spread_in_proportion() {
    let rolling = json!({ "maxSurge": 3, "maxUnavailable": 2 });
    let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": rolling });
    let mut cluster = rolled_out(json!({ "replicas": 10, "strategy": strategy }));
    cluster.broken.push("bad".to_owned());
    cluster.image("bad");
    cluster.settle_for(20);
    assert_eq!(cluster.sizes(), [("v1".to_owned(), 8), ("bad".to_owned(), 5)]);
    cluster.change(json!({ "replicas": 15 }));
    cluster.step();
    // 18 pods in the proportion 8 to 5.
    assert_eq!(cluster.sizes(), [("v1".to_owned(), 11), ("bad".to_owned(), 7)]);
    cluster.change(json!({ "replicas": 0 }));
    cluster.step();
    assert_eq!(cluster.pods(), 0);
}

impl Cluster {
    fn settle_for(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            self.nodes();
        }
    }
}

#[test]
fn history_is_limited() {
    let mut cluster = rolled_out(json!({ "revisionHistoryLimit": 2 }));
    for version in 2..7 {
        cluster.image(&format!("v{version}"));
        cluster.settle(anything);
    }
    let images: Vec<_> = cluster.sets.iter().map(image_of).collect();
    assert_eq!(images, ["v4", "v5", "v6"]);
}

#[test]
fn annotations_are_copied_to_the_replica_set() {
    let mut cluster = Cluster::new(json!({}));
    let annotations = cluster.deployment.metadata.annotations.get_or_insert_default();
    annotations.insert("kubernetes.io/change-cause".to_owned(), "first".to_owned());
    let applied = "kubectl.kubernetes.io/last-applied-configuration";
    annotations.insert(applied.to_owned(), "{}".to_owned());
    cluster.settle(anything);
    let cause = |cluster: &Cluster| {
        let set = &cluster.sets[0];
        replica_sets::annotation(set, "kubernetes.io/change-cause")
            .unwrap()
            .to_owned()
    };
    assert_eq!(cause(&cluster), "first");
    assert_eq!(replica_sets::annotation(&cluster.sets[0], applied), None);
    let annotations = cluster.deployment.metadata.annotations.as_mut().unwrap();
    annotations.insert("kubernetes.io/change-cause".to_owned(), "second".to_owned());
    cluster.settle(anything);
    assert_eq!(cause(&cluster), "second");
}

#[test]
fn a_replica_sets_failure_is_the_deployments() {
    let mut cluster = rolled_out(json!({}));
    let failure = json!([{ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                           "message": "quota" }]);
    let status = cluster.sets[0].status.as_mut().unwrap();
    status.conditions = Some(serde_json::from_value(failure).unwrap());
    cluster.step();
    assert_eq!(cluster.reason("ReplicaFailure"), "FailedCreate");
    cluster.sets[0].status.as_mut().unwrap().conditions = None;
    cluster.step();
    let conditions = cluster.deployment.status.unwrap().conditions.unwrap();
    assert!(condition::find(&conditions, "ReplicaFailure").is_none());
}

#[test]
fn a_deployment_that_goes_away_only_reports() {
    let mut cluster = rolled_out(json!({}));
    cluster.image("v2");
    cluster.deployment.metadata.deletion_timestamp = Some(Time(cluster.now));
    let actions = cluster.sync();
    assert!(
        matches!(actions.as_slice(), [Action::UpdateStatus(_)]),
        "{actions:?}"
    );
}

#[test]
fn changed_min_ready_seconds_reach_the_replica_set_without_a_rollout() {
    let mut cluster = rolled_out(json!({}));
    cluster.change(json!({ "minReadySeconds": 5 }));
    cluster.settle(anything);
    assert_eq!(cluster.sets.len(), 1);
    assert_eq!(cluster.sets[0].spec.as_ref().unwrap().min_ready_seconds, Some(5));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Never more pods than allowed, never fewer available than promised, and always an end.
    #[test]
    fn rollouts_keep_their_promises(
        replicas in 1..12,
        surge in 0..5,
        unavailable in 0..5,
        pace in 1..4,
        steps in 0..6usize,
    ) {
        let rolling = json!({ "maxSurge": surge, "maxUnavailable": unavailable });
        let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": rolling });
        let mut cluster = rolled_out(json!({ "replicas": replicas, "strategy": strategy }));
        cluster.pace = pace;
        let numbers = cluster.numbers();
        let promise = |cluster: &Cluster| {
            assert!(cluster.pods() <= numbers.most(), "{:?}", cluster.sizes());
            assert!(cluster.available() >= numbers.fewest(), "{:?}", cluster.sizes());
        };
        cluster.image("v2");
        for _ in 0..steps {
            cluster.step();
            promise(&cluster);
            cluster.nodes();
        }
        // A second change in the middle of the first.
        cluster.image("v3");
        cluster.settle(promise);
        let new = ("v3".to_owned(), replicas);
        prop_assert!(cluster.sizes().contains(&new), "{:?}", cluster.sizes());
        prop_assert_eq!(cluster.pods(), replicas);
        prop_assert_eq!(cluster.reason("Progressing"), "NewReplicaSetAvailable");
    }
}
