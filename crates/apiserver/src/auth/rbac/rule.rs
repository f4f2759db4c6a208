//! Rules: what they allow, and whether some cover another.

use serde::{Deserialize, Serialize};

use crate::auth::authorize::Action;

/// A rule of a role, as objects hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub(crate) api_groups: Texts,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Texts::is_empty")]
    pub(crate) urls: Texts,
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub(crate) resource_names: Texts,
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub(crate) resources: Texts,
    pub(crate) verbs: Texts,
}

/// A list of texts that nobody changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<Box<[Box<str>]>>")]
pub(crate) struct Texts(Box<[Box<str>]>);

impl From<Option<Box<[Box<str>]>>> for Texts {
    fn from(texts: Option<Box<[Box<str>]>>) -> Texts {
        Texts(texts.unwrap_or_default())
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<T: IntoIterator<Item = &'a str>>(texts: T) -> Texts {
        Texts(texts.into_iter().map(Into::into).collect())
    }
}

impl Texts {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, text: &str) -> bool {
        self.iter().any(|t| t == text)
    }

    /// Whether it has the text, or all there are.
    fn admits(&self, text: &str) -> bool {
        self.iter().any(|t| t == text || t == "*")
    }
}

impl Rule {
    /// Whether the rule allows the action.
    pub(crate) fn allows(&self, action: &Action<'_>) -> bool {
        if !self.verbs.admits(action.verb) {
            return false;
        }
        if action.resource.is_empty() {
            return self.urls.iter().any(|url| url_covers(url, action.path));
        }
        self.api_groups.admits(action.group)
            && self
                .resources
                .iter()
                .any(|pattern| resource_matches(pattern, action.resource, action.subresource))
            && (self.resource_names.is_empty() || self.resource_names.has(action.name))
    }

    /// The rule in parts, each of one verb, and of one group, resource and name or one path.
    pub(crate) fn parts(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        let one = |text: &str| std::iter::once(text).collect::<Texts>();
        for group in self.api_groups.iter() {
            for resource in self.resources.iter() {
                for verb in self.verbs.iter() {
                    let part = Rule {
                        api_groups: one(group),
                        resources: one(resource),
                        verbs: one(verb),
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part);
                        continue;
                    }
                    parts.extend(self.resource_names.iter().map(|name| Rule {
                        resource_names: one(name),
                        ..part.clone()
                    }));
                }
            }
        }
        for url in self.urls.iter() {
            parts.extend(self.verbs.iter().map(|verb| Rule {
                urls: one(url),
                verbs: one(verb),
                ..Rule::default()
            }));
        }
        parts
    }

    /// Whether the rule allows all that a part of another one does.
    fn covers(&self, part: &Rule) -> bool {
        let names = if part.resource_names.is_empty() {
            self.resource_names.is_empty()
        } else {
            self.resource_names.is_empty() || part.resource_names.iter().all(|n| self.resource_names.has(n))
        };
        let groups = part.api_groups.iter().all(|group| self.api_groups.admits(group));
        let covered = |resource: &str| {
            let parts = resource.split_once('/');
            self.resources.admits(resource)
                || parts.is_some_and(|(_, sub)| self.resources.has(&format!("*/{sub}")))
        };
        names
            && groups
            && part.verbs.iter().all(|verb| self.verbs.admits(verb))
            && part.resources.iter().all(covered)
            && part
                .urls
                .iter()
                .all(|path| self.urls.iter().any(|url| url_covers(url, path)))
    }

    /// As refusals name it.
    pub(crate) fn describe(&self) -> String {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let fields: Vec<_> = fields
            .into_iter()
            .filter(|(_, texts)| !texts.is_empty())
            .map(|(field, texts)| format!("{field}:{}", quoted(texts.iter())))
            .collect();
        format!("{{{}}}", fields.join(", "))
    }
}

/// The parts of `wanted` that none of `owned` covers.
pub(crate) fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let parts = wanted.iter().flat_map(Rule::parts);
    parts
        .filter(|part| !owned.iter().any(|rule| rule.covers(part)))
        .collect()
}

/// Parts that differ only by their verb, as one rule each, in order.
pub(crate) fn compact(parts: Vec<Rule>) -> Vec<Rule> {
    let mut compacted: Vec<Rule> = Vec::new();
    for part in parts {
        let same = |rule: &&mut Rule| {
            !part.resources.is_empty()
                && (&rule.api_groups, &rule.resources, &rule.resource_names)
                    == (&part.api_groups, &part.resources, &part.resource_names)
        };
        match compacted.iter_mut().find(same) {
            Some(rule) => rule.verbs = rule.verbs.iter().chain(part.verbs.iter()).collect(),
            None => compacted.push(part),
        }
    }
    compacted
}

/// Texts as Go's `%q` shows a list of them.
pub(crate) fn quoted<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let texts: Vec<_> = texts.map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match (pattern.split_once('/'), subresource) {
        (None, "") => pattern == resource,
        (Some((main, sub)), wanted) if !wanted.is_empty() => {
            sub == wanted && (main == "*" || main == resource)
        }
        _ => false,
    }
}

/// A path covers itself, and all that begins alike where it ends with a star.
fn url_covers(url: &str, path: &str) -> bool {
    url == path
        || url
            .strip_suffix('*')
            .is_some_and(|start| path.starts_with(start.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(json: serde_json::Value) -> Rule {
        serde_json::from_value(json).unwrap()
    }

    fn on<'a>(verb: &'a str, group: &'a str, resource: &'a str, name: &'a str) -> Action<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Action {
            verb,
            group,
            resource,
            subresource,
            name,
            ..Action::default()
        }
    }

    #[test]
    fn a_rule_allows_its_verbs_on_its_resources() {
        let it =
            rule(json!({ "verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"] }));
        assert!(it.allows(&on("get", "", "pods", "p")));
        assert!(it.allows(&on("list", "", "pods/log", "")));
        assert!(!it.allows(&on("get", "", "pods/exec", "p")));
        assert!(!it.allows(&on("get", "apps", "pods", "p")));
        assert!(!it.allows(&on("delete", "", "pods", "p")));
    }

    #[test]
    fn stars_stand_for_all() {
        let all = rule(json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }));
        assert!(all.allows(&on("x", "y", "z/w", "")));
        let scale = rule(json!({ "verbs": ["get"], "apiGroups": ["*"], "resources": ["*/scale"] }));
        assert!(scale.allows(&on("get", "apps", "deployments/scale", "d")));
        assert!(!scale.allows(&on("get", "apps", "deployments", "d")));
        assert!(!scale.allows(&on("get", "apps", "deployments/status", "d")));
    }

    #[test]
    fn names_narrow_a_rule() {
        let it = rule(
            json!({ "verbs": ["get", "list"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"] }),
        );
        assert!(it.allows(&on("get", "", "configmaps", "a")));
        assert!(!it.allows(&on("get", "", "configmaps", "b")));
        assert!(!it.allows(&on("list", "", "configmaps", "")));
    }

    #[test]
    fn paths_match_whole_or_by_their_beginning() {
        let it = rule(json!({ "verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"] }));
        let path = |path| Action {
            verb: "get",
            path,
            ..Action::default()
        };
        assert!(it.allows(&path("/healthz")) && it.allows(&path("/api/v1")));
        assert!(!it.allows(&path("/healthz/x")) && !it.allows(&path("/apis")));
        assert!(!it.allows(&on("get", "", "pods", "")));
    }

    #[test]
    fn what_is_not_covered_is_found_and_named() {
        let owned = [
            rule(json!({ "verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"] })),
            rule(json!({ "verbs": ["*"], "apiGroups": ["apps"], "resources": ["*/scale"] })),
            rule(json!({ "verbs": ["get"], "nonResourceURLs": ["/a/*"] })),
        ];
        let covered = [
            rule(
                json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"] }),
            ),
            rule(json!({ "verbs": ["update"], "apiGroups": ["apps"], "resources": ["deployments/scale"] })),
            rule(json!({ "verbs": ["get"], "nonResourceURLs": ["/a/b"] })),
        ];
        assert_eq!(uncovered(&owned, &covered), []);
        let wanted =
            rule(json!({ "verbs": ["list", "watch", "delete"], "apiGroups": [""], "resources": ["pods"] }));
        let missing = compact(uncovered(&owned, &[wanted]));
        let texts: Vec<_> = missing.iter().map(Rule::describe).collect();
        assert_eq!(
            texts,
            [r#"{APIGroups:[""], Resources:["pods"], Verbs:["watch" "delete"]}"#]
        );
        let everything = rule(json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }));
        assert_eq!(uncovered(&owned, std::slice::from_ref(&everything)).len(), 1);
        assert_eq!(uncovered(std::slice::from_ref(&everything), &covered[..2]), []);
    }
}
