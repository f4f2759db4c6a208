//! From the object to pinned programs and maps, once a version.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, MapError, MapInfo};
use aya::programs::{Program, ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{EbpfError, EbpfLoader, VerifierLogLevel};
use bpf_abi::program;
use sha2::{Digest, Sha256};

use super::{sockets, sys};
use crate::{Error, Result};

/// The programs, built from `bpf/` by `cargo run -p xtask -- bpf`.
pub(super) const OBJECT: &[u8] = aya::include_bytes_aligned!("ripstop.bpf.o");

/// The programs on links.
const LINKS: [&str; 4] = [
    program::FROM_POD,
    program::TO_POD,
    program::FROM_WIRE,
    program::TO_WIRE,
];
const MAPS: [&str; 56] = [
    "endpoints4",
    "endpoints6",
    "forwards4",
    "forwards6",
    "flows4",
    "flows6",
    "names4",
    "names6",
    "openings4",
    "openings6",
    "generation",
    SEED,
    "counters",
    "frontends4",
    "frontends6",
    "slots",
    "backends4",
    "backends6",
    "ranges4",
    "ranges6",
    "namespaces",
    "turns",
    "loads",
    "translated",
    "counted",
    "affinity",
    "named",
    "used",
    "loopbacks",
    "peers4",
    "peers6",
    "talks4",
    "talks6",
    "picks4",
    "picks6",
    "isolation4",
    "isolation6",
    "classes4",
    "classes6",
    "blocks4",
    "blocks6",
    "rules",
    "rule_ranges",
    "judged4",
    "judged6",
    "asked4",
    "asked6",
    "pieces4",
    "pieces6",
    "settings",
    "allowed",
    "denied",
    "pace",
    "events",
    "desk4",
    "desk6",
];
/// What the programs on sockets are told of the kernel: whether they may say what an error is.
const SAYS_ERRORS: &str = "SAYS_ERRORS";
/// What decides on the places of conversations: a number that nobody outside knows.
const SEED: &str = "seed";
/// What is being pinned; a crash leaves it.
const UNFINISHED: &str = "unfinished";

/// What an object is in the kernel.
pub(super) struct Loaded {
    /// In the order of [`LINKS`].
    pub(super) links: [OwnedFd; 4],
    /// In the order of [`sockets::HOOKS`].
    pub(super) sockets: [OwnedFd; 9],
    pub(super) maps: Maps,
}

/// Maps by name.
pub(super) struct Maps(HashMap<&'static str, Map>);

impl Maps {
    /// One of them, as what it is.
    pub(super) fn take<T: TryFrom<Map, Error = MapError>>(&mut self, name: &'static str) -> Result<T> {
        T::try_from(self.map(name)).map_err(|error| Error::bpf(format!("use the map {name}"), &error))
    }

    /// One of them.
    pub(super) fn map(&mut self, name: &'static str) -> Map {
        self.0.remove(name).expect("every map of the object is there")
    }
}

/// Opens the object's pins below `dir`; loads and pins it first, if it isn't.
pub(super) fn open_or_load(dir: &Path, object: &[u8]) -> Result<Loaded> {
    let own = dir.join(version(object));
    if !own.is_dir() {
        load(dir, object)?;
    }
    open(&own)
}

/// Removes the pins of all other objects; false if there were none.
pub(super) fn retire_others(dir: &Path, object: &[u8]) -> Result<bool> {
    let own = dir.join(version(object));
    let mut retired = false;
    for other in versions(dir)?.into_iter().filter(|other| *other != own) {
        fs::remove_dir_all(&other).map_err(at(&other))?;
        retired = true;
    }
    Ok(retired)
}

/// What tells an object from another.
fn version(object: &[u8]) -> String {
    let digest = Sha256::digest(object);
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn open(dir: &Path) -> Result<Loaded> {
    let mut maps = HashMap::new();
    for name in MAPS {
        let failed = |error: MapError| Error::bpf(format!("open the pinned map {name}"), &error);
        let data = MapData::from_pin(dir.join(name)).map_err(failed)?;
        maps.insert(name, Map::from_map_data(data).map_err(failed)?);
    }
    Ok(Loaded {
        links: programs(dir, LINKS)?,
        sockets: programs(dir, sockets::HOOKS.map(|(name, _)| name))?,
        maps: Maps(maps),
    })
}

fn programs<const N: usize>(dir: &Path, names: [&str; N]) -> Result<[OwnedFd; N]> {
    let mut programs = Vec::with_capacity(N);
    for name in names {
        let opened = sys::open_pin(&dir.join(name));
        programs.push(opened.map_err(|error| Error::bpf(format!("open the pinned {name}"), &error))?);
    }
    Ok(programs.try_into().expect("one for each name"))
}

/// Loads the object with what can be kept of an older one's maps, and pins everything under its
/// version's name, which is there only once all is.
fn load(dir: &Path, object: &[u8]) -> Result<()> {
    let unfinished = dir.join(UNFINISHED);
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&unfinished)(error)),
        _ => {}
    }
    fs::create_dir(&unfinished).map_err(at(&unfinished))?;
    if let Some(old) = newest(dir)? {
        keep_maps(&old, &unfinished, object)?;
    }
    let paths = MAPS.map(|name| unfinished.join(name));
    let mut loader = loader();
    for (name, path) in MAPS.iter().zip(&paths) {
        loader.map_pin_path(name, path.as_path());
    }
    let says_errors = u32::from(says_errors()?);
    loader.override_global(SAYS_ERRORS, &says_errors, true);
    let mut loaded = loader.load(object).map_err(|error| refused(&error))?;
    sow(loaded.map_mut(SEED).expect("every map is in the object"))?;
    for name in LINKS.into_iter().chain(sockets::HOOKS.map(|(name, _)| name)) {
        let program = loaded.program_mut(name).expect("every program is in the object");
        let verified = match program {
            Program::SchedClassifier(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            Program::CgroupSock(program) => program.load(),
            _ => unreachable!("the object has no others"),
        };
        verified.map_err(|error| failed_program(name, &error))?;
        let pinned = program.pin(unfinished.join(name));
        pinned.map_err(|error| Error::bpf(format!("pin {name}"), &error))?;
    }
    let own = dir.join(version(object));
    fs::rename(&unfinished, &own).map_err(at(&own))
}

/// Writes what decides on the places of conversations, unless it is an older version's: those it has placed
/// are to be found.
fn sow(seed: &mut Map) -> Result<()> {
    let failed = |error: MapError| Error::bpf(format!("write the map {SEED}"), &error);
    let mut seed = Array::<_, u64>::try_from(seed).map_err(failed)?;
    if seed.get(&0, 0).map_err(failed)? == 0 {
        // The standard library's hashes have keys of their own each time.
        let new = RandomState::new().build_hasher().finish().max(1);
        seed.set(0, new, 0).map_err(failed)?;
    }
    Ok(())
}

/// Pins those of the old object's maps that the new one defines alike.
fn keep_maps(old: &Path, new: &Path, object: &[u8]) -> Result<()> {
    let mut loaded = loader().load(object).map_err(|error| refused(&error))?;
    for name in MAPS {
        let fresh = loaded.take_map(name).expect("every map is in the object");
        let failed = |error: MapError| Error::bpf(format!("compare the pinned map {name}"), &error);
        // The old object may not have had it.
        let Ok(kept) = MapData::from_pin(old.join(name)) else {
            continue;
        };
        if layout(&info(fresh).map_err(failed)?) == layout(&kept.info().map_err(failed)?) {
            let pinned = kept.pin(new.join(name));
            pinned.map_err(|error| Error::bpf(format!("pin the map {name}"), &error))?;
        }
    }
    Ok(())
}

fn info(map: Map) -> Result<MapInfo, MapError> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuLruHashMap(data)
        | Map::RingBuf(data) => data.info(),
        _ => unreachable!("the object has no others"),
    }
}

fn layout(info: &MapInfo) -> [u32; 5] {
    [
        info.map_type().map_or(0, |kind| kind as u32),
        info.key_size(),
        info.value_size(),
        info.max_entries(),
        info.map_flags(),
    ]
}

fn loader<'a>() -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    // The object has no type information, and needs none of the kernel's. The verifier's words are
    // asked for when it refuses.
    loader.btf(None).verifier_log_level(VerifierLogLevel::DEBUG);
    loader
}

/// Whether programs on sockets may say what an error is, which they may since Linux 6.1. Without it
/// whoever connects to a Service without endpoints reads that it's not permitted.
fn says_errors() -> Result<bool> {
    is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval)
        .map_err(|error| Error::BpfRefused(chain(&error)))
}

fn newest(dir: &Path) -> Result<Option<PathBuf>> {
    let changed = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
    Ok(versions(dir)?.into_iter().max_by_key(changed))
}

fn versions(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(at(dir))?;
    let paths = entries.flatten().map(|entry| entry.path());
    Ok(paths
        .filter(|path| path.is_dir() && !path.ends_with(UNFINISHED))
        .collect())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let dir = path.to_owned();
    move |source| Error::Pins { dir, source }
}

fn refused(error: &EbpfError) -> Error {
    Error::BpfRefused(chain(error))
}

fn failed_program(name: &str, error: &ProgramError) -> Error {
    let reason = match error {
        // The log is hundreds of lines; its end has the reason.
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let last: Vec<&str> = log.lines().rev().take(3).collect();
            format!("{name}: {io_error} {}", last.join(" / "))
        }
        error => format!("{name}: {}", chain(error)),
    };
    Error::BpfRefused(reason.trim_end().to_owned())
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
