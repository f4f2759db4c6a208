//! The network namespaces whose sockets our programs translate for: the pods' and the node's own.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::{MutexGuard, PoisonError};

use plan::Veth;

use crate::apply::Kernel;
use crate::netns::Cookie;
use crate::{NetNs, Result, sockdiag};

/// Pods' namespaces by the node's ends of their links: the path, and the kernel's cookie if it says it.
pub(crate) type Pods = BTreeMap<String, (String, Option<Cookie>)>;

impl Kernel {
    /// A pod is there: our programs are told its addresses.
    pub(crate) fn know_pod(&self, veth: &Veth) -> Result<()> {
        let addresses: Vec<IpAddr> = veth.pod.addresses.iter().map(|net| net.addr()).collect();
        // Kernels that don't say are served as well, by less.
        let cookie = NetNs::open(&veth.pod.netns)?.cookie().ok();
        if let Some(cookie) = cookie {
            self.services()?.put_namespace(cookie, &addresses, false)?;
        }
        let known = (veth.pod.netns.clone(), cookie);
        self.pods().insert(veth.name.clone(), known);
        Ok(())
    }

    /// A pod is gone.
    pub(crate) fn forget_pod(&self, link: &str) -> Result<()> {
        let known = self.pods().remove(link);
        if let Some((_, Some(cookie))) = known {
            self.services()?.remove_namespace(cookie)?;
        }
        Ok(())
    }

    /// Tells our programs the node's own addresses, and forgets namespaces that are nobody's.
    pub(crate) fn know_node(&self, addresses: &[IpAddr]) -> Result<()> {
        let services = self.services()?;
        let own = self.netns.cookie().ok();
        if let Some(own) = own {
            services.put_namespace(own, addresses, false)?;
        }
        let mut known: HashSet<Cookie> = self.pods().values().filter_map(|(_, cookie)| *cookie).collect();
        known.extend(own);
        for (cookie, ..) in services.namespaces()? {
            if !known.contains(&cookie) {
                services.remove_namespace(cookie)?;
            }
        }
        Ok(())
    }

    /// Ends connected UDP sockets, of pods and of the node's own processes, by the kernel's cookies.
    pub(crate) fn end_datagrams(&self, sockets: &HashSet<u64>) -> Result<usize> {
        if sockets.is_empty() {
            return Ok(0);
        }
        let mut ended = sockdiag::end_datagrams(&self.netns, sockets)?;
        let paths: Vec<String> = self.pods().values().map(|(path, _)| path.clone()).collect();
        for path in paths {
            // A pod that is going has no sockets that matter.
            if let Ok(netns) = NetNs::open(path) {
                ended += sockdiag::end_datagrams(&netns, sockets)?;
            }
        }
        Ok(ended)
    }

    fn pods(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
