//! The file of `ripstop up --config`: read, checked, and told where it is wrong.
//!
//! ```text
//! cluster.yaml ─► file (what can be written) ─► check (what can't be said by types) ─► Wish
//! ```
//!
//! Its schema is in `docs/config.md`.

mod check;
mod file;
mod mistake;
mod scalar;

use std::path::{Path, PathBuf};

use supervisor::settings::{NodeSettings, Settings};

use self::file::File;
use self::mistake::Mistake;
use crate::args::{Family, Up};
use crate::failure::Failure;

/// What a file asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// The nodes, if the file has them.
    pub(crate) nodes: Vec<(String, NodeSettings)>,
    pub(crate) settings: Settings,
    /// Files and folders to apply once the nodes are Ready.
    pub(crate) manifests: Vec<PathBuf>,
    file: File,
}

/// Reads and checks a file.
pub(crate) fn read(path: &Path) -> Result<Wish, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(
            format!("can't read {}: {error}", path.display()),
            "`ripstop up --config FILE` takes a file as docs/config.md describes it",
        )
    })?;
    parse(&text, &folder(path)).map_err(|mistakes| {
        let problems = mistakes.iter().map(|mistake| mistake.problem(path));
        Failure::usage_of_several(problems.collect())
    })
}

/// The folder that a file is in, from the root: the supervisor, which mounts what is in it, works elsewhere.
fn folder(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    file.parent().map(Path::to_owned).unwrap_or_default()
}

/// Paths in the file are relative to the folder that it is in.
pub(crate) fn parse(text: &str, folder: &Path) -> Result<Wish, Vec<Mistake>> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| vec![Mistake::of(&error)])?;
    check::check(file, folder)
}

impl Wish {
    /// The arguments, completed by the file: what was typed counts more.
    pub(crate) fn complete(&self, args: Up) -> Result<Up, Failure> {
        let file = &self.file;
        let nodes = match (args.nodes, self.nodes.len()) {
            (nodes, 0) => nodes,
            (None, count) => Some(count),
            (Some(asked), count) if asked == count => Some(count),
            (Some(asked), count) => {
                return Err(Failure::usage(
                    format!("the file has {count} nodes, and --nodes asks for {asked}"),
                    "leave --nodes out",
                ));
            }
        };
        let or = |typed: Vec<ipnet::IpNet>, written: &[scalar::Range]| match typed.is_empty() {
            true => written.iter().map(|range| range.0).collect(),
            false => typed,
        };
        Ok(Up {
            nodes,
            ip_family: args.ip_family.or(file.ip_family.map(Family::from)),
            pod_cidr: or(args.pod_cidr, &file.pod_cidrs),
            service_cidr: or(args.service_cidr, &file.service_cidrs),
            node_network: or(args.node_network, &file.node_networks),
            non_masquerade: or(args.non_masquerade, &file.non_masquerade),
            service_node_port_range: args.service_node_port_range.or(file.service_node_port_range),
            pod_network: args.pod_network.or(file.pod_network),
            ..args
        })
    }
}

#[cfg(test)]
mod tests;
