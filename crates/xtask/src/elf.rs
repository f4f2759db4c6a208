//! What has to be known of a program before it goes into an image: its
//! architecture, and that it needs no libraries.

use anyhow::{Result, bail, ensure};

/// The architecture, in the words of image configurations, of a static 64-bit
/// program.
///
/// # Errors
/// If the bytes aren't such a program.
pub(crate) fn architecture(program: &[u8]) -> Result<&'static str> {
    const INTERPRETER: u32 = 3;
    let little_64 = program.starts_with(b"\x7fELF\x02\x01");
    ensure!(little_64, "not a 64-bit little-endian ELF program");
    let (offset, size, count) = (word(program, 32)?, half(program, 54)?, half(program, 56)?);
    for number in 0..u64::from(count) {
        let at = number
            .checked_mul(size.into())
            .and_then(|at| at.checked_add(offset));
        let kind: [u8; 4] = bytes(program, at.unwrap_or(u64::MAX))?;
        ensure!(
            u32::from_le_bytes(kind) != INTERPRETER,
            "linked dynamically, and the image has no libraries"
        );
    }
    match half(program, 18)? {
        62 => Ok("amd64"),
        183 => Ok("arm64"),
        other => bail!("for a machine not known here (ELF machine {other})"),
    }
}

fn half(program: &[u8], at: u64) -> Result<u16> {
    bytes(program, at).map(u16::from_le_bytes)
}

fn word(program: &[u8], at: u64) -> Result<u64> {
    bytes(program, at).map(u64::from_le_bytes)
}

fn bytes<const N: usize>(program: &[u8], at: u64) -> Result<[u8; N]> {
    let part = usize::try_from(at)
        .ok()
        .and_then(|at| program.get(at..)?.first_chunk());
    match part {
        Some(part) => Ok(*part),
        None => bail!("the ELF header points outside the file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(machine: u16, segment: u32) -> Vec<u8> {
        let mut program = vec![0; 64 + 56];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        program[18..20].copy_from_slice(&machine.to_le_bytes());
        program[32..40].copy_from_slice(&64_u64.to_le_bytes());
        program[54..56].copy_from_slice(&56_u16.to_le_bytes());
        program[56..58].copy_from_slice(&1_u16.to_le_bytes());
        program[64..68].copy_from_slice(&segment.to_le_bytes());
        program
    }

    #[test]
    fn static_programs_have_an_architecture() {
        assert_eq!(architecture(&program(62, 1)).unwrap(), "amd64");
        assert_eq!(architecture(&program(183, 1)).unwrap(), "arm64");
    }

    #[test]
    fn anything_else_is_refused() {
        let cut = &program(62, 1)[..64];
        for bad in [&program(62, 3)[..], &program(3, 1), cut, b"#!/bin/sh", b""] {
            assert!(architecture(bad).is_err());
        }
    }
}
