//! `toolbox`: the one helper in the image `localhost/ripstop/toolbox:1`.
//!
//! ```text
//! toolbox serve          HTTP on 8080, TCP and UDP echo on 9000; PID 1 of a pod
//! toolbox get|download   HTTP client; verifies what `serve` sends
//! toolbox tcp|udp        one connection or datagram, echoed
//! toolbox mtu            what a path carries, and whether it says so when that is less
//! toolbox load           a steady stream of requests: failures and latencies
//! toolbox flood          as much as gets through, counted where it arrives
//! ```
//!
//! Tests, `ripstop check` and the README's first walk use it, so its output is
//! exact, its exit codes are distinct, and nothing in it waits for ever. It is
//! linked statically: any image can hold it.

mod answer;
mod args;
mod client;
mod clock;
mod converse;
mod download;
mod drain;
mod echo;
mod failure;
mod flood;
mod get;
mod head;
mod load;
mod mtu;
mod pattern;
mod probe;
mod reply;
mod serve;
mod signals;
mod sink;
mod wire;

use std::process::ExitCode;

use failure::Failure;

const HELP: &str = "\
The toolbox: a small server and client for looking at networks.

Usage: toolbox COMMAND [OPTIONS]

Commands:
  serve     answer HTTP on 8080 and echo TCP and UDP on 9000
  get       fetch URLs over HTTP and print what they answer
  download  fetch one large URL; show progress, verify every byte
  tcp       connect to HOST PORT; send TEXT and expect it back
  udp       send TEXT to HOST PORT and expect it back
  mtu       find the largest packet that gets whole to ADDRESS:PORT
  load      request a URL at a steady rate; report failures and latencies
  flood     send as much as gets through; report what arrived

`toolbox COMMAND --help` tells the rest.

Exit codes of the clients:
  0 as asked   1 something else   2 wrong arguments   3 name not found
  4 refused    5 timed out        6 no route          7 cut off
  8 HTTP status 400 or above      9 wrong content
";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    let done = match command.as_str() {
        "serve" => serve::command(&rest),
        "get" => get::command(&rest),
        "download" => download::command(&rest),
        "mtu" => mtu::command(&rest),
        "tcp" => probe::tcp(&rest),
        "udp" => probe::udp(&rest),
        "load" => load::command(&rest),
        "flood" => flood::command(&rest),
        "help" | "--help" | "-h" => Err(Failure::Help(HELP)),
        "--version" | "-V" => {
            println!("toolbox {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        "" => Err(Failure::Usage(
            "a command is missing; `toolbox --help` lists them".into(),
        )),
        other => Err(Failure::Usage(format!(
            "there is no command `{other}`; `toolbox --help` lists them"
        ))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Help(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        // The command has reported it already, in its own form.
        Err(Failure::Reported(code)) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("toolbox: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
