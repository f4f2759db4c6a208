//! This node's ends of the tunnels to other nodes, one for each family of the network between them
//! that is used.

use std::net::IpAddr;

use crate::way::{Underlay, Ways};
use crate::{Object, Part, Sysctl, Tunnel};

/// What IPv6 needs of every link.
const IPV6_MIN_MTU: u32 = 1280;

/// Adds the tunnels to the base of the node's plan.
pub(crate) fn add(part: &mut Part, ways: &Ways<'_>) {
    for underlay in ways.underlays() {
        let uplink = &ways.facts.uplink;
        let own = uplink.addresses.iter().map(|net| net.addr());
        // There's a way over this family only if the node has such an address.
        let Some(local) = underlay.first(own) else {
            continue;
        };
        let tunnel = tunnel(underlay, local, ways);
        if tunnel.mtu < IPV6_MIN_MTU && tunnel.addresses.iter().any(IpAddr::is_ipv6) {
            part.notes.push(format!(
                "IPv6 between pods needs packets of {IPV6_MIN_MTU} bytes, and a tunnel over {} (MTU {}) carries {}: raise that link's MTU to {}",
                uplink.name,
                uplink.mtu,
                tunnel.mtu,
                IPV6_MIN_MTU + (uplink.mtu - tunnel.mtu)
            ));
        }
        part.objects.insert(Object::Tunnel(tunnel));
    }
}

fn tunnel(underlay: Underlay, local: IpAddr, ways: &Ways<'_>) -> Tunnel {
    let name = underlay.link();
    let addresses: Vec<IpAddr> = ways.tunnel_addresses().collect();
    Tunnel {
        name: name.to_owned(),
        mac: model::tunnel_mac(&ways.facts.name),
        mtu: ways.tunnel_mtu(underlay),
        vxlan: ways.snapshot.pod_network.vxlan,
        local,
        sysctls: sysctls(name, ways),
        addresses,
    }
}

/// What comes out of a tunnel has a source that leads back into it, and nothing there is a router.
fn sysctls(name: &str, ways: &Ways<'_>) -> Vec<Sysctl> {
    let own: Vec<_> = ways.blocks_of(&ways.facts.name).collect();
    let ipv6 = |setting: &str| format!("net/ipv6/conf/{name}/{setting}");
    let speaks = if own.iter().any(|block| block.addr().is_ipv6()) {
        Sysctl::new(ipv6("disable_ipv6"), "0")
    } else {
        Sysctl::where_there(ipv6("disable_ipv6"), "1")
    };
    vec![
        Sysctl::new(format!("net/ipv4/conf/{name}/rp_filter"), "1"),
        speaks,
        Sysctl::where_there(ipv6("accept_ra"), "0"),
    ]
}
