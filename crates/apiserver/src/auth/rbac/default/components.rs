//! What the parts of a cluster get: nodes, the control plane, and roles for add-ons to be bound to.

use super::Subject::{Account, User};
use super::{
    Binding, EVENTS, LIST_WATCH, READ, READ_UPDATE, READ_WRITE, Role, bind, bind_in, named, on, role,
};

const SIGNING_REQUESTS: &str = "certificatesigningrequests";
const SYSTEM: &str = "kube-system";
const PUBLIC: &str = "kube-public";
const LEADER_LEASES: &[super::Rule] = &[
    on("create get list update watch", "coordination.k8s.io", "leases"),
    on(
        "create get list update watch",
        "coordination.k8s.io",
        "leasecandidates",
    ),
];

pub(super) const ROLES: &[Role] = &[
    // Bound to nobody: the node authorizer gives nodes their rights, and less of them.
    role(
        "system:node",
        &[
            on("create", "authentication.k8s.io", "tokenreviews"),
            on(
                "create",
                "authorization.k8s.io",
                "localsubjectaccessreviews subjectaccessreviews",
            ),
            on(READ, "core", "services"),
            on("create get list watch", "core", "nodes"),
            on("patch update", "core", "nodes/status"),
            on("patch update", "core", "nodes"),
            EVENTS,
            on(READ, "core", "pods"),
            on("create delete", "core", "pods"),
            on("patch update", "core", "pods/status"),
            on("create", "core", "pods/eviction"),
            on(READ, "core", "configmaps secrets"),
            on("get", "core", "persistentvolumeclaims persistentvolumes"),
            on("get", "core", "endpoints"),
            on("create get list watch", "certificates.k8s.io", SIGNING_REQUESTS),
            on("create delete get patch update", "coordination.k8s.io", "leases"),
            on("get", "storage.k8s.io", "volumeattachments"),
            on("create", "core", "serviceaccounts/token"),
            on("get patch update", "core", "persistentvolumeclaims/status"),
            on(READ, "storage.k8s.io", "csidrivers"),
            on("create delete get patch update", "storage.k8s.io", "csinodes"),
            on(READ, "node.k8s.io", "runtimeclasses"),
            on("get", "resource.k8s.io", "resourceclaims"),
            on("deletecollection", "resource.k8s.io", "resourceslices"),
            on("get", "core", "serviceaccounts"),
        ],
    ),
    role(
        "system:node-problem-detector",
        &[
            on("get", "core", "nodes"),
            on("patch", "core", "nodes/status"),
            EVENTS,
        ],
    ),
    role(
        "system:node-bootstrapper",
        &[on(
            "create get list watch",
            "certificates.k8s.io",
            SIGNING_REQUESTS,
        )],
    ),
    role(
        "system:node-proxier",
        &[
            on(LIST_WATCH, "core", "endpoints services"),
            on(READ, "core", "nodes"),
            EVENTS,
            on(LIST_WATCH, "networking.k8s.io", "servicecidrs"),
            on(LIST_WATCH, "discovery.k8s.io", "endpointslices"),
        ],
    ),
    role(
        "system:kubelet-api-admin",
        &[
            on(READ, "core", "nodes"),
            on("proxy", "core", "nodes"),
            on("*", "core", "nodes/log nodes/metrics nodes/proxy nodes/stats"),
            on("*", "core", "nodes/configz nodes/healthz nodes/pods"),
        ],
    ),
    role(
        "system:heapster",
        &[
            on(READ, "core", "events namespaces nodes pods"),
            on(READ, "extensions", "deployments"),
        ],
    ),
    role(
        "system:kube-aggregator",
        &[on(READ, "core", "endpoints services")],
    ),
    role("system:kube-dns", &[on(LIST_WATCH, "core", "endpoints services")]),
    role(
        "system:kube-controller-manager",
        &[
            EVENTS,
            on("create", "coordination.k8s.io", "leases"),
            named(
                "get update",
                "coordination.k8s.io",
                "leases",
                "kube-controller-manager",
            ),
            on("create", "core", "secrets serviceaccounts"),
            on("delete", "core", "secrets"),
            on("get", "core", "configmaps namespaces secrets serviceaccounts"),
            on("update", "core", "secrets serviceaccounts"),
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            // The watches that all controllers share.
            on(LIST_WATCH, "*", "*"),
            on("create", "core", "serviceaccounts/token"),
        ],
    ),
    role("system:kube-scheduler", SCHEDULER),
    role(
        "system:volume-scheduler",
        &[
            on(READ_UPDATE, "core", "persistentvolumes"),
            on(READ, "storage.k8s.io", "storageclasses"),
            on(READ_UPDATE, "core", "persistentvolumeclaims"),
        ],
    ),
    role(
        "system:persistent-volume-provisioner",
        &[
            on("create delete get list watch", "core", "persistentvolumes"),
            on("get list update watch", "core", "persistentvolumeclaims"),
            on(READ, "storage.k8s.io", "storageclasses"),
            on("watch", "core", "events"),
            EVENTS,
        ],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[on(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/nodeclient",
        )],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[on(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/selfnodeclient",
        )],
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/legacy-unknown",
        )],
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kubelet-serving",
        )],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client",
        )],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client-kubelet",
        )],
    ),
    role(
        "extension-apiserver-authentication-reader",
        &[named(
            READ,
            "core",
            "configmaps",
            "extension-apiserver-authentication",
        )],
    )
    .within(SYSTEM),
    role(
        "system:controller:bootstrap-signer",
        &[on(READ, "core", "secrets")],
    )
    .within(SYSTEM),
    role(
        "system:controller:cloud-provider",
        &[on("create get list watch", "core", "configmaps")],
    )
    .within(SYSTEM),
    role(
        "system:controller:token-cleaner",
        &[on("delete get list watch", "core", "secrets"), EVENTS],
    )
    .within(SYSTEM),
    role("system::leader-locking-kube-controller-manager", LEADER_LEASES).within(SYSTEM),
    role("system::leader-locking-kube-scheduler", LEADER_LEASES).within(SYSTEM),
    role(
        "system:controller:bootstrap-signer",
        &[
            on(READ, "core", "configmaps"),
            named("update", "core", "configmaps", "cluster-info"),
            EVENTS,
        ],
    )
    .within(PUBLIC),
];

const SCHEDULER: &[super::Rule] = &[
    EVENTS,
    on("create", "coordination.k8s.io", "leases"),
    named(
        "get list update watch",
        "coordination.k8s.io",
        "leases",
        "kube-scheduler",
    ),
    on(READ_WRITE, "coordination.k8s.io", "leasecandidates"),
    on(READ, "core", "nodes"),
    on("delete get list watch", "core", "pods"),
    on("create", "core", "bindings pods/binding"),
    on("patch update", "core", "pods/status"),
    on(READ, "core", "replicationcontrollers services"),
    on(READ, "apps extensions", "replicasets"),
    on(READ, "apps", "statefulsets"),
    on(READ, "policy", "poddisruptionbudgets"),
    on(READ, "core", "persistentvolumeclaims persistentvolumes"),
    on("create", "authentication.k8s.io", "tokenreviews"),
    on("create", "authorization.k8s.io", "subjectaccessreviews"),
    on(READ, "storage.k8s.io", "csinodes"),
    on(READ, "storage.k8s.io", "volumeattachments"),
    on(READ, "core", "namespaces"),
    on(READ, "storage.k8s.io", "csidrivers"),
    on(READ, "storage.k8s.io", "csistoragecapacities"),
    on(READ, "resource.k8s.io", "deviceclasses"),
    on(READ_UPDATE, "resource.k8s.io", "resourceclaims"),
    on(READ_UPDATE, "resource.k8s.io", "resourceclaims/status"),
    on("update", "core", "pods/finalizers"),
    on(READ, "resource.k8s.io", "resourceslices"),
];

pub(super) const BINDINGS: &[Binding] = &[
    bind("system:node", &[]),
    bind("system:node-proxier", &[User("system:kube-proxy")]),
    bind(
        "system:kube-controller-manager",
        &[User("system:kube-controller-manager")],
    ),
    bind("system:kube-scheduler", &[User("system:kube-scheduler")]),
    bind("system:volume-scheduler", &[User("system:kube-scheduler")]),
    bind_in(
        SYSTEM,
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[
            User("system:kube-controller-manager"),
            User("system:kube-scheduler"),
        ],
    ),
    bind_in(
        SYSTEM,
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            User("system:kube-controller-manager"),
            Account("kube-controller-manager"),
            Account("leader-election-controller"),
        ],
    ),
    bind_in(
        SYSTEM,
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &[User("system:kube-scheduler"), Account("kube-scheduler")],
    ),
    bind_in(
        SYSTEM,
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[Account("bootstrap-signer")],
    ),
    bind_in(
        SYSTEM,
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &[Account("cloud-provider")],
    ),
    bind_in(
        SYSTEM,
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &[Account("token-cleaner")],
    ),
    bind_in(
        PUBLIC,
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[Account("bootstrap-signer")],
    ),
];
