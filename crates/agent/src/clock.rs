//! The machine's boot: a name for it, and the time since.

use std::time::Duration;
use std::{fs, io};

use crate::ipam::Millis;

/// A name that no other boot of any machine has.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Milliseconds since the boot, suspended time included: nobody sets this clock.
pub(crate) fn since_boot() -> Millis {
    let uptime = fs::read_to_string("/proc/uptime").ok();
    let seconds: Option<f64> = uptime.and_then(|text| text.split_whitespace().next()?.parse().ok());
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Millis::try_from(time.unwrap_or_default().as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_in_one_boot() {
        assert_eq!(boot_id().expect("a boot id"), boot_id().expect("a boot id"));
        let first = since_boot();
        assert!(first > 0 && since_boot() >= first);
    }
}
