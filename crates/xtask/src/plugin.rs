//! What is promised of the CNI plugin: it needs nothing of the machine that it is copied to, and it
//! is small, as it is read anew for every pod.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::elf;

/// 2 MB.
const MOST_BYTES: usize = 2_000_000;

/// Checks a built plugin.
pub(crate) fn check(path: &Path) -> Result<()> {
    let program = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    check_bytes(&program).with_context(|| format!("the CNI plugin {}", path.display()))
}

fn check_bytes(program: &[u8]) -> Result<()> {
    elf::architecture(program)?;
    ensure!(
        program.len() <= MOST_BYTES,
        "has {} bytes, and {MOST_BYTES} are allowed: see what it came to depend on (cargo tree -p cni)",
        program.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_static_program_passes_and_a_large_one_does_not() {
        let mut program = vec![0; 64];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        program[18] = 62;
        check_bytes(&program).expect("small");
        program.resize(MOST_BYTES + 1, 0);
        let error = check_bytes(&program).expect_err("large").to_string();
        assert!(error.contains("2000001 bytes"), "{error}");
    }
}
