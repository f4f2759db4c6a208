//! Clients, one an identity: each controller writes under a name of its own, with the rights of its role.

use std::fmt;
use std::sync::Arc;

use kube::Client;

/// Where controllers get their clients.
#[derive(Clone)]
pub struct Clients {
    shared: Client,
    of: Arc<dyn Fn(&str) -> Client + Send + Sync>,
}

impl Clients {
    /// `shared` watches for all and records events; `of` makes the client of the controller with that name,
    /// which is the ServiceAccount `kube-system/NAME` in Kubernetes.
    pub fn new(shared: Client, of: impl Fn(&str) -> Client + Send + Sync + 'static) -> Self {
        Self {
            shared,
            of: Arc::new(of),
        }
    }

    pub(crate) fn shared(&self) -> Client {
        self.shared.clone()
    }

    pub(crate) fn of(&self, controller: &str) -> Client {
        (self.of)(controller)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

/// One client for everything.
impl From<Client> for Clients {
    fn from(client: Client) -> Self {
        let of = client.clone();
        Self::new(client, move |_| of.clone())
    }
}
