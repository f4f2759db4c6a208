//! How a node's containerd reaches registries: a `hosts.toml` for each, which it reads at every pull.
//!
//! The format is containerd's (`docs/hosts.md` in its sources).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::{fs, io};

use crate::containerd::toml_string;
use crate::settings::Registry;
use crate::{Error, files};

/// What mirrors on the machine itself are called in URLs: nodes have another `localhost`.
const MACHINE: &str = "machine";
/// Where images of `docker.io` really are.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// Writes the files for these registries, and removes those of others. `machine` is the machine's address as
/// nodes see it.
pub(crate) fn write(dir: &Path, registries: &[Registry], machine: IpAddr) -> Result<(), Error> {
    let wanted: BTreeSet<&str> = registries.iter().map(|registry| registry.host.as_str()).collect();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries.flatten().collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::file("list", dir, error)),
    };
    for entry in entries {
        if entry
            .file_name()
            .to_str()
            .is_none_or(|name| !wanted.contains(name))
        {
            files::remove_dir(&entry.path())?;
        }
    }
    for registry in registries {
        let own = dir.join(&registry.host);
        files::make_dir(&own)?;
        files::write(&own.join("hosts.toml"), &hosts(registry, machine), 0o644)?;
    }
    Ok(())
}

/// The file of one registry.
fn hosts(registry: &Registry, machine: IpAddr) -> String {
    let server = match registry.host.as_str() {
        host if host == DOCKER.0 => DOCKER.1,
        host => host,
    };
    let mut text = format!(
        "# Written by ripstop at every start of the node.\nserver = {}\n",
        toml_string(&format!("https://{server}"))
    );
    let itself = format!("https://{server}");
    // Without a mirror, how the registry itself is reached is what is meant.
    let urls = match registry.mirrors.as_slice() {
        [] => vec![itself],
        mirrors => mirrors.iter().map(|url| at_machine(url, machine)).collect(),
    };
    for url in urls {
        text += &format!(
            "\n[host.{}]\n  capabilities = [\"pull\", \"resolve\"]\n",
            toml_string(&url)
        );
        if let Some(ca) = &registry.ca {
            text += &format!("  ca = {}\n", toml_string(&ca.to_string_lossy()));
        }
        if registry.insecure {
            text += "  skip_verify = true\n";
        }
    }
    text
}

/// The URL with the machine's address in the place of its name.
fn at_machine(url: &str, machine: IpAddr) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.strip_prefix(MACHINE) {
        Some(rest) if rest.is_empty() || rest.starts_with([':', '/']) => match machine {
            IpAddr::V4(address) => format!("{scheme}://{address}{rest}"),
            IpAddr::V6(address) => format!("{scheme}://[{address}]{rest}"),
        },
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(host: &str, mirrors: &[&str]) -> Registry {
        Registry {
            host: host.to_owned(),
            mirrors: mirrors.iter().map(|&url| url.to_owned()).collect(),
            ca: None,
            insecure: false,
        }
    }

    fn v4() -> IpAddr {
        "172.30.0.1".parse().expect("an address")
    }

    #[test]
    fn mirrors_are_asked_before_the_registry() {
        let docker = Registry {
            ca: Some("/etc/mirror.pem".into()),
            ..registry("docker.io", &["http://machine:5000", "https://mirror.example"])
        };
        insta::assert_snapshot!(hosts(&docker, v4()), @r#"
        # Written by ripstop at every start of the node.
        server = "https://registry-1.docker.io"

        [host."http://172.30.0.1:5000"]
          capabilities = ["pull", "resolve"]
          ca = "/etc/mirror.pem"

        [host."https://mirror.example"]
          capabilities = ["pull", "resolve"]
          ca = "/etc/mirror.pem"
        "#);
    }

    #[test]
    fn a_registry_without_mirrors_is_told_how_it_is_reached_itself() {
        let own = Registry {
            insecure: true,
            ..registry("registry.example:5000", &[])
        };
        let text = hosts(&own, v4());
        assert!(
            text.contains("[host.\"https://registry.example:5000\"]"),
            "{text}"
        );
        assert!(text.contains("skip_verify = true"), "{text}");
    }

    #[test]
    fn the_machine_has_its_address_as_nodes_see_it() {
        assert_eq!(at_machine("http://machine", v4()), "http://172.30.0.1");
        assert_eq!(at_machine("http://machinery:5000", v4()), "http://machinery:5000");
        let six = "fd00:172:30::1".parse().expect("an address");
        assert_eq!(
            at_machine("http://machine:5000/v2", six),
            "http://[fd00:172:30::1]:5000/v2"
        );
    }

    #[test]
    fn what_was_taken_out_of_the_file_is_taken_off_the_node() {
        let dir = tempfile::tempdir().expect("a folder");
        write(dir.path(), &[registry("a", &[]), registry("b", &[])], v4()).expect("written");
        write(dir.path(), &[registry("b", &[])], v4()).expect("written");
        assert!(!dir.path().join("a").exists());
        assert!(dir.path().join("b/hosts.toml").exists());
    }
}
