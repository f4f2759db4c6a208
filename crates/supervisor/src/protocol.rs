//! What is said on the supervisor's socket: one JSON object a line.
//!
//! A client sends one [`Request`]; the supervisor answers with [`Reply`]s, the last of which is
//! `status`, `done` or `failed`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::PodNetworkMode;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::network::IpFamily;
use crate::{Error, files};

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub enum Request {
    /// A [`Status`].
    Status,
    /// The steps of the start as they are done, until all are.
    Follow,
    /// Cut a node's power.
    StopNode {
        /// Which.
        node: String,
    },
    /// Give a node power again.
    StartNode {
        /// Which.
        node: String,
    },
    /// End the server and the agents in good order, and then the supervisor itself.
    Shutdown,
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// How things are.
    Status(Box<Status>),
    /// A step began or is done.
    Step(Step),
    /// It is done.
    Done,
    /// It isn't, and won't be.
    Failed(Failure),
}

/// One step of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What, as in `network` or `containerd node-1`.
    pub name: String,
    /// Milliseconds that it took; none while it goes on.
    pub millis: Option<u64>,
}

/// What went wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What.
    pub what: String,
    /// What to do.
    pub cure: String,
    /// The log that says more.
    pub log: Option<PathBuf>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            what: error.to_string(),
            cure: error.cure(),
            log: error.log().map(Path::to_owned),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Remote {
            what: failure.what,
            cure: failure.cure,
            log: failure.log,
        }
    }
}

/// How far the cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Some steps of the start aren't done.
    Starting,
    /// All are.
    Running,
    /// One failed.
    Failed,
    /// It is being shut down.
    Stopping,
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The cluster.
    pub name: String,
    /// The supervisor's version.
    pub version: String,
    /// How far it is.
    pub phase: Phase,
    /// Its families, as `--ip-family` names them. A supervisor of before there were families doesn't
    /// say: its clusters are IPv4.
    #[serde(default = "ipv4")]
    pub ip_family: String,
    /// The API.
    pub server: String,
    /// How pods of different nodes reach each other.
    #[serde(default)]
    pub pod_network: PodNetworkMode,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
    /// Its processes, the supervisor first.
    pub processes: Vec<ProcessStatus>,
    /// What somebody who wonders should know.
    pub notes: Vec<String>,
}

fn ipv4() -> String {
    IpFamily::Ipv4.flag().to_owned()
}

/// A node as the supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its addresses, the preferred family's first.
    #[serde(alias = "address", deserialize_with = "files::one_or_many")]
    pub addresses: Vec<String>,
    /// Whether it has power.
    pub state: NodeState,
}

/// Whether a node has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeState {
    /// It has.
    Running,
    /// It was stopped.
    Stopped,
}

/// A process that the supervisor looks after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// `supervisor`, `server`, `containerd NODE`, `dns NODE` or `agent NODE`.
    pub name: String,
    /// Its pid, while it runs.
    pub pid: Option<u32>,
    /// How it is.
    pub state: ProcessState,
    /// How often it was started again.
    pub restarts: u32,
    /// When it started or ended, in seconds since 1970.
    pub since: u64,
    /// How it ended the last time, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_end: Option<String>,
    /// Where it logs to.
    pub log: PathBuf,
}

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProcessState {
    /// It runs.
    Running,
    /// It ended, and is started again after a pause.
    Waiting,
    /// It isn't wanted.
    Stopped,
}

/// A conversation with a supervisor.
#[derive(Debug)]
pub struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    // Closing it would tell the supervisor that nobody listens any more.
    _writer: OwnedWriteHalf,
}

impl Client {
    /// Sends a request; `None` when no supervisor listens.
    ///
    /// # Errors
    /// When the socket breaks.
    pub async fn send(socket: &Path, request: &Request) -> Result<Option<Self>, Error> {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
            Err(error) => return Err(Error::Socket(error)),
        };
        let (reader, mut writer) = stream.into_split();
        writer.write_all(&line(request)).await.map_err(Error::Socket)?;
        Ok(Some(Self {
            lines: BufReader::new(reader).lines(),
            _writer: writer,
        }))
    }

    /// The next reply; `None` when the supervisor has closed.
    ///
    /// # Errors
    /// When the socket breaks, or what it says can't be understood.
    pub async fn next(&mut self) -> Result<Option<Reply>, Error> {
        let Some(line) = self.lines.next_line().await.map_err(Error::Socket)? else {
            return Ok(None);
        };
        let reply = serde_json::from_str(&line).map_err(|error| Error::Socket(error.into()))?;
        Ok(Some(reply))
    }

    /// Waits until it is done.
    ///
    /// # Errors
    /// When it failed, or the supervisor closed before it said so.
    pub async fn done(mut self) -> Result<(), Error> {
        loop {
            match self.next().await? {
                Some(Reply::Done) => return Ok(()),
                Some(Reply::Failed(failure)) => return Err(failure.into()),
                Some(Reply::Step(_) | Reply::Status(_)) => {}
                None => return Err(Error::Socket(std::io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

/// How things are; `None` when no supervisor listens, or it ends before it answers.
///
/// # Errors
/// When there is one, and it doesn't answer as it should.
pub async fn status(socket: &Path) -> Result<Option<Status>, Error> {
    let ask = async {
        let Some(mut client) = Client::send(socket, &Request::Status).await? else {
            return Ok(None);
        };
        match client.next().await? {
            Some(Reply::Status(status)) => Ok(Some(*status)),
            Some(_) => Err(Error::Socket(std::io::ErrorKind::InvalidData.into())),
            None => Ok(None),
        }
    };
    // The kernel takes connections for a process that is being killed, and cuts them off when it's gone.
    let ask = async {
        match ask.await {
            Err(Error::Socket(error)) if is_cut_off(&error) => Ok(None),
            answer => answer,
        }
    };
    let limit = Duration::from_secs(5);
    let timed_out = || Err(Error::Socket(std::io::ErrorKind::TimedOut.into()));
    tokio::time::timeout(limit, ask)
        .await
        .unwrap_or_else(|_| timed_out())
}

fn is_cut_off(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

/// A message and the end of its line.
pub(crate) fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("plain data becomes JSON");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_one_form_on_the_wire() {
        let request = Request::StopNode {
            node: "node-1".to_owned(),
        };
        assert_eq!(line(&request), b"{\"op\":\"stopNode\",\"node\":\"node-1\"}\n");
        let step = Reply::Step(Step {
            name: "network".to_owned(),
            millis: Some(7),
        });
        assert_eq!(line(&step), b"{\"step\":{\"name\":\"network\",\"millis\":7}}\n");
        assert_eq!(line(&Reply::Done), b"\"done\"\n");
    }

    #[tokio::test]
    async fn no_supervisor_is_no_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let socket = dir.path().join("socket");
        assert_eq!(status(&socket).await.expect("nobody there"), None);
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
        assert_eq!(status(&socket).await.expect("nobody there any more"), None);
    }

    #[tokio::test]
    async fn a_supervisor_that_dies_when_asked_is_none() {
        let dir = tempfile::tempdir().expect("a folder");
        let socket = dir.path().join("socket");
        let dying = tokio::net::UnixListener::bind(&socket).expect("bound");
        let hang_up = async {
            let (stream, _) = dying.accept().await.expect("a caller");
            // Closing with the question unread resets the connection, as a kill does.
            stream.readable().await.expect("the question");
        };
        let (answer, ()) = tokio::join!(status(&socket), hang_up);
        assert_eq!(answer.expect("none"), None);
    }
}
