//! Messages as bytes: questions in, replies out.
//!
//! The cluster's own answers are written by hickory, but for the plainest ([`Plain`]). What other servers said is passed on as they
//! wrote it ([`Packet`]), with this client's spelling of the name and the time that is left.

mod packet;
mod plain;
mod question;
mod reply;

pub use packet::{Left, Packet, Unfit};
pub use plain::{Plain, Zone};
pub use question::{Edns, Question, Wrong, read};
pub use reply::{Answer, MAX_UDP, render};
