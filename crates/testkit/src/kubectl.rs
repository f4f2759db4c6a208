//! kubectl of two ages: clients of either must find everything as in Kubernetes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Which kubectl a test drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichKubectl {
    /// The one that this machine's user has.
    Installed,
    /// The distribution's, which `scripts/deps.sh --test` puts beside it: Debian's is old.
    Packaged,
}

/// A kubectl.
#[derive(Debug, Clone)]
pub struct Kubectl {
    /// The program.
    pub program: PathBuf,
    /// Its version is 1.`minor`.
    pub minor: u32,
}

impl Kubectl {
    /// The program, and what it is; `None` if the distribution's is the one that is installed, and says so.
    ///
    /// # Panics
    /// If there is none.
    pub fn find(which: WhichKubectl) -> Option<Kubectl> {
        let installed = installed();
        let program = match which {
            WhichKubectl::Installed => installed,
            WhichKubectl::Packaged => {
                let packaged = packaged();
                if packaged.canonicalize().ok() == installed.canonicalize().ok() {
                    let only = Kubectl::of(installed);
                    println!(
                        "the only kubectl here is 1.{}, which another case drives",
                        only.minor
                    );
                    return None;
                }
                packaged
            }
        };
        let kubectl = Kubectl::of(program);
        println!("{} is kubectl 1.{}", kubectl.program.display(), kubectl.minor);
        Some(kubectl)
    }

    fn of(program: PathBuf) -> Kubectl {
        let output = Command::new(&program)
            .args(["version", "--client", "-o", "json"])
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let version: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}: {output:?}", program.display()));
        // Distributions and clouds write "32+".
        let minor = version["clientVersion"]["minor"].as_str().unwrap_or_default();
        let minor = minor.trim_end_matches('+').parse();
        Kubectl {
            minor: minor.unwrap_or_else(|_| panic!("{} says {version}", program.display())),
            program,
        }
    }

    /// Whether it is of this version or newer: 1.`minor`.
    pub fn since(&self, minor: u32) -> bool {
        self.minor >= minor
    }
}

fn installed() -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join("kubectl"))
        .find(|program| program.is_file())
        .expect("kubectl is installed: `scripts/deps.sh --test` does that")
}

/// Beside what was built, wherever that is.
fn packaged() -> PathBuf {
    let own = std::env::current_exe().expect("a test is a program");
    own.ancestors()
        .map(|folder| folder.join("kubectl/usr/bin/kubectl"))
        .find(|program: &PathBuf| Path::exists(program))
        .expect("the distribution's kubectl is unpacked beside what was built: `scripts/deps.sh --test` does that")
}
