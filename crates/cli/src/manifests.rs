//! Manifests on disk: found, and split into documents.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Adds the manifests at a path to `files`: one, or those of a folder and what is below it, by name.
pub(crate) fn find(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::usage(format!("can't read {}: {error}", path.display()), "");
    if fs::metadata(path).map_err(failed)?.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(failed)?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let is_manifest = path
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if path.is_dir() || is_manifest {
            find(&path, files)?;
        }
    }
    Ok(())
}

/// The documents of a YAML file.
pub(crate) fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line == "---" || line.starts_with("--- ") {
            documents.push(String::new());
            continue;
        }
        let last = documents.last_mut().expect("there is always one");
        last.push_str(line);
        last.push('\n');
    }
    let is_something = |document: &String| {
        document
            .lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    };
    documents.retain(is_something);
    documents
}
