//! Sysctls of a network namespace.
//!
//! `/proc/sys/net` shows the namespace of the thread that opens a file there, so reads and writes
//! happen on a thread inside it; several go in one visit.

use std::fs;
use std::path::Path;

use crate::{Error, NetNs, Result};

/// Reads sysctls of the calling thread's namespace; `key` is the path below `/proc/sys`. `None`
/// if this kernel has no such sysctl.
pub fn read(key: &str) -> Result<Option<String>> {
    match fs::read_to_string(Path::new("/proc/sys").join(key)) {
        Ok(value) => Ok(Some(value.trim_end().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Sysctl {
            action: "read",
            key: key.to_owned(),
            source,
        }),
    }
}

/// The names below a folder of sysctls, such as the links below `net/ipv6/conf`; none if this
/// kernel has no such folder.
pub fn list(key: &str) -> Result<Vec<String>> {
    let failed = |source| Error::Sysctl {
        action: "list",
        key: key.to_owned(),
        source,
    };
    let entries = match fs::read_dir(Path::new("/proc/sys").join(key)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let names = entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// Writes a sysctl of the calling thread's namespace unless it has that value; true if it wrote.
pub fn write(key: &str, value: &str) -> Result<bool> {
    if read(key)?.as_deref() == Some(value) {
        return Ok(false);
    }
    let failed = |source| Error::Sysctl {
        action: "write",
        key: key.to_owned(),
        source,
    };
    fs::write(Path::new("/proc/sys").join(key), value).map_err(failed)?;
    Ok(true)
}

/// Writes a planned sysctl of the calling thread's namespace unless it has that value; true if it
/// wrote.
pub(crate) fn ensure(one: &plan::Sysctl) -> Result<bool> {
    if !one.required && read(&one.key)?.is_none() {
        return Ok(false);
    }
    write(&one.key, &one.value)
}

/// Writes planned sysctls of a namespace, each only if it has another value, in order; returns how
/// many were written.
pub(crate) fn ensure_in(netns: &NetNs, sysctls: &[plan::Sysctl]) -> Result<usize> {
    netns.run(|| {
        let mut written = 0;
        for one in sysctls {
            written += usize::from(ensure(one)?);
        }
        Ok(written)
    })?
}

/// Writes sysctls of a namespace, each only if it has another value, in order; returns how many
/// were written.
pub fn write_in(netns: &NetNs, values: &[(impl AsRef<str> + Sync, impl AsRef<str> + Sync)]) -> Result<usize> {
    netns.run(|| {
        let mut written = 0;
        for (key, value) in values {
            written += usize::from(write(key.as_ref(), value.as_ref())?);
        }
        Ok(written)
    })?
}
