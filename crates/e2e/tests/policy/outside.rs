//! Nodes, the machine, and what comes by a port of a node.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use e2e::eventually;
use serde_json::Value;

use crate::ask::{Ask, WAIT, World};
use crate::said::{By, Question};
use crate::server::Server;
use crate::{ONE, TWO};

const FROM: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: outside, namespace: outer}
spec:
  podSelector: {}
  ingress: [{from: [{ipBlock: {cidr: BLOCK}}], ports: [{port: 8080}]}]
";

const ALLOWED: By = By::Allowed(&["outer/outside"]);
const DENIED: By = By::Denied(&["outer/outside"]);

/// Ways from the machine to the pod, which is on the first node.
struct Ways {
    machine: IpAddr,
    /// Its address stays: a node port under `Local`, a load balancer, one under `Cluster` on that node.
    kept: [SocketAddr; 3],
    /// Under `Cluster` on the second node, whose address is put in its place.
    replaced: SocketAddr,
    /// Under `Local` on the second node, which has no endpoint.
    nowhere: SocketAddr,
}

pub(crate) fn nodes_and_outside(world: &World) {
    world.pods(
        "outer",
        &[
            Server::new("web", ONE, "app: web"),
            Server::new("own", ONE, "app: own")
                .http(18080)
                .echo(19000)
                .host_network(),
            Server::new("strange", TWO, "app: strange")
                .http(18080)
                .echo(19000)
                .host_network(),
        ],
    );
    let ways = Ways::make(world);
    ways.are(world, [By::Nobody, By::Nobody]);
    world.apply(&FROM.replace("BLOCK", "192.0.2.0/24"));
    ways.are(world, [DENIED, DENIED]);
    world.expect([
        // What a pod's own node begins passes, as probes do; another node's doesn't.
        world.tcp("outer/own", "outer/web", 8080, By::Nobody),
        world.tcp("outer/strange", "outer/web", 8080, DENIED),
        // Pods of the node's network are nobody's to select.
        world.tcp("outer/web", "outer/strange", 18080, By::Nobody),
    ]);
    world.apply(&FROM.replace("BLOCK", &format!("{}/32", ways.machine)));
    ways.are(world, [ALLOWED, DENIED]);
    // Whoever comes by the second node has its address.
    world.apply(&FROM.replace("BLOCK", &format!("{}/32", ways.replaced.ip())));
    ways.are(world, [DENIED, ALLOWED]);
    let web = world.pod("outer/web").ips[0];
    world.expect([Ask::address("outer/strange", web, 8080, ALLOWED)]);
}

impl Ways {
    fn make(world: &World) -> Ways {
        let expose = |name: &str, more: [&str; 2]| {
            let name = format!("--name={name}");
            let words = [
                "-n",
                "outer",
                "expose",
                "pod",
                "web",
                "--port=80",
                "--target-port=8080",
                &name,
            ];
            world.cluster.kubectl(&[&words[..], &more].concat()).ok();
        };
        let local = r#"--overrides={"spec":{"externalTrafficPolicy":"Local"}}"#;
        expose("local", ["--type=LoadBalancer", local]);
        expose("spread", ["--type=NodePort", "--session-affinity=None"]);
        let (local, spread) = (node_port(world, "local"), node_port(world, "spread"));
        let (one, two) = (world.pod("outer/own").ips[0], world.pod("outer/strange").ips[0]);
        let balancer = eventually(WAIT, || {
            let service = world.cluster.get(&["-n", "outer", "service", "local"]);
            let address = text(&service, "/status/loadBalancer/ingress/0/ip");
            address.parse::<IpAddr>().map_err(|_| service.to_string())
        });
        let at = SocketAddr::new;
        Ways {
            machine: machine(one),
            kept: [at(one, local), at(balancer, 80), at(one, spread)],
            replaced: at(two, spread),
            nowhere: at(two, local),
        }
    }

    /// Whether the machine is answered, where its address stays and where it's replaced.
    fn are(&self, world: &World, [kept, replaced]: [By; 2]) {
        for to in self.kept {
            self.is(world, to, kept);
        }
        self.is(world, self.nowhere, By::Refused);
        let said = self.is(world, self.replaced, replaced);
        if replaced == By::Nobody {
            return;
        }
        let trace = &said["traces"][0];
        let asked = match replaced {
            DENIED => &trace["verdict"],
            _ => &trace["decisions"][0],
        };
        let seen = [text(asked, "/peer"), text(asked, "/insteadOf")];
        let wanted = [self.replaced.ip(), self.machine].map(|address| address.to_string());
        assert_eq!(seen, wanted, "{said:#}");
    }

    /// Asks for one of them; what `ripstop trace` says of it.
    fn is(&self, world: &World, to: SocketAddr, by: By) -> Value {
        eventually(WAIT, || {
            let answered = TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok();
            match answered == by.allows() {
                true => Ok(()),
                false => Err(format!("{to}: answered: {answered}")),
            }
        });
        let (from, ip, port) = (self.machine.to_string(), to.ip().to_string(), to.port());
        let said = Question::new(&from, &ip, &format!("{port}/tcp"), by).answer(&world.cluster);
        said.unwrap_or_else(|wrong| panic!("{wrong}"))
    }
}

fn node_port(world: &World, service: &str) -> u16 {
    let service = world.cluster.get(&["-n", "outer", "service", service]);
    let port = service.pointer("/spec/ports/0/nodePort").and_then(Value::as_u64);
    u16::try_from(port.expect("it has a node port")).expect("a port")
}

/// The machine has the first address of the nodes' network.
fn machine(node: IpAddr) -> IpAddr {
    let net = ipnet::IpNet::new(node, 24).expect("24 bits");
    net.hosts().next().expect("it has some")
}

/// A field that is a text.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
