//! `ripstop-cni`: the plugin that containerd starts for each call.
//!
//! It hands the call to the agent and prints the answer: JSON on stdout, exit code 0 or 1. Called
//! by the name `loopback` it is the loopback plugin instead, which needs no agent.

mod loopback;

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::{env, io};

use cni::wire::{MESSAGE_MAX, Request};
use cni::{Call, Code, Command, Error, NetworkConfig, Version, client};
use serde_json::{Value, json};

fn main() -> ExitCode {
    if env::var_os("CNI_COMMAND").is_none() {
        return explain();
    }
    let name = env::args_os().next().unwrap_or_default();
    let is_loopback = Path::new(&name).file_name() == Some(OsStr::new("loopback"));
    let mut input = Vec::new();
    let read = io::stdin().take(MESSAGE_MAX).read_to_end(&mut input);
    let outcome = match read {
        Ok(_) => serve(&input, is_loopback),
        Err(error) => Err(Error::new(Code::Io, format!("stdin can't be read: {error}"))),
    };
    match outcome {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(value)) => print(&value, ExitCode::SUCCESS),
        Err(error) => print(&error.render(&answer_version(&input)), ExitCode::FAILURE),
    }
}

fn serve(input: &[u8], is_loopback: bool) -> Result<Option<Value>, Error> {
    let call = Call::read(|name| env::var(name).ok())?;
    if call.command == Command::Version {
        return Ok(Some(json!({
            "cniVersion": answer_version(input),
            "supportedVersions": Version::ALL,
        })));
    }
    let config = NetworkConfig::parse(input)?;
    config.validate(call.command)?;
    if is_loopback {
        return loopback::run(&call, &config);
    }
    client::call(&Request::new(call, config))
}

/// The version that the caller wrote, so that it can read the answer whatever became of its call.
fn answer_version(input: &[u8]) -> String {
    serde_json::from_slice::<Value>(input)
        .ok()
        .and_then(|config| config.get("cniVersion")?.as_str().map(str::to_owned))
        .filter(|version| !version.is_empty())
        .unwrap_or_else(|| Version::V1_0_0.to_string())
}

fn print(value: &Value, code: ExitCode) -> ExitCode {
    match writeln!(io::stdout(), "{value}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Started by hand.
fn explain() -> ExitCode {
    eprintln!(
        "ripstop-cni {}: a CNI plugin, started by the container runtime; it speaks CNI {}",
        env!("CARGO_PKG_VERSION"),
        Version::ALL.map(Version::as_str).join(", ")
    );
    ExitCode::SUCCESS
}
