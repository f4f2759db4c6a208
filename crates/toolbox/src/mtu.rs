//! `toolbox mtu`: what a path carries, and whether it says so when that is less (crate `path-mtu`).

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use path_mtu::{Error, Found, Patience, Target, measure};
use serde_json::{Value, json};

use crate::args::{self, Args};
use crate::failure::Failure;

const HELP: &str = "\
Finds out the largest packet that gets whole to each ADDRESS:PORT, where a
server echoes UDP, or ADDRESS, whose kernel is asked by pings; and whether one
byte more is refused or lost. `toolbox serve` answers shortly, so that this is
about the way there alone; pings, and others' echoes, are about the way back,
too.

Usage: toolbox mtu [OPTIONS] ADDRESS[:PORT]...

  --timeout DURATION  for each try [500ms]
  --tries N           how often to send before it counts as lost [5]
  --json              print one line of JSON for each:
                      {to, link, link_mtu, carries, larger, error}

`larger` is `refused` (the sender is told), `lost` (it isn't) or `arrived`.
";

/// Runs `toolbox mtu`.
pub(crate) fn command(words: &[String]) -> Result<(), Failure> {
    let mut args = Args::new(words, HELP)?;
    let usual = Patience::default();
    let limit = args.option("--timeout", args::duration)?;
    let patience = Patience {
        limit: limit.unwrap_or(usual.limit).max(Duration::from_millis(1)),
        tries: args
            .option("--tries", args::number::<u32>)?
            .unwrap_or(usual.tries)
            .max(1),
    };
    let as_json = args.switch("--json");
    let targets = args.rest(1, 1000)?;
    let targets: Vec<Target> = targets
        .iter()
        .map(|text| target(text))
        .collect::<Result<_, _>>()?;
    // All at once: those that lose packets take their time.
    let found: Vec<Result<Found, Failure>> = thread::scope(|scope| {
        let one = |target: &Target| {
            let target = *target;
            scope.spawn(move || measure(target, patience).map_err(|error| failure(&error)))
        };
        let measured: Vec<_> = targets.iter().map(one).collect();
        let broken = |_| Err(Failure::Other("the measurement broke off".into()));
        measured
            .into_iter()
            .map(|measured| measured.join().unwrap_or_else(broken))
            .collect()
    });
    let mut code = 0;
    for (to, found) in targets.iter().zip(&found) {
        match found {
            Err(failure) => code = failure.code(),
            Ok(found) if found.carries.is_none() => code = Failure::TimedOut("").code(),
            Ok(_) => {}
        }
        if as_json {
            println!("{}", in_json(*to, found));
        } else {
            println!("{}", in_words(*to, found));
        }
    }
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::Reported(code))
    }
}

fn target(text: &str) -> Result<Target, Failure> {
    let echo = text.parse::<SocketAddr>().map(Target::Udp);
    let target = echo.or_else(|_| text.parse::<IpAddr>().map(Target::Ping));
    target.map_err(|_| {
        Failure::Usage(format!(
            "`{text}` is neither an address and a port, as 10.244.0.2:9000 or [fd00::2]:9000, nor an address"
        ))
    })
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Io { doing, source, .. } => Failure::from_io(source, doing),
        other => Failure::Other(other.to_string()),
    }
}

fn in_json(to: Target, found: &Result<Found, Failure>) -> Value {
    let to = to.to_string();
    match found {
        Ok(found) => json!({
            "to": to, "link": found.link, "link_mtu": found.link_mtu,
            "carries": found.carries, "larger": found.larger.name(),
        }),
        Err(failure) => json!({"to": to, "error": failure.to_string()}),
    }
}

fn in_words(to: Target, found: &Result<Found, Failure>) -> String {
    match found {
        Err(failure) => format!("{to}: {failure}"),
        Ok(Found { carries: None, .. }) => format!("{to}: nothing arrives"),
        Ok(Found {
            link,
            link_mtu,
            carries: Some(carries),
            larger,
        }) => {
            format!(
                "{to}: {carries} bytes by {link} (MTU {link_mtu}); larger ones are {}",
                larger.name()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use path_mtu::Fate;

    use super::*;

    #[test]
    fn what_is_found_is_said_in_words_and_in_json() {
        let to = target("10.244.0.2:9000").unwrap();
        let found = |carries, larger| {
            Ok(Found {
                link: "eth0".into(),
                link_mtu: 1500,
                carries,
                larger,
            })
        };
        assert_eq!(
            in_words(to, &found(Some(1450), Fate::Refused)),
            "10.244.0.2:9000: 1450 bytes by eth0 (MTU 1500); larger ones are refused"
        );
        assert_eq!(
            in_words(to, &found(None, Fate::Lost)),
            "10.244.0.2:9000: nothing arrives"
        );
        let json = in_json(to, &found(Some(1400), Fate::Lost));
        assert_eq!(json["carries"], 1400);
        assert_eq!(json["larger"], "lost");
        assert_eq!(in_json(to, &Err(Failure::Refused))["to"], "10.244.0.2:9000");
    }

    #[test]
    fn an_address_without_a_port_is_pinged() {
        assert_eq!(target("fd00::2"), Ok(Target::Ping("fd00::2".parse().unwrap())));
        assert_eq!(
            target("[fd00::2]:9000"),
            Ok(Target::Udp("[fd00::2]:9000".parse().unwrap()))
        );
        let refused = target("web:80").unwrap_err();
        assert!(
            refused.to_string().contains("neither an address and a port"),
            "{refused}"
        );
    }
}
