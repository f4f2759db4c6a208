//! Garbage collection: what nobody owns any more goes.
//!
//! ```text
//! metadata watches of every kind ──► Graph (who depends on whom) ──► queue of UIDs
//!                                                                       │
//!                      requests ◄── judge() ◄── live look at the object ┘
//! ```
//!
//! * *Background*: the owner is gone at once; its dependents find it absent and follow.
//! * *Foreground*: the owner carries the finalizer `foregroundDeletion` until no dependent that
//!   blocks it is left.
//! * *Orphan*: the owner carries the finalizer `orphan` until no dependent refers to it.
//!
//! The graph may lag behind, so it only says where to look: nothing is deleted before the object
//! itself and every owner that the graph doesn't know have been looked at on the server.

pub(crate) mod driver;
mod graph;

use graph::Owner;

/// What is known of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is there.
    Solid,
    /// It is gone, or never was.
    Absent,
    /// It waits, in foreground deletion, for its dependents to go.
    Waiting,
}

/// What is to become of an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// It has another owner: only forget these, by UID.
    Unlink(Vec<String>),
    /// It goes in the way that its own finalizers ask for.
    Delete,
    /// Its owner waits for it, and it has dependents itself: they go first.
    DeleteForeground,
}

/// Judges an object by its owners.
pub(crate) fn judge(owners: &[(Owner, Standing)], has_dependents: bool) -> Verdict {
    let with = |standing: Standing| owners.iter().filter(move |(_, own)| *own == standing);
    if owners.is_empty() {
        return Verdict::Keep;
    }
    if with(Standing::Solid).next().is_some() {
        let gone: Vec<_> = owners
            .iter()
            .filter(|(_, standing)| *standing != Standing::Solid)
            .map(|(owner, _)| owner.uid.clone())
            .collect();
        return if gone.is_empty() {
            Verdict::Keep
        } else {
            Verdict::Unlink(gone)
        };
    }
    if with(Standing::Waiting).next().is_some() && has_dependents {
        return Verdict::DeleteForeground;
    }
    Verdict::Delete
}

#[cfg(test)]
mod tests {
    use super::Standing::{Absent, Solid, Waiting};
    use super::*;

    fn judged(standings: &[Standing], has_dependents: bool) -> Verdict {
        let owner = |n: usize| Owner {
            uid: n.to_string(),
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: "x".to_owned(),
            blocks: true,
        };
        let owners: Vec<_> = standings
            .iter()
            .enumerate()
            .map(|(n, s)| (owner(n), *s))
            .collect();
        judge(&owners, has_dependents)
    }

    #[test]
    fn an_object_stays_while_an_owner_does() {
        assert_eq!(judged(&[], false), Verdict::Keep);
        assert_eq!(judged(&[Solid], true), Verdict::Keep);
        let gone = vec!["0".to_owned(), "2".to_owned()];
        assert_eq!(judged(&[Absent, Solid, Waiting], false), Verdict::Unlink(gone));
    }

    #[test]
    fn an_object_without_an_owner_left_goes() {
        assert_eq!(judged(&[Absent], true), Verdict::Delete);
        assert_eq!(judged(&[Absent, Waiting], false), Verdict::Delete);
        assert_eq!(judged(&[Absent, Waiting], true), Verdict::DeleteForeground);
    }
}
