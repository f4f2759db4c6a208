//! What every cluster has of Services: the default ServiceCIDR, the Service `kubernetes` with its endpoints, and
//! the Service of the cluster's DNS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kinds::Kind;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{families, range, repair};
use crate::auth::identity::Identity;
use crate::call::Call;
use crate::create;
use crate::object::{self, list};
use crate::server::ApiServer;
use crate::status::Failure;
use crate::update::{self, Change, Part, Target};

/// How often the API's own objects are looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// How often claims are compared with Services, without a reason.
const REPAIR: Duration = Duration::from_secs(180);

/// The default range, the API's Service and its endpoints.
const KUBERNETES: &str = "kubernetes";

impl ApiServer {
    /// Puts in place what is missing.
    pub(crate) async fn keep_services(&self) -> Result<(), Failure> {
        self.keep_range().await?;
        if !self.services.endpoints.is_empty() {
            self.keep_api_service().await?;
            self.keep_dns_service().await?;
        }
        Ok(())
    }

    /// Keeps Services in order until `shutdown`.
    pub async fn look_after_services(self: Arc<Self>, shutdown: CancellationToken) {
        let mut repair = tokio::time::interval(REPAIR);
        let mut keep = tokio::time::interval(PERIOD);
        loop {
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = repair.tick() => repair::repair(&self).await,
                () = self.robbed() => repair::repair(&self).await,
                _ = keep.tick() => self.keep_services().await,
            };
            if let Err(failure) = outcome {
                tracing::warn!(why = failure.message, "Services");
            }
        }
    }

    /// Waits until somebody deletes an IPAddress whose Service still has it: no other may get it now.
    async fn robbed(&self) {
        let prefix = object::prefix(self.ip_addresses(), None);
        let Ok(mut watch) = self.store.watch(&prefix, self.store.revision()) else {
            return std::future::pending().await;
        };
        loop {
            match watch.next().await {
                Ok(event) if event.change != store::Change::Deleted => {}
                Ok(event) if matches!(repair::is_held(self, &event.value), Ok(true)) => return,
                Ok(_) => {}
                // The end of the store, or more at once than it remembers.
                Err(_) => return std::future::pending().await,
            }
        }
    }

    async fn keep_range(&self) -> Result<(), Failure> {
        let kind = self.service_cidrs();
        let cidrs: Vec<_> = self.services.ranges.iter().map(|range| range.trunc()).collect();
        let wanted = json!({ "metadata": { "name": KUBERNETES }, "spec": { "cidrs": cidrs } });
        self.keep(kind, None, KUBERNETES, wanted, |object| {
            // A cluster that has got its second family.
            let more = list(object, "/spec/cidrs").len() == 1 && cidrs.len() == 2;
            if more && object["spec"]["cidrs"][0] == json!(cidrs[0]) {
                object["spec"]["cidrs"] = json!(cidrs);
            }
        })
        .await
    }

    async fn keep_api_service(&self) -> Result<(), Failure> {
        let Some(preferred) = self.services.ranges.first() else {
            return Ok(());
        };
        let family = families::family_of(preferred.addr());
        let own: Vec<SocketAddr> = self
            .services
            .endpoints
            .iter()
            .filter(|endpoint| families::family_of(endpoint.ip()) == family)
            .copied()
            .collect();
        let Some(port) = own.first().map(SocketAddr::port) else {
            return Ok(());
        };
        let service = json!({
            "metadata": { "name": KUBERNETES, "labels": { "component": "apiserver", "provider": KUBERNETES } },
            "spec": {
                "type": "ClusterIP", "clusterIP": nth(*preferred, 1), "ipFamilies": [family],
                "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
                "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": port }],
            },
        });
        let ports = service["spec"]["ports"].clone();
        self.keep(
            self.service_kind(),
            Some("default"),
            KUBERNETES,
            service,
            |object| {
                object["spec"]["ports"] = ports.clone();
                object["spec"]["type"] = "ClusterIP".into();
                object["spec"]["sessionAffinity"] = "None".into();
            },
        )
        .await?;
        self.keep_endpoints(family, &own, port).await
    }

    /// Endpoints and EndpointSlice of the API: no controller may make one from the other.
    async fn keep_endpoints(&self, family: &str, own: &[SocketAddr], port: u16) -> Result<(), Failure> {
        let kind = kinds::find("", "v1", "endpoints").expect("the table has Endpoints");
        let addresses: Vec<_> = own.iter().map(|own| json!({ "ip": own.ip() })).collect();
        let subsets = json!([{
            "addresses": addresses,
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        }]);
        let labels = json!({ "endpointslice.kubernetes.io/skip-mirror": "true" });
        let endpoints = json!({ "metadata": { "name": KUBERNETES, "labels": labels }, "subsets": subsets });
        self.keep(kind, Some("default"), KUBERNETES, endpoints, |object| {
            object["subsets"] = subsets.clone();
            object::child(&mut object["metadata"], "labels")
                .extend(labels.as_object().cloned().unwrap_or_default());
        })
        .await?;
        let kind = kinds::find("discovery.k8s.io", "v1", "endpointslices").expect("the table has slices");
        let endpoints: Vec<_> = own
            .iter()
            .map(|own| json!({ "addresses": [own.ip()], "conditions": { "ready": true } }))
            .collect();
        let ports = json!([{ "name": "https", "port": port, "protocol": "TCP" }]);
        let slice = json!({
            "metadata": { "name": KUBERNETES, "labels": { "kubernetes.io/service-name": KUBERNETES } },
            "addressType": family, "endpoints": endpoints, "ports": ports,
        });
        self.keep(kind, Some("default"), KUBERNETES, slice, |object| {
            object["endpoints"] = endpoints.clone().into();
            object["ports"] = ports.clone();
            object::child(&mut object["metadata"], "labels")
                .insert("kubernetes.io/service-name".into(), KUBERNETES.into());
        })
        .await
    }

    /// DNS is answered on every node, so the Service selects nobody.
    async fn keep_dns_service(&self) -> Result<(), Failure> {
        let addresses: Vec<_> = self.services.ranges.iter().map(|range| nth(*range, 10)).collect();
        let policy = if addresses.len() == 2 {
            "RequireDualStack"
        } else {
            "SingleStack"
        };
        let service = json!({
            "metadata": {
                "name": "kube-dns",
                "labels": {
                    "k8s-app": "kube-dns",
                    "kubernetes.io/cluster-service": "true",
                    "kubernetes.io/name": "CoreDNS",
                },
                "annotations": { "prometheus.io/port": "9153", "prometheus.io/scrape": "true" },
            },
            "spec": {
                "type": "ClusterIP", "clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilyPolicy": policy,
                "ports": [
                    { "name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53 },
                    { "name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53 },
                    { "name": "metrics", "protocol": "TCP", "port": 9153, "targetPort": 9153 },
                ],
            },
        });
        // What people make of it stays.
        self.keep(
            self.service_kind(),
            Some("kube-system"),
            "kube-dns",
            service,
            |_| {},
        )
        .await
    }

    /// Creates an object that isn't there, or mends it.
    async fn keep(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        wanted: Value,
        mend: impl Fn(&mut Value),
    ) -> Result<(), Failure> {
        let Some(entry) = self.store.get(&object::key(kind, namespace, name))? else {
            let mut wanted = wanted;
            wanted["apiVersion"] = kind.api_version().into();
            wanted["kind"] = kind.kind().into();
            let made = create::create(self, &Call::of_server(kind, namespace), wanted).await;
            return match made {
                Err(failure) if failure.reason != "AlreadyExists" => Err(failure),
                _ => Ok(()),
            };
        };
        let current = object::parse(&entry.value)?;
        let mut mended = current.clone();
        mend(&mut mended);
        kind.default(&mut mended);
        if mended == current {
            return Ok(());
        }
        let identity = Identity::server();
        let target = Target {
            kind,
            namespace,
            name,
            part: Part::Main,
            dry_run: false,
            manager: "kube-apiserver",
            subresource: "",
            identity: &identity,
        };
        let mended = |current: &Value| {
            let mut object = current.clone();
            mend(&mut object);
            Ok(Change::To(object))
        };
        update::update(self, target, mended).await.map(drop)
    }
}

/// The address with this number in a range.
fn nth(range: IpNet, number: u128) -> IpAddr {
    range::address(range::bits(range.network()) + number, range.addr())
}
