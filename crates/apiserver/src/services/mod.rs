//! Services' addresses and node ports: who has which, and who gets the next.
//!
//! What a Service holds is written in it (`holds`). Everything held is a key of its own in the store as well, an
//! IPAddress object or a node port's claim, made and removed in the same transaction as the Service's change: so
//! no two Services ever hold the same, and no crash leaves anything held by nobody.
//!
//! ```text
//! Service ─► families ─► rules of the kind ─► claim (fills in what isn't chosen) ─► one transaction
//!                                                                    repair ─► what older versions or people left
//! ```

mod claim;
mod families;
mod holds;
mod own;
mod range;
mod repair;

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use kinds::Kind;
use serde_json::Value;

use crate::server::ApiServer;
use crate::status::Failure;

pub(crate) use claim::{claim, release};

/// What Services get.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The ranges of their addresses, one a family at most, the preferred one's first.
    pub ranges: Vec<IpNet>,
    /// Their ports on every node.
    pub node_ports: RangeInclusive<u16>,
    /// Where the server answers: the endpoints of the Service `kubernetes`. Without any there is no such Service,
    /// and none for the cluster's DNS.
    pub endpoints: Vec<SocketAddr>,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        ServiceConfig {
            ranges: vec![IpNet::new_assert([10, 96, 0, 0].into(), 16)],
            node_ports: 30_000..=32_767,
            endpoints: Vec::new(),
        }
    }
}

pub(crate) fn is_service(kind: &Kind) -> bool {
    (kind.group(), kind.plural()) == ("", "services")
}

/// Settles a Service's families before its rules are checked: they compare them with those of the old one.
pub(crate) fn settle(
    server: &ApiServer,
    kind: &Kind,
    old: Option<&Value>,
    service: &mut Value,
) -> Result<(), Failure> {
    if !is_service(kind) {
        return Ok(());
    }
    let configured = families::of_ranges(&server.services.ranges);
    let errors = families::settle(old.map(|old| &old["spec"]), &mut service["spec"], &configured);
    if errors.is_empty() {
        return Ok(());
    }
    let name = crate::object::text(service, "/metadata/name");
    Err(Failure::invalid(kind.kind(), kind.group(), name, &errors))
}

impl ApiServer {
    fn ip_addresses(&self) -> &'static Kind {
        kinds::find("networking.k8s.io", "v1", "ipaddresses").expect("the table has IPAddress")
    }

    fn service_cidrs(&self) -> &'static Kind {
        kinds::find("networking.k8s.io", "v1", "servicecidrs").expect("the table has ServiceCIDR")
    }

    fn service_kind(&self) -> &'static Kind {
        kinds::find("", "v1", "services").expect("the table has Service")
    }
}
