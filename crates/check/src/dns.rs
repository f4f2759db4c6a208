//! Names, as resolvers in pods find them: the cluster's, and one outside it.

use std::time::Duration;

use futures::future::join_all;

use crate::checks::look_at;
use crate::lab::{Lab, Spot};
use crate::report::Row;

const NAMES: &str = "names in pods";
const OUTSIDE: &str = "outside names in pods";

/// How long this machine may take for a name, and a pod.
const LIMIT: Duration = Duration::from_secs(5);

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
    let logs = logs(lab, pod);
    let next = format!("is the pod's nameserver the address of the Service kube-dns? {logs}");
    Row::failed(NAMES, &pod.node, problem, next)
}

/// Where the DNS of a pod's node says more.
fn logs(lab: &Lab, pod: &Spot) -> String {
    look_at(lab.cluster.as_deref(), &[&pod.node]).replace("agent", "dns")
}

/// The name outside that is asked for, if this machine finds it; otherwise why nothing can be said.
pub(crate) async fn outside_name(name: &str) -> Result<String, String> {
    let found = tokio::time::timeout(LIMIT, tokio::net::lookup_host((name, 0))).await;
    let why = match found.map(|found| found.map(|mut addresses| addresses.next())) {
        Ok(Ok(Some(_))) => return Ok(name.to_owned()),
        Ok(Ok(None)) => "it has no address".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {LIMIT:?}"),
    };
    Err(format!("this machine itself doesn't find {name}: {why}"))
}

/// A name outside the cluster, from a pod on every node, by the cluster's DNS.
pub(crate) async fn outside_names(lab: &Lab) -> Vec<Row> {
    let name = match &lab.outside_name {
        Ok(name) => name,
        Err(why) => return vec![Row::skipped(OUTSIDE, why)],
    };
    let pods = lab.places.iter().filter_map(|place| place.pod.as_ref());
    join_all(pods.map(|pod| outside(lab, pod, name))).await
}

async fn outside(lab: &Lab, pod: &Spot, name: &str) -> Row {
    // The dot at the end: no domain of the pod's is tried.
    let full = format!("{name}.");
    let limit = (2 * LIMIT).as_secs().to_string();
    let command = ["timeout", &limit, "nslookup", &full].map(str::to_owned).to_vec();
    let cause = match lab.shell.exec(&pod.pod, command).await {
        Ok(out) => match address_in(&out.stdout) {
            Some(address) => return Row::passed(OUTSIDE, &pod.node, format!("{name} is {address}")),
            None => {
                let lines = out.stdout.lines().chain(out.stderr.lines());
                let last = lines.map(str::trim).rfind(|line| !line.is_empty());
                format!("{name}: {}", last.unwrap_or("no answer"))
            }
        },
        Err(why) => why,
    };
    let logs = logs(lab, pod);
    let next = format!(
        "this machine finds it: does {} reach the servers of its resolv.conf, or of the ConfigMap \
         kube-system/ripstop-dns? {logs}",
        pod.node
    );
    Row::failed(OUTSIDE, &pod.node, cause, next)
}

/// The first address of an answer; the server's own comes before the name.
fn address_in(said: &str) -> Option<&str> {
    let mut lines = said.lines().skip_while(|line| !line.starts_with("Name:"));
    let line = lines.find(|line| line.starts_with("Address"))?;
    line.split_whitespace().nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{lab, works};

    #[test]
    fn an_answer_has_an_address_after_the_name() {
        let server = "Server:\t\t10.96.0.10\nAddress:\t10.96.0.10:53\n\n";
        let found = format!("{server}Non-authoritative answer:\nName:\texample.com\nAddress: 192.0.2.80\n");
        assert_eq!(address_in(&found), Some("192.0.2.80"));
        let none = format!("{server}** server can't find example.com.: SERVFAIL\n");
        assert_eq!(address_in(&none), None);
    }

    #[tokio::test]
    async fn what_this_machine_does_not_find_is_no_fault_of_the_cluster() {
        let why = outside_name("nobody.invalid").await.unwrap_err();
        assert!(
            why.starts_with("this machine itself doesn't find nobody.invalid: "),
            "{why}"
        );
        let mut lab = lab(2, works());
        lab.outside_name = Err(why.clone());
        assert_eq!(outside_names(&lab).await, [Row::skipped(OUTSIDE, why)]);
    }

    #[tokio::test]
    async fn a_name_that_this_machine_finds_is_to_be_found_in_pods() {
        assert_eq!(outside_name("localhost").await.as_deref(), Ok("localhost"));
        // Nothing answers this of what is played here.
        let mut lab = lab(2, works());
        lab.outside_name = Ok("example.com".to_owned());
        let rows = outside_names(&lab).await;
        assert!(rows.len() == 2 && rows.iter().all(Row::is_failure), "{rows:?}");
        assert!(format!("{:?}", rows[1]).contains("does node-1 reach the servers"));
    }
}
