//! Says what was tried when the system refuses.

use std::fmt::Display;
use std::io;

/// Adds to an error of the system what was being done; the kind of error stays.
pub(crate) trait Context<T> {
    /// The error becomes `can't ACTION: ERROR`.
    fn context<D: Display>(self, action: impl FnOnce() -> D) -> io::Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context<D: Display>(self, action: impl FnOnce() -> D) -> io::Result<T> {
        self.map_err(|error| {
            let error = error.into();
            io::Error::new(error.kind(), format!("can't {}: {error}", action()))
        })
    }
}
