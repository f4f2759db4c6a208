//! Links: read, make, change.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use model::MacAddr;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, State,
};

use crate::vxlan::VxlanLink;
use crate::{Error, NetNs, Netlink, Result};

/// A link as the kernel shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Index, unique in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `veth`, `bridge` …; empty for real devices and loopback.
    pub kind: String,
    /// Ethernet address, if it has one.
    pub address: Option<MacAddr>,
    /// Largest packet.
    pub mtu: u32,
    /// Whether it's set up (which says nothing about the carrier).
    pub up: bool,
    /// Whether it sends and receives: it's up, has a carrier, and the kernel has taken note of it.
    pub running: bool,
    /// Index of the bridge it's a port of.
    pub master: Option<u32>,
    /// Index of the veth pair's other end, in that end's namespace.
    pub peer: Option<u32>,
    /// The note that somebody attached to it.
    pub alias: Option<String>,
    /// Kind of the queue at its root.
    pub qdisc: String,
    /// What kind of tunnel it is, if it's VXLAN.
    pub vxlan: Option<VxlanLink>,
}

/// One end of a veth pair to be made.
#[derive(Debug, Clone, Default)]
pub struct VethEnd<'a> {
    /// Name.
    pub name: &'a str,
    /// Ethernet address; the kernel's choice if none.
    pub address: Option<MacAddr>,
    /// Largest packet; 1500 if none.
    pub mtu: Option<u32>,
    /// The namespace it's born in; the connection's own if none.
    pub netns: Option<&'a NetNs>,
    /// Bridge that it becomes a port of, by index. Only for the near end.
    pub master: Option<u32>,
    /// Whether it's set up at once. Only for the near end: the kernel refuses to set up the far one
    /// before the pair is whole.
    pub up: bool,
}

/// What to change about a link; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct LinkChange<'a> {
    /// New name; the link must be down.
    pub name: Option<&'a str>,
    /// New Ethernet address.
    pub address: Option<MacAddr>,
    /// Largest packet.
    pub mtu: Option<u32>,
    /// The bridge to become a port of, by index; 0 leaves the bridge.
    pub master: Option<u32>,
    /// Up or down.
    pub up: Option<bool>,
    /// A note for people, as in `ip link set alias`.
    pub alias: Option<&'a str>,
    /// Whether the kernel makes an IPv6 link-local address when the link comes up.
    pub ipv6_link_local: Option<bool>,
}

impl Netlink {
    /// All links.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let objects = self
            .dump(RouteNetlinkMessage::GetLink(message), || "list links".into())
            .await?;
        Ok(objects.into_iter().filter_map(parse).collect())
    }

    /// The link of that name, if there is one.
    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        match self
            .get(RouteNetlinkMessage::GetLink(message), || {
                format!("read link {name}")
            })
            .await
        {
            Ok(object) => Ok(parse(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The index of the link of that name; an error if there is none.
    pub async fn link_index(&self, name: &str) -> Result<u32> {
        let link = self.link(name).await?;
        link.map(|link| link.index)
            .ok_or_else(|| Error::NoLink(name.to_owned()))
    }

    /// Makes a bridge without spanning tree and without multicast snooping (which would swallow
    /// neighbour discovery while it learns), set up.
    pub async fn add_bridge(&self, name: &str) -> Result<()> {
        let data = InfoData::Bridge(vec![
            InfoBridge::ForwardDelay(0),
            InfoBridge::MulticastSnooping(false),
        ]);
        let mut message = LinkMessage::default();
        set_flag(&mut message, LinkFlags::Up, true);
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(data),
        ]));
        self.new_link(message, || format!("create bridge {name}")).await
    }

    /// Makes a veth pair, each end in its namespace from birth and with its final name: nothing is
    /// left half way if either end is refused.
    pub async fn add_veth(&self, near: &VethEnd<'_>, far: &VethEnd<'_>) -> Result<()> {
        let mut message = end(near);
        message
            .attributes
            .extend(near.master.map(LinkAttribute::Controller));
        let peer = InfoData::Veth(InfoVeth::Peer(end(far)));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(peer),
        ]));
        self.new_link(message, || {
            format!("create veth pair {} and {}", near.name, far.name)
        })
        .await
    }

    /// Changes a link.
    pub async fn set_link(&self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if let Some(up) = change.up {
            set_flag(&mut message, LinkFlags::Up, up);
        }
        let attributes = &mut message.attributes;
        attributes.extend(change.name.map(|name| LinkAttribute::IfName(name.to_owned())));
        attributes.extend(change.address.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.extend(change.mtu.map(LinkAttribute::Mtu));
        attributes.extend(change.master.map(LinkAttribute::Controller));
        attributes.extend(change.alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned())));
        attributes.extend(change.ipv6_link_local.map(|on| {
            let mode = if on {
                In6AddrGenMode::Eui64
            } else {
                In6AddrGenMode::None
            };
            LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)])])
        }));
        self.execute(RouteNetlinkMessage::SetLink(message), 0, || {
            format!("change link {index}: {change:?}")
        })
        .await
    }

    /// Sets a link up, by name.
    pub async fn set_up(&self, name: &str) -> Result<()> {
        let index = self.link_index(name).await?;
        self.set_link(
            index,
            &LinkChange {
                up: Some(true),
                ..LinkChange::default()
            },
        )
        .await
    }

    /// Waits until a link that was set up sends and receives. The kernel starts a link's queue some
    /// time after its carrier appears, and until then drops what is sent; of a veth pair that's the
    /// end that was set up first. Asking makes newer kernels (6.8) do it at once.
    pub async fn wait_running(&self, name: &str) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(5);
        const PAUSE: Duration = Duration::from_millis(1);
        let end = Instant::now() + PATIENCE;
        loop {
            match self.link(name).await? {
                Some(link) if link.running => return Ok(()),
                Some(_) if Instant::now() > end => return Err(Error::NotRunning(name.to_owned())),
                Some(_) => tokio::time::sleep(PAUSE).await,
                None => return Err(Error::NoLink(name.to_owned())),
            }
        }
    }

    pub(crate) async fn new_link(&self, message: LinkMessage, request: impl Fn() -> String) -> Result<()> {
        self.execute(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
            request,
        )
        .await
    }
}

fn end(end: &VethEnd<'_>) -> LinkMessage {
    let mut message = LinkMessage::default();
    if end.up {
        set_flag(&mut message, LinkFlags::Up, true);
    }
    let attributes = &mut message.attributes;
    attributes.push(LinkAttribute::IfName(end.name.to_owned()));
    attributes.extend(end.address.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    attributes.extend(end.mtu.map(LinkAttribute::Mtu));
    attributes.extend(
        end.netns
            .map(|netns| LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd())),
    );
    message
}

fn set_flag(message: &mut LinkMessage, flag: LinkFlags, on: bool) {
    message.header.flags.set(flag, on);
    message.header.change_mask |= flag;
}

fn parse(object: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = object else {
        return None;
    };
    let up = message.header.flags.contains(LinkFlags::Up);
    let mut link = Link {
        index: message.header.index,
        up,
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.address = bytes.try_into().ok().map(MacAddr),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::OperState(state) => link.running = state == State::Up,
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Qdisc(kind) => link.qdisc = kind,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = kind.to_string(),
                        LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan = Some(VxlanLink::parse(&data)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(link)
}
