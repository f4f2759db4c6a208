//! Which requests the server answers for a kind, and what they carry.

use kinds::Kind;

use crate::definitions::{self, DELETE_OPTIONS, PATCH, STATUS};

/// A path of the API and what can be done there.
pub(crate) struct Path {
    /// As in `/apis/apps/v1/namespaces/{namespace}/deployments/{name}`.
    pub(crate) path: String,
    pub(crate) operations: Vec<Operation>,
}

/// One request.
pub(crate) struct Operation {
    /// HTTP method in lower case, as OpenAPI names it.
    pub(crate) method: &'static str,
    /// Kubernetes' word for it, as in `list`.
    pub(crate) action: &'static str,
    pub(crate) description: String,
    /// Unique among all operations.
    pub(crate) id: String,
    /// As in `apps_v1`.
    pub(crate) tag: String,
    /// What the operation is about: group, version and kind.
    pub(crate) target: (String, String, String),
    /// Whether it is about a custom kind: strategic merge patches aren't for these.
    pub(crate) custom: bool,
    /// Definition name of the body that is sent.
    pub(crate) body: Option<String>,
    /// Definition name of the body that is answered.
    pub(crate) answer: String,
    pub(crate) query: &'static [Parameter],
}

/// A query parameter: name, type, description.
pub(crate) type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter = (
    "dryRun",
    "string",
    "With the value All, the request is checked and answered as usual, but nothing is kept.",
);
const FIELD_MANAGER: Parameter = (
    "fieldManager",
    "string",
    "The name of who makes the change, at most 128 printable characters.",
);
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What happens to fields that the kind doesn't have: Ignore drops them, Warn drops them and says so, Strict refuses the request.",
);
const FIELD_SELECTOR: Parameter = (
    "fieldSelector",
    "string",
    "Restricts the answer to objects with these fields, as in spec.nodeName=a.",
);
const LABEL_SELECTOR: Parameter = (
    "labelSelector",
    "string",
    "Restricts the answer to objects with these labels, as in app=web.",
);
const RESOURCE_VERSION: Parameter = (
    "resourceVersion",
    "string",
    "The version of the data to start from or to be at least at.",
);

const LIST: &[Parameter] = &[
    (
        "continue",
        "string",
        "Goes on with a list whose first part was answered before.",
    ),
    FIELD_SELECTOR,
    LABEL_SELECTOR,
    ("limit", "integer", "The most objects to answer at once."),
    RESOURCE_VERSION,
    (
        "resourceVersionMatch",
        "string",
        "How resourceVersion is meant: Exact or NotOlderThan.",
    ),
    ("timeoutSeconds", "integer", "How long a watch lasts."),
    (
        "watch",
        "boolean",
        "Answers changes as they happen, one JSON object a line.",
    ),
];
const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const DELETE: &[Parameter] = &[
    DRY_RUN,
    (
        "gracePeriodSeconds",
        "integer",
        "How long the object may take to end; zero means at once.",
    ),
    (
        "propagationPolicy",
        "string",
        "What happens to dependents: Orphan, Background or Foreground.",
    ),
];

/// All paths of one group version, in order.
pub(crate) fn paths(group: &str, version: &str, custom: &[Kind]) -> Vec<Path> {
    let kinds = definitions::every(custom).filter(|kind| kind.group() == group && kind.version() == version);
    let mut paths: Vec<Path> = kinds.flat_map(kind_paths).collect();
    paths.sort_by(|a, b| a.path.cmp(&b.path));
    paths
}

fn kind_paths(kind: &Kind) -> Vec<Path> {
    let root = match kind.group() {
        "" => format!("/api/{}", kind.version()),
        group => format!("/apis/{group}/{}", kind.version()),
    };
    let maker = Maker {
        kind,
        scope: if kind.namespaced() { "Namespaced" } else { "" },
    };
    let collection = match kind.namespaced() {
        true => format!("{root}/namespaces/{{namespace}}/{}", kind.plural()),
        false => format!("{root}/{}", kind.plural()),
    };
    let object = format!("{collection}/{{name}}");
    let mut paths = vec![
        Path {
            path: collection,
            operations: maker.collection(),
        },
        Path {
            path: object.clone(),
            operations: maker.object(""),
        },
    ];
    if kind.namespaced() {
        let all = Maker {
            scope: "AllNamespaces",
            ..maker
        };
        paths.push(Path {
            path: format!("{root}/{}", kind.plural()),
            operations: vec![all.list()],
        });
    }
    if kind.has_status() {
        paths.push(Path {
            path: format!("{object}/status"),
            operations: maker.subresource("Status"),
        });
    }
    if kind.scale().is_some() {
        let scale = Maker {
            scope: maker.scope,
            kind,
        };
        paths.push(Path {
            path: format!("{object}/scale"),
            operations: scale.scale(),
        });
    }
    if kind.subresources().contains(&"ephemeralcontainers") {
        paths.push(Path {
            path: format!("{object}/ephemeralcontainers"),
            operations: maker.subresource("Ephemeralcontainers"),
        });
    }
    for (subresource, operation) in [
        (
            "binding",
            maker.create_subresource("Binding", ("", "v1", "Binding")),
        ),
        (
            "eviction",
            maker.create_subresource("Eviction", ("policy", "v1", "Eviction")),
        ),
        (
            "token",
            maker.create_subresource("Token", ("authentication.k8s.io", "v1", "TokenRequest")),
        ),
    ] {
        if kind.subresources().contains(&subresource) {
            paths.push(Path {
                path: format!("{object}/{subresource}"),
                operations: vec![operation],
            });
        }
    }
    paths
}

/// Makes the operations of a kind.
#[derive(Clone, Copy)]
struct Maker<'a> {
    kind: &'a Kind,
    /// Part of operations' names: `Namespaced`, nothing, or `AllNamespaces`.
    scope: &'static str,
}

impl Maker<'_> {
    fn definition(self) -> String {
        definitions::name(self.kind)
    }

    fn operation(self, method: &'static str, action: &'static str, verb: &str, suffix: &str) -> Operation {
        let group = self
            .kind
            .group()
            .split('.')
            .next()
            .filter(|group| !group.is_empty())
            .unwrap_or("core");
        let custom = self.kind.custom_schema().is_some();
        // Groups of custom kinds often begin with the same label.
        let whole = self.kind.group().split('.').map(capital).collect::<String>();
        let group = if custom { &whole } else { group };
        let of = if suffix.is_empty() {
            String::new()
        } else {
            format!("{} of ", suffix.to_lowercase())
        };
        Operation {
            method,
            action,
            description: format!("{verb} {of}the specified {}", self.kind.kind()),
            id: format!(
                "{verb}{}{}{}{}{suffix}",
                capital(group),
                capital(self.kind.version()),
                self.scope,
                self.kind.kind()
            ),
            tag: format!("{group}_{}", self.kind.version()),
            target: names((self.kind.group(), self.kind.version(), self.kind.kind())),
            custom,
            body: None,
            answer: self.definition(),
            query: &[],
        }
    }

    fn list(self) -> Operation {
        Operation {
            description: format!("list or watch objects of kind {}", self.kind.kind()),
            answer: definitions::list_name(self.kind),
            query: LIST,
            ..self.operation("get", "list", "list", "")
        }
    }

    fn collection(self) -> Vec<Operation> {
        let create = Operation {
            description: format!("create a {}", self.kind.kind()),
            body: Some(self.definition()),
            query: WRITE,
            ..self.operation("post", "post", "create", "")
        };
        let delete = Operation {
            description: format!("delete collection of {}", self.kind.kind()),
            body: Some(DELETE_OPTIONS.to_owned()),
            answer: STATUS.to_owned(),
            query: DELETE,
            ..self.operation("delete", "deletecollection", "deleteCollection", "")
        };
        vec![self.list(), create, delete]
    }

    fn object(self, suffix: &str) -> Vec<Operation> {
        let mut operations = self.subresource(suffix);
        operations.push(Operation {
            body: Some(DELETE_OPTIONS.to_owned()),
            answer: STATUS.to_owned(),
            query: DELETE,
            ..self.operation("delete", "delete", "delete", suffix)
        });
        operations
    }

    fn subresource(self, suffix: &str) -> Vec<Operation> {
        let body = |name: String| Some(name);
        vec![
            self.operation("get", "get", "read", suffix),
            Operation {
                body: body(self.definition()),
                query: WRITE,
                ..self.operation("put", "put", "replace", suffix)
            },
            Operation {
                body: body(PATCH.to_owned()),
                query: WRITE,
                ..self.operation("patch", "patch", "patch", suffix)
            },
        ]
    }

    fn scale(self) -> Vec<Operation> {
        const SCALE: (&str, &str, &str) = ("autoscaling", "v1", "Scale");
        let definition = "io.k8s.api.autoscaling.v1.Scale".to_owned();
        let mut operations = self.subresource("Scale");
        for operation in &mut operations {
            operation.target = names(SCALE);
            operation.answer.clone_from(&definition);
            if operation.method == "put" {
                operation.body = Some(definition.clone());
            }
        }
        operations
    }

    fn create_subresource(
        self,
        suffix: &str,
        target: (&'static str, &'static str, &'static str),
    ) -> Operation {
        let definition = patch::schema::definition_name(target.0, target.1, target.2);
        Operation {
            target: names(target),
            body: Some(definition.clone()),
            answer: definition,
            query: WRITE,
            ..self.operation("post", "post", "create", suffix)
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn names(target: (&str, &str, &str)) -> (String, String, String) {
    (target.0.to_owned(), target.1.to_owned(), target.2.to_owned())
}

/// The parameters in a path, as in `namespace` and `name`.
pub(crate) fn path_parameters(path: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        ("name", "name of the object"),
        ("namespace", "namespace of the object"),
    ]
    .into_iter()
    .filter(move |(name, _)| path.contains(&format!("{{{name}}}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_names_of_their_own() {
        let mut ids: Vec<String> = [("", "v1"), ("apps", "v1"), ("coordination.k8s.io", "v1")]
            .into_iter()
            .flat_map(|(group, version)| paths(group, version, &[]))
            .flat_map(|path| path.operations)
            .map(|operation| operation.id)
            .collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn paths_are_kubernetes_own() {
        let paths = paths("apps", "v1", &[]).into_iter().map(|path| path.path);
        let these = |path: &String| path.contains("deployments") || path.contains("replicasets");
        let paths: Vec<String> = paths.filter(these).collect();
        let expected = [
            "/apis/apps/v1/deployments",
            "/apis/apps/v1/namespaces/{namespace}/deployments",
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}",
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale",
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/status",
            "/apis/apps/v1/namespaces/{namespace}/replicasets",
            "/apis/apps/v1/namespaces/{namespace}/replicasets/{name}",
            "/apis/apps/v1/namespaces/{namespace}/replicasets/{name}/scale",
            "/apis/apps/v1/namespaces/{namespace}/replicasets/{name}/status",
            "/apis/apps/v1/replicasets",
        ];
        assert_eq!(paths, expected);
    }
}
