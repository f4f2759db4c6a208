//! What can go wrong with the kernel, and what to do about it.

use std::io;
use std::path::PathBuf;

use netlink_packet_core::ErrorMessage;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the kernel couldn't be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a netlink request.
    #[error("cannot {request}: {reason}")]
    Refused {
        /// What was asked for, as in `create bridge br0`.
        request: String,
        /// The error number.
        errno: i32,
        /// The kernel's own words where it has any, otherwise the error number's.
        reason: String,
    },
    /// The netlink connection ended before the answer; its runtime was shut down or the socket broke.
    #[error("cannot {request}: the netlink connection ended before the kernel answered")]
    Disconnected {
        /// What was asked for.
        request: String,
    },
    /// A dump was disturbed by changes again and again.
    #[error("cannot {request}: it changed while being read, each of several times; try again")]
    Unsettled {
        /// What was asked for.
        request: String,
    },
    /// The kernel's answer couldn't be understood.
    #[error("cannot {request}: the kernel's answer is malformed: {reason}")]
    Malformed {
        /// What was asked for.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There's no link of that name in the namespace.
    #[error("there is no link {0:?} in this network namespace")]
    NoLink(String),
    /// A link was set up and got no carrier.
    #[error("link {0:?} is set up but does not run: is its other end there and up?")]
    NotRunning(String),
    /// An address was added and packets to it aren't taken in.
    #[error("address {0} was added but is not in use: does its link run?")]
    AddressUnused(std::net::IpAddr),
    /// There's a route to that destination which isn't ours.
    #[error("a route to {0} exists already that Ripstop did not make; remove it, or use other addresses")]
    RouteTaken(ipnet::IpNet),
    /// A link that isn't ours has the name of our end of tunnels.
    #[error(
        "there is a link {0:?} that Ripstop did not make; rename it: names that begin like this are Ripstop's"
    )]
    LinkTaken(String),
    /// Another tunnel has our network identifier.
    #[error(
        "cannot create the tunnel {name}: another VXLAN device here has the id {vni} on UDP port {port}; set network.vxlan.vni to another number on every node"
    )]
    VniTaken {
        /// Our end.
        name: String,
        /// The network identifier.
        vni: u32,
        /// The port.
        port: u16,
    },
    /// Something else listens on our tunnels' port.
    #[error(
        "cannot set the tunnel {name} up: UDP port {port} is taken, by a program or by a VXLAN device of another kind; set network.vxlan.port to another one on every node"
    )]
    TunnelPortTaken {
        /// Our end.
        name: String,
        /// The port.
        port: u16,
    },
    /// The pod's namespace already has an interface of that name which isn't ours.
    #[error(
        "{netns} already has an interface {interface:?} that Ripstop did not make; remove it, or choose another name"
    )]
    InterfaceTaken {
        /// The namespace's path.
        netns: String,
        /// The interface's name.
        interface: String,
    },
    /// A link that should be held to a rate has a queue of somebody else's.
    #[error(
        "link {link} has a {kind} queue that Ripstop did not make: remove it (tc qdisc del dev {link} root), or leave the pod's bandwidth annotations out"
    )]
    QueueTaken {
        /// The link's name.
        link: String,
        /// The queue's kind.
        kind: String,
    },
    /// A link that should carry our programs has somebody else's queue where theirs must be.
    #[error(
        "link {link} has a queue of kind {kind} that Ripstop did not make, where its programs need clsact: remove it (tc qdisc del dev {link} {kind}), or run Linux 6.6 or newer, which needs no queue"
    )]
    NoClsact {
        /// The link's name.
        link: String,
        /// The queue's kind.
        kind: String,
    },
    /// There are more endpoints of Services than ids.
    #[error("there are more endpoints of Services than a node can tell apart: 1048575")]
    TooManyBackends,
    /// Our table doesn't lead to Services' endpoints.
    #[error("Services' endpoints aren't among the translations: {0}")]
    Untranslated(String),
    /// No link carries the node's address.
    #[error(
        "no link of this network namespace carries the node address {0}; is it the node's InternalIP, and is its link up?"
    )]
    NoUplink(std::net::IpAddr),
    /// A namespace couldn't be opened, made or entered.
    #[error("cannot {action} network namespace {path}: {source}")]
    Netns {
        /// What was tried.
        action: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A sysctl couldn't be read or written.
    #[error("cannot {action} sysctl {key}: {source}")]
    Sysctl {
        /// `read` or `write`.
        action: &'static str,
        /// Its path below `/proc/sys`.
        key: String,
        /// Why not.
        source: io::Error,
    },
    /// The kernel wouldn't take our programs.
    #[error(
        "the kernel refused the BPF programs: {0}; Ripstop needs root, and Linux with CONFIG_BPF_SYSCALL and either CONFIG_NET_XGRESS (6.6 or newer) or CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF (5.10 or newer)"
    )]
    BpfRefused(String),
    /// Something about a program or a map failed.
    #[error("cannot {action}: {reason}")]
    Bpf {
        /// What was tried.
        action: String,
        /// The error number, if the kernel gave one.
        errno: Option<i32>,
        /// Why not.
        reason: String,
    },
    /// There is no control group for programs on sockets.
    #[error(
        "Services can't be translated at sockets: no cgroup2 hierarchy is mounted; mount it: `mount -t cgroup2 none /sys/fs/cgroup`, or beside cgroups of version 1 at /sys/fs/cgroup/unified"
    )]
    NoCgroup2,
    /// There's no place for pins.
    #[error("cannot keep BPF programs in {dir}: {source}; it must be, or be allowed to become, a mounted bpffs", dir = dir.display())]
    Pins {
        /// The folder.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A socket couldn't be made or used.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// The error number, if the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused { errno, .. } => Some(*errno),
            Error::Netns { source, .. }
            | Error::Sysctl { source, .. }
            | Error::Pins { source, .. }
            | Error::Io { source, .. } => source.raw_os_error(),
            Error::Bpf { errno, .. } => *errno,
            _ => None,
        }
    }

    /// Whether the thing to create is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// Whether the thing to read or remove isn't there.
    pub fn is_not_found(&self) -> bool {
        const GONE: [i32; 4] = [libc::ENOENT, libc::ENODEV, libc::ESRCH, libc::EADDRNOTAVAIL];
        matches!(self, Error::NoLink(_)) || self.errno().is_some_and(|errno| GONE.contains(&errno))
    }

    /// Something about a program or a map failed, for a reason that is the system's at its root.
    pub(crate) fn bpf(action: impl Into<String>, reason: &(dyn std::error::Error + 'static)) -> Error {
        let (mut texts, mut errno, mut cause) = (Vec::<String>::new(), None, Some(reason));
        while let Some(error) = cause {
            let text = error.to_string();
            // Transparent errors say what their causes do.
            if texts.last() != Some(&text) {
                texts.push(text);
            }
            errno = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::raw_os_error)
                .or(errno);
            cause = error.source();
        }
        Error::Bpf {
            action: action.into(),
            errno,
            reason: texts.join(": "),
        }
    }

    /// A refusal, with the kernel's own words if the answer carries them.
    pub(crate) fn refused(request: String, answer: &ErrorMessage) -> Error {
        Error::refused_with(request, answer.raw_code().abs(), &answer.header)
    }

    /// A refusal by number; `answer` is what follows the number, with the kernel's own words if any.
    pub(crate) fn refused_with(request: String, errno: i32, answer: &[u8]) -> Error {
        let number = io::Error::from_raw_os_error(errno);
        let reason =
            extended_ack(answer).map_or_else(|| number.to_string(), |words| format!("{words} ({number})"));
        Error::Refused {
            request,
            errno,
            reason,
        }
    }
}

/// The text (`NLMSGERR_ATTR_MSG`) among the attributes that follow the echoed request header.
fn extended_ack(answer: &[u8]) -> Option<String> {
    const HEADER: usize = 16;
    const TEXT: u16 = 1;
    let attributes = answer.get(HEADER..)?;
    let (_, text) = nft::wire::attributes(attributes)
        .flatten()
        .find(|(kind, _)| *kind == TEXT)?;
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    Some(String::from_utf8_lossy(text).into_owned())
}
