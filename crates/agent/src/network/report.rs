//! What the plugin is told: results, and errors with the specification's codes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cni::{AddResult, Code, Error, Interface, Ip, Route};
use ipnet::IpNet;
use model::{Attachment, AttachmentId};
use plan::{Object, Part, PodEnd, Veth};

use crate::ipam;

/// What ADD tells the runtime: exactly what was planned.
pub(super) fn result(part: &Part) -> AddResult {
    let veths = part.objects.iter().filter_map(|object| match object {
        Object::Veth(veth) => Some(veth),
        _ => None,
    });
    let mut result = AddResult::default();
    for veth in veths {
        add_link(&mut result, veth);
    }
    result
}

fn add_link(result: &mut AddResult, veth: &Veth) {
    let pod: &PodEnd = &veth.pod;
    result.interfaces.push(Interface {
        name: veth.name.clone(),
        mac: veth.mac.to_string(),
        mtu: Some(veth.mtu),
        sandbox: None,
    });
    let interface = Some(result.interfaces.len());
    result.interfaces.push(Interface {
        name: pod.name.clone(),
        mac: pod.mac.to_string(),
        mtu: Some(veth.mtu),
        sandbox: Some(pod.netns.clone()),
    });
    let gateway = |address: &IpNet| {
        let mut gateways = pod.neighbours.iter().map(|neighbour| neighbour.address);
        gateways.find(|gateway| gateway.is_ipv4() == address.addr().is_ipv4())
    };
    result.ips.extend(pod.addresses.iter().map(|address| Ip {
        interface,
        address: *address,
        gateway: gateway(address),
    }));
    result.routes.extend(pod.routes.iter().map(|route| {
        let gw = match &route.to {
            plan::NextHop::Via { gateway, .. } => Some(*gateway),
            plan::NextHop::OnLink { gateway, .. } => Some(*gateway),
            plan::NextHop::Link(_) | plan::NextHop::Unreachable => None,
        };
        Route {
            dst: route.destination,
            gw,
        }
    }));
}

/// Whether the runtime still has the addresses that we have for it.
pub(super) fn compare(attachment: &Attachment, previous: &AddResult) -> Result<(), Error> {
    let told: BTreeSet<IpAddr> = previous.ips.iter().map(|ip| ip.address.addr()).collect();
    match attachment
        .addresses
        .iter()
        .find(|address| !told.contains(address))
    {
        None => Ok(()),
        Some(address) => Err(Error::new(
            Code::CheckFailed,
            format!(
                "pod {} has {address} here, and prevResult doesn't: delete the pod to have it made anew",
                attachment.pod
            ),
        )),
    }
}

/// What of a part CHECK answers for: a plugin that came later may have changed the pod's routes, and
/// then the result that the runtime has doesn't list ours.
pub(super) fn listed(mut part: Part, previous: &AddResult) -> Part {
    part.objects = part
        .objects
        .into_iter()
        .map(|object| match object {
            Object::Veth(mut veth) => {
                let is_listed = |route: &plan::Route| {
                    previous
                        .routes
                        .iter()
                        .any(|listed| listed.dst == route.destination)
                };
                veth.pod.routes.retain(is_listed);
                Object::Veth(veth)
            }
            object => object,
        })
        .collect();
    part
}

/// A failure of ours, for the runtime.
pub(super) fn failure(error: super::Error) -> Error {
    let code = match &error {
        super::Error::Ipam(ipam::Error::NoAddress(_) | ipam::Error::PortTaken { .. })
        | super::Error::Ending => Code::TryAgainLater,
        super::Error::Kernel(_) => Code::Kernel,
        _ => Code::Io,
    };
    Error::new(code, error.to_string())
}

/// A refusal of the kernel's, for the runtime. A namespace that isn't there is a container that
/// ended meanwhile.
pub(super) fn refusal(error: &kernel::Error, id: &AttachmentId) -> Error {
    match error {
        kernel::Error::Netns { .. } if error.is_not_found() => Error::new(
            Code::UnknownContainer,
            format!("container {} has ended: {error}", id.container),
        ),
        _ => Error::new(Code::Kernel, format!("{id}: {error}")),
    }
}
