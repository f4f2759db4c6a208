//! Programs on a link where the kernel has no tcx: as filters of the link's clsact queue.
//!
//! Ours has one place on each side, a priority and a handle of its own, and its program's name. A
//! program that leaves a packet to whoever comes next says `TC_ACT_UNSPEC`, with which the kernel goes
//! on to the next filter, as tcx does to the next program.
//!
//! The queue stays when our filter goes, even if it's empty: others may put theirs on it at any time,
//! the kernel can't be asked to delete it only if nobody has, and all filters go with it. Without
//! filters it does nothing, and it goes with its link.

use std::os::fd::AsRawFd;

use bpf_abi::program::PREFIX;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE};
use nft::wire;
use nix::net::if_::if_indextoname;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use super::attach::Program;
use super::sys::Side;
use crate::direct::{Direct, Message};
use crate::netlink::serialize;
use crate::qdisc::{OURS, message_at};
use crate::{Error, Result};

const CLSACT: &str = "clsact";
/// The number of every clsact queue.
const QUEUE: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};
/// What our filters are known by beside others of the same priority.
const HANDLE: TcHandle = TcHandle {
    major: 0,
    minor: OURS,
};
/// After what others place by hand, before what the kernel places.
const PRIORITY: u16 = OURS;
/// `ETH_P_ALL`
const ALL_PROTOCOLS: u16 = 3;
/// `RTM_NEWQDISC`
const NEW_QUEUE: u16 = 36;
/// `RTM_NEWTFILTER`
const NEW_FILTER: u16 = 44;
/// `struct tcmsg`
const HEADER: usize = 20;
const HANDLE_AT: usize = 8;
const INFO_AT: usize = 16;
/// `TCA_KIND`
const KIND: u16 = 1;
/// `TCA_OPTIONS`
const OPTIONS: u16 = 2;
/// `TCA_BPF_NAME`
const NAME: u16 = 7;
/// `TCA_BPF_ID`
const ID: u16 = 11;

/// Ids of our programs on one side of a link of the calling thread's namespace: one at most.
pub(super) fn ours(link: u32, side: Side) -> Result<Vec<u32>> {
    let request = RouteNetlinkMessage::GetTrafficFilter(filter(link, side));
    let what = format!("read the filters of link {link}");
    Direct::route()?.dump(&serialize(request, NLM_F_DUMP), &what, our_program)
}

/// Puts a program on one side of a link of the calling thread's namespace; `replaced` says that one of
/// ours is there, whose place it takes in one step. What isn't ours is never replaced.
pub(super) fn attach(link: u32, side: Side, program: &Program, replaced: bool) -> Result<()> {
    let netlink = Direct::route()?;
    if !replaced {
        ensure_queue(&netlink, link)?;
    }
    let mut message = filter(link, side);
    message
        .attributes
        .push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    let options = [
        TcFilterBpfOption::ProgFd(program.fd.as_raw_fd().cast_unsigned()),
        TcFilterBpfOption::ProgName(program.name.clone()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    let options = options.map(TcOption::Bpf).into();
    message.attributes.push(TcAttribute::Options(options));
    let how = if replaced { NLM_F_REPLACE } else { NLM_F_EXCL };
    let request = RouteNetlinkMessage::NewTrafficFilter(message);
    let what = format!("put {} on link {link} as filter {PRIORITY}", program.name);
    run(&netlink, request, NLM_F_CREATE | how, &what).map_err(unsupported)
}

/// Takes our program off one side of a link of the calling thread's namespace.
pub(super) fn detach(link: u32, side: Side) -> Result<()> {
    let mut message = filter(link, side);
    message
        .attributes
        .push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    let request = RouteNetlinkMessage::DelTrafficFilter(message);
    let what = format!("delete filter {PRIORITY} of link {link}");
    run(&Direct::route()?, request, 0, &what)
}

/// Gives a link the queue unless it's there.
fn ensure_queue(netlink: &Direct, link: u32) -> Result<()> {
    let mut message = message_at(link, TcHandle::CLSACT, QUEUE);
    message.attributes.push(TcAttribute::Kind(CLSACT.to_owned()));
    let request = RouteNetlinkMessage::NewQueueDiscipline(message.clone());
    let what = format!("give link {link} a clsact queue");
    match run(netlink, request, NLM_F_CREATE | NLM_F_EXCL, &what) {
        Err(error) if error.is_exists() => {}
        result => return result.map_err(unsupported),
    }
    // An ingress queue has the same number and knows no egress: it would take both sides' filters for
    // ingress.
    message.attributes.clear();
    let request = RouteNetlinkMessage::GetQueueDiscipline(message);
    let what = format!("read the queue of link {link}");
    let kinds = netlink.execute(&serialize(request, NLM_F_ACK | NLM_F_ECHO), &what, queue_kind)?;
    match kinds.into_iter().next() {
        Some(kind) if kind != CLSACT => {
            let name = if_indextoname(link).ok();
            let name = name.and_then(|name| name.into_string().ok());
            Err(Error::NoClsact {
                link: name.unwrap_or_else(|| format!("#{link}")),
                kind,
            })
        }
        _ => Ok(()),
    }
}

fn run(netlink: &Direct, request: RouteNetlinkMessage, flags: u16, what: &str) -> Result<()> {
    let request = serialize(request, NLM_F_ACK | flags);
    netlink.execute(&request, what, |_| None::<()>).map(drop)
}

/// Where our filter is, or will be.
fn filter(link: u32, side: Side) -> TcMessage {
    let minor = match side {
        Side::Ingress => TcHandle::MIN_INGRESS,
        Side::Egress => TcHandle::MIN_EGRESS,
    };
    let parent = TcHandle {
        major: u16::MAX,
        minor,
    };
    let mut message = message_at(link, parent, HANDLE);
    message.header.info = info();
    message
}

/// `tcm_info` of our filters.
fn info() -> u32 {
    u32::from(PRIORITY) << 16 | u32::from(ALL_PROTOCOLS.to_be())
}

/// The id of a filter's program, if it's ours.
fn our_program(message: &Message<'_>) -> Option<u32> {
    let word = |at: usize| {
        let bytes = message.body.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    let is_there = word(HANDLE_AT)? == u32::from(HANDLE) && word(INFO_AT)? == info();
    if message.kind != NEW_FILTER || !is_there {
        return None;
    }
    let attributes = message.body.get(HEADER..)?;
    let options = wire::find(attributes, OPTIONS)?;
    let is_ours = wire::string(wire::find(attributes, KIND)?) == TcFilterBpf::KIND
        && wire::string(wire::find(options, NAME)?).starts_with(PREFIX);
    let id = wire::find(options, ID).filter(|_| is_ours)?;
    Some(u32::from_ne_bytes(id.try_into().ok()?))
}

fn queue_kind(message: &Message<'_>) -> Option<String> {
    let attributes = message.body.get(HEADER..)?;
    let kind = wire::find(attributes, KIND).filter(|_| message.kind == NEW_QUEUE)?;
    Some(wire::string(kind))
}

/// That something isn't there means the kind of queue or filter: of a link, the kernel says that
/// there's no such device.
fn unsupported(error: Error) -> Error {
    match error {
        Error::Refused { errno, .. } if errno == libc::ENOENT => Error::BpfRefused(error.to_string()),
        error => error,
    }
}
