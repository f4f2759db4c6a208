//! `rbac.authorization.k8s.io/v1`.

use super::meta::{LabelSelector, ObjectMeta};
use crate::table::messages;

messages! {
    AggregationRule { 1 clusterRoleSelectors: [LabelSelector], }
    ClusterRole {
        1 metadata: ObjectMeta, 2 rules: [PolicyRule], 3 aggregationRule: AggregationRule optional,
    }
    ClusterRoleBinding { 1 metadata: ObjectMeta, 2 subjects: [Subject], 3 roleRef: RoleRef, }
    PolicyRule {
        1 verbs: [string], 2 apiGroups: [string], 3 resources: [string], 4 resourceNames: [string],
        5 nonResourceURLs: [string],
    }
    Role { 1 metadata: ObjectMeta, 2 rules: [PolicyRule], }
    RoleBinding { 1 metadata: ObjectMeta, 2 subjects: [Subject], 3 roleRef: RoleRef, }
    RoleRef { 1 apiGroup: string, 2 kind: string always, 3 name: string always, }
    Subject { 1 kind: string always, 2 apiGroup: string, 3 name: string always, 4 namespace: string, }
}
