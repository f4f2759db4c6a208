//! What people and their workloads get: the discovery of the API, and `cluster-admin`, `admin`, `edit`, `view`.

use super::Subject::{Account, Group};
use super::{Binding, READ, READ_WRITE, Role, WRITE, bind, on, role, urls};

pub(super) const ROLES: &[Role] = &[
    role(
        "cluster-admin",
        &[
            on("*", "*", "*"),
            super::Rule {
                verbs: "*",
                groups: "",
                resources: "",
                names: "",
                urls: "*",
            },
        ],
    ),
    role(
        "system:discovery",
        &[urls(
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
        )],
    ),
    role(
        "system:public-info-viewer",
        &[urls("/healthz /livez /readyz /version /version/")],
    ),
    role(
        "system:monitoring",
        &[
            urls("/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"),
            on("get", "core", "nodes/metrics"),
        ],
    ),
    role(
        "system:basic-user",
        &[
            on(
                "create",
                "authorization.k8s.io",
                "selfsubjectaccessreviews selfsubjectrulesreviews",
            ),
            on("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    role(
        "system:service-account-issuer-discovery",
        &[urls(
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    role(
        "system:auth-delegator",
        &[
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    role("admin", &[]).gathering("admin"),
    role("edit", &[]).gathering("edit").part_of("admin"),
    role("view", &[]).gathering("view").part_of("edit"),
    role(
        "system:aggregate-to-admin",
        &[
            on("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            on(READ_WRITE, "rbac.authorization.k8s.io", "roles rolebindings"),
        ],
    )
    .part_of("admin"),
    role("system:aggregate-to-edit", EDIT).part_of("edit"),
    role("system:aggregate-to-view", VIEW).part_of("view"),
];

const EDIT: &[super::Rule] = &[
    // Whoever may read these may do more than read.
    on(
        READ,
        "core",
        "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy",
    ),
    on("impersonate", "core", "serviceaccounts"),
    on(
        WRITE,
        "core",
        "pods pods/attach pods/proxy pods/exec pods/portforward",
    ),
    on("create", "core", "pods/eviction"),
    on(
        WRITE,
        "core",
        "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
         serviceaccounts services services/proxy",
    ),
    on("create", "core", "serviceaccounts/token"),
    on(WRITE, "core events.k8s.io", "events"),
    on(
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale \
         statefulsets statefulsets/scale",
    ),
    on(WRITE, "autoscaling", "horizontalpodautoscalers"),
    on(WRITE, "batch", "cronjobs jobs"),
    on(
        WRITE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets \
         replicasets/scale replicationcontrollers/scale",
    ),
    on(WRITE, "policy", "poddisruptionbudgets"),
    on(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    on(READ_WRITE, "coordination.k8s.io", "leases"),
    on(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];

const VIEW: &[super::Rule] = &[
    on(
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers \
         replicationcontrollers/scale serviceaccounts services services/status",
    ),
    on(
        READ,
        "core",
        "bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status \
         resourcequotas resourcequotas/status",
    ),
    // In a namespace this is the right to see that one.
    on(READ, "core", "namespaces"),
    on(READ, "core events.k8s.io", "events"),
    on(READ, "discovery.k8s.io", "endpointslices"),
    on(
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status \
         replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    on(
        READ,
        "autoscaling",
        "horizontalpodautoscalers horizontalpodautoscalers/status",
    ),
    on(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    on(
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses \
         ingresses/status networkpolicies replicasets replicasets/scale replicasets/status \
         replicationcontrollers/scale",
    ),
    on(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    on(
        READ,
        "networking.k8s.io",
        "ingresses ingresses/status networkpolicies",
    ),
    on(
        READ,
        "resource.k8s.io",
        "resourceclaims resourceclaims/status resourceclaimtemplates",
    ),
];

pub(super) const BINDINGS: &[Binding] = &[
    bind("cluster-admin", &[Group("system:masters")]),
    bind("system:discovery", &[Group("system:authenticated")]),
    bind("system:basic-user", &[Group("system:authenticated")]),
    bind("system:monitoring", &[Group("system:monitoring")]),
    bind(
        "system:public-info-viewer",
        &[Group("system:authenticated"), Group("system:unauthenticated")],
    ),
    bind(
        "system:service-account-issuer-discovery",
        &[Group("system:serviceaccounts")],
    ),
    bind("system:kube-dns", &[Account("kube-dns")]),
];
