//! VXLAN links: made, read, changed.

use std::net::IpAddr;

use model::{MacAddr, Vxlan};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo,
    LinkMessage, VxlanDf,
};

use crate::{Netlink, Result};

/// What a VXLAN link is like, beside what every link has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VxlanLink {
    /// Network identifier and port.
    pub vxlan: Vxlan,
    /// The source of what it sends; the kernel's choice if none.
    pub local: Option<IpAddr>,
    /// Where frames go that no entry is about.
    pub group: Option<IpAddr>,
    /// Whether it learns from what it receives.
    pub learning: bool,
    /// Whether what it sends may not be fragmented on the way.
    pub dont_fragment: bool,
}

/// A VXLAN link to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewVxlan<'a> {
    /// Name.
    pub name: &'a str,
    /// Ethernet address.
    pub address: MacAddr,
    /// Largest packet inside.
    pub mtu: u32,
    /// Network identifier and port.
    pub vxlan: Vxlan,
    /// The source of what it sends.
    pub local: IpAddr,
}

impl VxlanLink {
    pub(crate) fn parse(data: &[InfoVxlan]) -> VxlanLink {
        let mut link = VxlanLink::default();
        for info in data {
            match info {
                InfoVxlan::Id(vni) => link.vxlan.vni = *vni,
                InfoVxlan::Port(port) => link.vxlan.port = *port,
                InfoVxlan::Local(address) => link.local = Some((*address).into()),
                InfoVxlan::Local6(address) => link.local = Some((*address).into()),
                InfoVxlan::Group(address) => link.group = Some((*address).into()),
                InfoVxlan::Group6(address) => link.group = Some((*address).into()),
                InfoVxlan::Learning(on) => link.learning = *on,
                InfoVxlan::Df(df) => link.dont_fragment = *df == VxlanDf::Set,
                _ => {}
            }
        }
        link
    }
}

impl Netlink {
    /// Makes a VXLAN link, down. It learns nothing and has no group: frames that no entry of its
    /// forwarding database is about are dropped. Its packets have UDP checksums in both families
    /// (over IPv6 those without one aren't taken) and aren't fragmented by routers: it's for the
    /// sender to know what the path carries.
    pub async fn add_vxlan(&self, new: &NewVxlan<'_>) -> Result<()> {
        let mut data = vec![
            InfoVxlan::Id(new.vxlan.vni),
            InfoVxlan::Port(new.vxlan.port),
            InfoVxlan::Learning(false),
            InfoVxlan::UDPCsum(true),
            InfoVxlan::UDPZeroCsumTX(false),
            InfoVxlan::UDPZeroCsumRX(false),
            local(new.local),
        ];
        // In IPv6 routers never fragment.
        data.extend(new.local.is_ipv4().then_some(InfoVxlan::Df(VxlanDf::Set)));
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(new.name.to_owned()),
            LinkAttribute::Address(new.address.0.to_vec()),
            LinkAttribute::Mtu(new.mtu),
            info(data),
        ];
        self.new_link(message, || format!("create the tunnel {}", new.name))
            .await
    }

    /// Gives a VXLAN link another source; of the same family.
    pub async fn set_vxlan_local(&self, index: u32, address: IpAddr) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(info(vec![local(address)]));
        self.execute(RouteNetlinkMessage::NewLink(message), 0, || {
            format!("change the source of tunnel {index} to {address}")
        })
        .await
    }

    /// Keeps the kernel from giving a link an IPv6 address of its own.
    pub(crate) async fn no_link_local(&self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message
            .attributes
            .push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]));
        self.execute(RouteNetlinkMessage::SetLink(message), 0, || {
            format!("change link {index}")
        })
        .await
    }
}

fn local(address: IpAddr) -> InfoVxlan {
    match address {
        IpAddr::V4(address) => InfoVxlan::Local(address),
        IpAddr::V6(address) => InfoVxlan::Local6(address),
    }
}

fn info(data: Vec<InfoVxlan>) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(data)),
    ])
}
