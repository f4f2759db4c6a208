//! Files that are replaced as a whole.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

/// Writes a value as JSON in a file's place: whoever reads it finds the old or the new one, whole. Its folder is
/// made if need be.
pub(crate) fn replace(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let new = path.with_extension("json.new");
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(&new, serde_json::to_vec(value)?)?;
    fs::rename(&new, path)
}
