//! Selectors of labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// What labels must be like. Without requirements all are.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// What must hold, all of it. Their order and repetitions mean nothing, so they are kept without.
    pub requirements: BTreeSet<Requirement>,
}

/// What must hold for the label of one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What must hold.
    pub operator: Operator,
}

/// What must hold for a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// It's there and has one of these values.
    In(BTreeSet<String>),
    /// It has none of these values, or isn't there.
    NotIn(BTreeSet<String>),
    /// It's there.
    Exists,
    /// It isn't.
    DoesNotExist,
}

impl Selector {
    /// Whether labels are as required.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|one| one.holds(labels))
    }

    /// Whether it selects whatever there is.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// What has this label.
    pub fn label(key: impl Into<String>, value: impl Into<String>) -> Selector {
        Selector {
            requirements: BTreeSet::from([Requirement::equals(key, value)]),
        }
    }
}

impl Requirement {
    /// The label has this value.
    pub fn equals(key: impl Into<String>, value: impl Into<String>) -> Requirement {
        Requirement {
            key: key.into(),
            operator: Operator::In(BTreeSet::from([value.into()])),
        }
    }

    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Operator::In(values) => write!(f, "{key} in ({})", list(values)),
            Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", list(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn requirement(operator: Operator) -> Selector {
        Selector {
            requirements: BTreeSet::from([Requirement {
                key: "tier".to_owned(),
                operator,
            }]),
        }
    }

    fn values(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn a_label_that_is_not_there_is_in_no_set() {
        let (web, db, none) = (
            labels(&[("tier", "web")]),
            labels(&[("tier", "db")]),
            labels(&[("app", "web")]),
        );
        let matches = |operator: Operator| {
            let selector = requirement(operator);
            [&web, &db, &none].map(|labels| selector.matches(labels))
        };
        assert_eq!(matches(Operator::In(values(&["web"]))), [true, false, false]);
        assert_eq!(matches(Operator::NotIn(values(&["web"]))), [false, true, true]);
        assert_eq!(matches(Operator::Exists), [true, true, false]);
        assert_eq!(matches(Operator::DoesNotExist), [false, false, true]);
        assert!(Selector::default().matches(&none));
    }

    #[test]
    fn selectors_are_written_as_kubectl_takes_them() {
        let mut selector = Selector::label("app", "web");
        for operator in [
            Operator::In(values(&["a", "b"])),
            Operator::NotIn(values(&["c"])),
            Operator::NotIn(values(&["c", "d"])),
            Operator::Exists,
            Operator::DoesNotExist,
        ] {
            selector.requirements.extend(requirement(operator).requirements);
        }
        assert_eq!(
            selector.to_string(),
            "app=web,tier in (a,b),tier!=c,tier notin (c,d),tier,!tier"
        );
    }
}
