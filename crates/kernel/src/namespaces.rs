//! The network namespaces whose sockets our programs translate for: the pods' and the node's own.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::{MutexGuard, PoisonError};

use plan::Veth;

use crate::apply::Kernel;
use crate::netns::Cookie;
use crate::{NetNs, Result, sockdiag};

/// Pods' namespaces by the node's ends of their links.
pub(crate) type Pods = BTreeMap<String, Pod>;

/// A pod's namespace, as our programs know it.
#[derive(Debug)]
pub(crate) struct Pod {
    path: String,
    /// If the kernel says it.
    cookie: Option<Cookie>,
    addresses: Vec<IpAddr>,
    /// Whether its sockets see Services' addresses as they are.
    untranslated: bool,
}

impl Kernel {
    /// A pod is there: our programs are told its addresses.
    pub(crate) fn know_pod(&self, veth: &Veth) -> Result<()> {
        let addresses: Vec<IpAddr> = veth.pod.addresses.iter().map(|net| net.addr()).collect();
        // Kernels that don't say are served as well, by less.
        let cookie = NetNs::open(&veth.pod.netns)?.cookie().ok();
        let before = self.pods().get(&veth.name).map(|pod| pod.untranslated);
        let mut untranslated = before.unwrap_or_default();
        if let Some(cookie) = cookie {
            let services = self.services()?;
            if before.is_none() {
                // The agent is new, and mustn't take back what another has written.
                let mut known = services.namespaces()?.into_iter();
                untranslated = known.any(|(other, _, untranslated)| other == cookie && untranslated);
            }
            services.put_namespace(cookie, &addresses, untranslated)?;
        }
        let known = Pod {
            path: veth.pod.netns.clone(),
            cookie,
            addresses,
            untranslated,
        };
        self.pods().insert(veth.name.clone(), known);
        Ok(())
    }

    /// Lets the sockets of these pods, by the node's ends of their links, see Services' addresses as they
    /// are, and translates for all others'. What a socket connected to before stays. Says how many writes
    /// that took.
    pub fn set_untranslated(&self, links: &BTreeSet<String>) -> Result<usize> {
        let services = self.services()?;
        let mut writes = 0;
        for (link, pod) in self.pods().iter_mut() {
            let wanted = links.contains(link);
            if pod.untranslated == wanted {
                continue;
            }
            if let Some(cookie) = pod.cookie {
                services.put_namespace(cookie, &pod.addresses, wanted)?;
                writes += 1;
            }
            pod.untranslated = wanted;
        }
        Ok(writes)
    }

    /// A pod is gone.
    pub(crate) fn forget_pod(&self, link: &str) -> Result<()> {
        let known = self.pods().remove(link);
        if let Some(cookie) = known.and_then(|pod| pod.cookie) {
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
        let mut known: HashSet<Cookie> = self.pods().values().filter_map(|pod| pod.cookie).collect();
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
        let paths: Vec<String> = self.pods().values().map(|pod| pod.path.clone()).collect();
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
