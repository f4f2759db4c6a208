//! Server-side apply: an object has many authors, each of which owns fields of it.
//!
//! ```text
//!                    fields_of(configuration) ──────────────┐
//! live + configuration ─merge─► merged ─prune─► object      ├─► managers: mine, and the others' less what
//!                                live ─compare─► changes ───┘   I changed (a conflict unless forced)
//! ```
//!
//! The rules are those of KEP-555 and of the structured merge behind it. All of it is pure: the server brings
//! the live object, the managers that its `managedFields` name, and the time.

mod compare;
mod element;
mod fields;
mod index;
mod last_applied;
mod managers;
mod merge;
mod own;
mod parts;
mod remove;
mod set;
mod shape;

pub use fields::spell;
pub use last_applied::{LAST_APPLIED, apply};
pub use managers::{Manager, Managers, Operation};
pub use own::{Applied, ApplyError, Author, Conflict, Scope, create, update};
pub use set::Set;
pub use shape::Shape;
