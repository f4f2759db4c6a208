//! What this machine asks Services, where it is on the nodes' network.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ask::{BALANCER, NODE_PORT};
use super::make::{PORT, Services};
use crate::ask::family;
use crate::checks::look_at;
use crate::lab::Lab;
use crate::report::Row;

const SOURCE: &str = "Service, client's address";
const LIMIT: Duration = Duration::from_secs(3);

/// Ports of nodes, load balancers' addresses, and that `externalTrafficPolicy: Local` keeps the
/// machine's own address.
pub(super) async fn ask(lab: &Lab, services: &Services) -> Vec<Row> {
    if lab.outside.is_empty() {
        return vec![Row::skipped(SOURCE, "nobody listens outside the cluster")];
    }
    let own: Vec<IpAddr> = lab.outside.iter().map(|outside| outside.address).collect();
    let reaches = |address: &IpAddr| own.iter().any(|own| own.is_ipv4() == address.is_ipv4());
    let mut asks = Vec::new();
    for place in &lab.places {
        let addresses = place.addresses.iter().copied().filter(reaches);
        for address in addresses {
            let path = format!("outside → {}'s port{}", place.node, family(address));
            let port = |port: Option<u16>| port.map(|port| SocketAddr::new(address, port));
            asks.extend(port(services.all.node_port).map(|at| (NODE_PORT, path.clone(), at, None)));
            // A node without a pod of it answers nobody.
            if place.pod.is_some() {
                let wanted = own.iter().find(|own| own.is_ipv4() == address.is_ipv4());
                asks.extend(port(services.local.node_port).map(|at| (SOURCE, path, at, wanted)));
            }
        }
    }
    for address in services.all.balancers.iter().copied().filter(reaches) {
        let path = format!("outside → load balancer{}", family(address));
        asks.push((BALANCER, path, SocketAddr::new(address, PORT), None));
    }
    let nodes: Vec<&str> = lab.places.iter().map(|place| place.node.as_str()).collect();
    let asks = asks.into_iter().map(async |(check, path, at, wanted)| {
        let verdict = match tokio::time::timeout(LIMIT, seen(at)).await {
            Err(_) => Err(format!("{at}: nothing came back within {LIMIT:?}")),
            Ok(Err(why)) => Err(format!("{at}: {why}")),
            Ok(Ok(seen)) => match wanted {
                Some(own) if *own != seen => Err(format!("{own} was seen as {seen}")),
                _ => Ok(format!("seen as {seen}")),
            },
        };
        match verdict {
            Ok(detail) => Row::passed(check, path, detail),
            Err(cause) => {
                let next = format!(
                    "does a firewall on this machine let it out? {}",
                    look_at(lab.cluster.as_deref(), &nodes)
                );
                Row::failed(check, path, cause, next)
            }
        }
    });
    join_all(asks).await
}

/// The client's address as a pod of a Service saw it.
async fn seen(at: SocketAddr) -> Result<IpAddr, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(at).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(64 << 10).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = exchange.await.map_err(|error| error.to_string())?;
    client(&answer).ok_or_else(|| "something else than the toolbox answered".to_owned())
}

fn client(answer: &str) -> Option<IpAddr> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let body: Value = serde_json::from_str(body).ok()?;
    body["client_ip"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outside;

    #[tokio::test]
    async fn whoever_answers_as_the_toolbox_does_says_whom_it_saw() {
        let own: IpAddr = [127, 0, 0, 1].into();
        let outside = Outside::listen(own).await.unwrap();
        let url = outside.probe().url;
        let at = url
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .parse()
            .unwrap();
        assert_eq!(seen(at).await, Ok(own));
        assert_eq!(client("HTTP/1.1 200 OK\r\n\r\nhello"), None);
    }
}
