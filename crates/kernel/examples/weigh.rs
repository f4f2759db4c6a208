//! What the programs and maps of an object cost to load, and to keep: how long the kernel verifies each
//! program, how many instructions it follows, and how much memory each map takes.
//!
//! `cargo run -p kernel --example weigh [OBJECT]`, as root; nothing is attached or pinned.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::{Context, Result};
use aya::EbpfLoader;
use aya::maps::{Map, MapData};
use aya::programs::{Program, ProgramError, ProgramInfo};

fn main() -> Result<()> {
    let path = std::env::args().nth(1);
    let path =
        path.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/src/bpf/ripstop.bpf.o").to_owned());
    let object = fs::read(&path).context(path)?;
    let began = now()?;
    let mut loaded = EbpfLoader::new().btf(None).load(&object)?;
    println!("maps made in {:.1} ms", (now()? - began).as_secs_f64() * 1e3);

    let (mut time, mut followed) = (0.0, 0);
    for (name, program) in loaded.programs_mut() {
        let began = now()?;
        let info = verify(program).with_context(|| format!("load {name}"))?;
        let took = (now()? - began).as_secs_f64() * 1e3;
        let count = info.verified_instruction_count().unwrap_or(0);
        let size = info.size_translated().unwrap_or(0);
        println!("{name:<16} {took:8.1} ms {count:>8} followed {size:>7} bytes");
        time += took;
        followed += count;
    }
    println!("{:<16} {time:8.1} ms {followed:>8} followed\n", "all programs");

    let mut sizes = Vec::new();
    for (name, map) in loaded.maps() {
        sizes.push((memory(data(map)?)?, name.to_owned()));
    }
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    for (size, name) in &sizes {
        println!("{name:<16} {:10.2} KiB", *size as f64 / 1024.0);
    }
    let all: u64 = sizes.iter().map(|(size, _)| size).sum();
    println!("{:<16} {:10.2} MiB", "all maps", all as f64 / 1024.0 / 1024.0);
    Ok(())
}

/// This thread's time on processors, whatever else they do.
fn now() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let time = stat.split(' ').next().context("the kernel doesn't say")?;
    Ok(Duration::from_nanos(time.parse()?))
}

fn verify(program: &mut Program) -> Result<ProgramInfo, ProgramError> {
    match program {
        Program::SchedClassifier(program) => program.load()?,
        Program::CgroupSockAddr(program) => program.load()?,
        Program::CgroupSock(program) => program.load()?,
        _ => unreachable!("the object has no others"),
    }
    program.info()
}

fn data(map: &Map) -> Result<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuLruHashMap(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => Ok(data),
        other => anyhow::bail!("a map of a kind that nobody expected: {other:?}"),
    }
}

/// As the kernel counts it.
fn memory(map: &MapData) -> Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(line.context("the kernel doesn't say")?.trim().parse()?)
}
