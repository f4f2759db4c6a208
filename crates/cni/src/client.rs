//! The plugin's side of the exchange with the agent.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Code, Error};
use crate::wire::{MESSAGE_MAX, Request, Response};

/// How long to sleep between attempts to reach an agent that doesn't listen.
const RETRY: Duration = Duration::from_millis(20);

/// How one attempt ended without an answer.
enum Failed {
    /// Nobody listens: trying again can help.
    Absent(io::Error),
    /// The agent was there and went away: trying again can help.
    Broken(io::Error),
    /// The agent is there and didn't answer in time.
    Silent,
    /// Trying again can't help.
    Final(Error),
}

/// Sends `request` and returns the agent's answer.
///
/// An agent that restarts is waited for, and a request whose connection broke is sent again: every
/// command is idempotent.
pub fn call(request: &Request) -> Result<Option<Value>, Error> {
    let socket = request.config.socket()?;
    let patience = request.config.connect_timeout();
    let deadline = Instant::now() + request.config.answer_timeout();
    let body = serde_json::to_vec(request)
        .map_err(|error| Error::new(Code::Decode, format!("the request can't be written: {error}")))?;

    let mut absent_since = Instant::now();
    loop {
        match exchange(socket, &body, deadline) {
            Ok(response) => return response.into(),
            Err(Failed::Final(error)) => return Err(error),
            Err(Failed::Silent) => {
                return Err(Error::new(
                    Code::TryAgainLater,
                    format!(
                        "the ripstop agent took the call on {} and didn't answer in {:?}: see the agent's log",
                        socket.display(),
                        request.config.answer_timeout()
                    ),
                ));
            }
            Err(Failed::Absent(error)) if absent_since.elapsed() >= patience => {
                return Err(absent(socket, patience, &error));
            }
            Err(Failed::Absent(error) | Failed::Broken(error)) if Instant::now() >= deadline => {
                return Err(absent(socket, request.config.answer_timeout(), &error));
            }
            Err(Failed::Absent(_)) => thread::sleep(RETRY),
            Err(Failed::Broken(_)) => {
                // Its absence starts now, however long the call has been under way.
                absent_since = Instant::now();
                thread::sleep(RETRY);
            }
        }
    }
}

fn absent(socket: &Path, patience: Duration, error: &io::Error) -> Error {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket",
        io::ErrorKind::ConnectionRefused => "nobody listens",
        _ => "the connection broke",
    };
    Error::new(
        Code::TryAgainLater,
        format!(
            "the ripstop agent didn't answer on {} for {patience:?} ({why}): it may be restarting; \
             if this stays, see that it runs and what its log says",
            socket.display()
        ),
    )
    .with_details(error.to_string())
}

fn exchange(socket: &Path, body: &[u8], deadline: Instant) -> Result<Response, Failed> {
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Failed::Final(Error::new(
            Code::InvalidConfig,
            format!(
                "`socket` {} in the network configuration isn't a usable socket path: {error}",
                socket.display()
            ),
        )),
        io::ErrorKind::PermissionDenied => Failed::Final(Error::new(
            Code::Io,
            format!(
                "no permission to reach the ripstop agent on {}: run as root",
                socket.display()
            ),
        )),
        _ => Failed::Absent(error),
    })?;
    let left = deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1));
    stream.set_write_timeout(Some(left)).map_err(Failed::Broken)?;
    stream.set_read_timeout(Some(left)).map_err(Failed::Broken)?;
    stream.write_all(body).map_err(interrupted)?;
    stream.shutdown(Shutdown::Write).map_err(interrupted)?;
    let mut answer = Vec::new();
    stream
        .take(MESSAGE_MAX)
        .read_to_end(&mut answer)
        .map_err(interrupted)?;
    match serde_json::from_slice(&answer) {
        Ok(response) => Ok(response),
        // Cut short: the agent was stopped while it worked on the call.
        Err(error) if error.is_eof() => Err(Failed::Broken(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(Failed::Final(Error::new(
            Code::Decode,
            format!("the ripstop agent's answer can't be read: {error}"),
        ))),
    }
}

fn interrupted(error: io::Error) -> Failed {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failed::Silent,
        _ => Failed::Broken(error),
    }
}
