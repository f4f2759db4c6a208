//! Which machine the figures are of.

use std::fs;
use std::path::Path;
use std::process::Command;

/// One line: processor, memory, kernel, runtime.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(Path::new(path)).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = read("/proc/cpuinfo");
    // arm64 has no name there.
    let model = field(&cpu, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory = memory.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let gib = memory.unwrap_or_default() / f64::from(1 << 20);
    let kernel = read("/proc/sys/kernel/osrelease");
    let containerd = Command::new("containerd").arg("--version").output();
    let containerd = containerd.map_or_else(
        |_| "unknown".to_owned(),
        |output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let words = text.split_whitespace().nth(2);
            words.unwrap_or("unknown").to_owned()
        },
    );
    format!(
        "Ripstop {} on {cpus} × {model}, {gib:.1} GiB, Linux {}, containerd {containerd}",
        env!("CARGO_PKG_VERSION"),
        kernel.trim()
    )
}
