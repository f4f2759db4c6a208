//! What leads to another node's pods: routes by the [`Way`] to it.

use ipnet::IpNet;
use model::Node;

use crate::base::SetName;
use crate::tunnel::Overlay;
use crate::way::{Way, Ways};
use crate::{Fdb, Forward, Neighbour, NextHop, NodeAddress, Object, Part, Route};

/// The part for one other node.
pub(crate) fn peer(name: &str, node: &Node, ways: &Ways<'_>, overlay: &Overlay) -> Part {
    let mut part = Part::default();
    for address in &node.addresses {
        if overlay.is_used() {
            part.objects
                .insert(SetName::TunnelEnds.element(IpNet::from(*address)));
        }
        part.objects.insert(Object::NodeAddress(NodeAddress {
            address: *address,
            own: false,
        }));
        // Only who is on this link answers a pod by the way that it was asked: whatever lies
        // between other nodes may know nothing of pods, so they see this node's address.
        if ways.is_direct(*address) {
            part.objects.insert(SetName::Nodes.element(IpNet::from(*address)));
        }
    }
    for net in ways.blocks_of(name) {
        part.objects.insert(SetName::Pods.element(net));
        match ways.to(name, node, net) {
            Ok(way) => part.objects.extend(objects(net, way)),
            Err(reason) => {
                // Refused here rather than sent to the default route, where pods' addresses mean
                // nothing, or something else.
                part.notes.push(format!("{net} is unreachable: {reason}"));
                part.objects.insert(Object::Route(Route {
                    destination: net,
                    to: NextHop::Unreachable,
                    source: None,
                    mtu: None,
                }));
            }
        }
    }
    part
}

fn objects(net: IpNet, way: Way) -> impl Iterator<Item = Object> {
    let shortcut = shortcut(net, &way);
    let tunnel = way.far_end.into_iter().flat_map(|end| {
        let fdb = Fdb {
            link: end.link.clone(),
            mac: end.mac,
            remote: end.remote,
        };
        let neighbour = Neighbour {
            link: end.link,
            address: end.gateway,
            mac: end.mac,
        };
        [Object::Fdb(fdb), Object::Neighbour(neighbour)]
    });
    let route = Route {
        destination: net,
        to: way.to,
        source: way.source,
        mtu: (way.mtu < way.link_mtu).then_some(way.mtu),
    };
    tunnel.chain(shortcut).chain([Object::Route(route)])
}

/// The same for our programs, which must be on the link too.
fn shortcut(net: IpNet, way: &Way) -> Vec<Object> {
    let (NextHop::Via { gateway, link } | NextHop::OnLink { gateway, link }) = &way.to else {
        return Vec::new();
    };
    // A next hop of the other family is the network stack's to know.
    if gateway.is_ipv4() != net.addr().is_ipv4() {
        return Vec::new();
    }
    let forward = Forward {
        destination: net,
        gateway: *gateway,
        link: link.clone(),
        mtu: way.mtu,
    };
    vec![Object::Wire(link.clone()), Object::Forward(forward)]
}
