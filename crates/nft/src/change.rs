//! Changes to a ruleset, each one message of a batch.

use std::fmt;

use crate::{Base, Entry, Family, Rule, Set};

/// One change to one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes a table; nothing if it's there.
    AddTable,
    /// Removes a table and all that is in it.
    DeleteTable,
    /// Makes a set.
    AddSet(Set),
    /// Removes a set that no rule uses.
    DeleteSet(String),
    /// Adds elements to a set.
    AddElements(Set, Vec<Entry>),
    /// Removes elements from a set.
    DeleteElements(Set, Vec<Entry>),
    /// Removes all elements of a set.
    FlushSet(String),
    /// Makes a chain without rules.
    AddChain(String, Option<Base>),
    /// Removes a chain that no rule jumps to.
    DeleteChain(String),
    /// Removes all rules of a chain.
    FlushChain(String),
    /// Adds a rule at the end of a chain.
    AddRule(String, Rule),
    /// Adds a rule at the beginning of a chain.
    InsertRule(String, Rule),
    /// Removes the rule of that handle from a chain.
    DeleteRule(String, u64),
}

/// The table that a change is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The table's family.
    pub family: Family,
    /// The table's name.
    pub table: String,
}

impl Place {
    /// The table of that family and name.
    pub fn new(family: Family, table: impl Into<String>) -> Place {
        Place {
            family,
            table: table.into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.table)
    }
}

impl Change {
    /// The change as the command of `nft` that does the same.
    pub fn describe(&self, place: &Place) -> String {
        let all = |entries: &[Entry]| {
            entries
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        match self {
            Change::AddTable => format!("add table {place}"),
            Change::DeleteTable => format!("delete table {place}"),
            Change::AddSet(set) => format!("add set {place} {}", set.name),
            Change::DeleteSet(set) => format!("delete set {place} {set}"),
            Change::AddElements(set, elements) => {
                format!("add element {place} {} {{ {} }}", set.name, all(elements))
            }
            Change::DeleteElements(set, elements) => {
                format!("delete element {place} {} {{ {} }}", set.name, all(elements))
            }
            Change::FlushSet(set) => format!("flush set {place} {set}"),
            Change::AddChain(chain, Some(base)) => format!("add chain {place} {chain} {{ {base} }}"),
            Change::AddChain(chain, None) => format!("add chain {place} {chain}"),
            Change::DeleteChain(chain) => format!("delete chain {place} {chain}"),
            Change::FlushChain(chain) => format!("flush chain {place} {chain}"),
            Change::AddRule(chain, rule) => format!("add rule {place} {chain} {rule}"),
            Change::InsertRule(chain, rule) => format!("insert rule {place} {chain} {rule}"),
            Change::DeleteRule(chain, handle) => format!("delete rule {place} {chain} handle {handle}"),
        }
    }
}
