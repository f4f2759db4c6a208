//! Names, as resolvers in pods find them.

use futures::future::join_all;

use crate::checks::look_at;
use crate::lab::{Lab, Spot};
use crate::report::Row;

const NAMES: &str = "names in pods";

/// Looks the Service `kubernetes` up, back from its address, the Service's own name for the DNS, and
/// something that isn't there; says what isn't as it should be, a line each.
const SCRIPT: &str = r#"
found() { nslookup "$1" 2>&1 | grep -qxF "$2" || echo "$1: no \"$2\""; }
full=kubernetes.default.svc.cluster.local
found $full "Address: $KUBERNETES_SERVICE_HOST"
nslookup "$KUBERNETES_SERVICE_HOST" 2>&1 | grep -q "name = $full" || echo "$KUBERNETES_SERVICE_HOST: not $full"
nslookup kube-dns.kube-system.svc.cluster.local 2>&1 | grep -q "^Address: " || echo "kube-dns.kube-system: nothing"
nslookup nobody.default.svc.cluster.local 2>&1 | grep -q NXDOMAIN || echo "nobody.default.svc.cluster.local: not NXDOMAIN"
"#;

/// From a pod on every node.
pub(crate) async fn names(lab: &Lab) -> Vec<Row> {
    let pods = lab.places.iter().filter_map(|place| place.pod.as_ref());
    join_all(pods.map(|pod| one(lab, pod))).await
}

async fn one(lab: &Lab, pod: &Spot) -> Row {
    let command = ["timeout", "20", "sh", "-c", SCRIPT].map(str::to_owned).to_vec();
    let problem = match lab.shell.exec(&pod.pod, command).await {
        Ok(out) if out.code == 0 && out.stdout.trim().is_empty() => {
            return Row::passed(NAMES, &pod.node, "Services, and back from an address");
        }
        Ok(out) if out.stdout.trim().is_empty() => {
            format!("no answer within 20 seconds (exit status {})", out.code)
        }
        Ok(out) => out.stdout.lines().collect::<Vec<_>>().join("; "),
        Err(why) => why,
    };
    let logs = look_at(lab.cluster.as_deref(), &[&pod.node]).replace("agent", "dns");
    let next = format!("is the pod's nameserver the address of the Service kube-dns? {logs}");
    Row::failed(NAMES, &pod.node, problem, next)
}
