//! Running the handlers of probes and lifecycle hooks: a command in the
//! container, an HTTP request, a TCP connection, a gRPC health check.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tonic::transport::Endpoint;

use crate::http_get::{self, Get};

/// How much of a command's output an event shows.
const MAX_OUTPUT: usize = 1024;

/// The run of a container that a handler is about.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) cri: cri::Client,
    pub(crate) run_id: String,
    pub(crate) container: Container,
    pub(crate) pod_ip: Option<IpAddr>,
}

/// What came of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// It says yes, and the text is for an event all the same.
    Warning(String),
    /// It says no; the text is for the event.
    Failure(String),
    /// It couldn't be asked.
    Broken(String),
}

impl Target {
    /// Runs a probe once.
    pub(crate) async fn probe(&self, probe: &Probe) -> Outcome {
        let limit = Duration::from_secs(
            u64::try_from(probe.timeout_seconds.unwrap_or(1))
                .unwrap_or(1)
                .max(1),
        );
        if let Some(action) = &probe.exec {
            self.exec(action, limit).await
        } else if let Some(action) = &probe.http_get {
            self.http(action, limit).await
        } else if let Some(action) = &probe.tcp_socket {
            self.tcp(action, limit).await
        } else if let Some(action) = &probe.grpc {
            self.grpc(action, limit).await
        } else {
            Outcome::Broken("missing probe handler".to_owned())
        }
    }

    /// Runs a lifecycle hook once.
    pub(crate) async fn hook(&self, handler: &LifecycleHandler, limit: Duration) -> Outcome {
        if let Some(action) = &handler.exec {
            self.exec(action, limit).await
        } else if let Some(action) = &handler.http_get {
            self.http(action, limit).await
        } else if let Some(action) = &handler.tcp_socket {
            self.tcp(action, limit).await
        } else if let Some(action) = &handler.sleep {
            let wanted = Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0));
            tokio::time::sleep(wanted.min(limit)).await;
            Outcome::Success
        } else {
            Outcome::Broken("missing handler".to_owned())
        }
    }

    async fn exec(&self, action: &ExecAction, limit: Duration) -> Outcome {
        let command = action.command.clone().unwrap_or_default();
        match self.cri.exec_sync(&self.run_id, &command, limit).await {
            Ok(answer) if answer.exit_code == 0 => Outcome::Success,
            Ok(answer) => {
                let mut output = String::from_utf8_lossy(&answer.stdout).into_owned();
                output.push_str(&String::from_utf8_lossy(&answer.stderr));
                Outcome::Failure(shorten(output))
            }
            Err(error) if error.is_timeout() => Outcome::Failure(format!(
                "command {command:?} timed out after {}s",
                limit.as_secs()
            )),
            Err(error) => Outcome::Broken(error.to_string()),
        }
    }

    async fn http(&self, action: &HTTPGetAction, limit: Duration) -> Outcome {
        let what = match self.http_target(action) {
            Ok(what) => what,
            Err(why) => return Outcome::Broken(why),
        };
        match http_get::get(&what, limit).await {
            Ok((status, _)) if status.is_success() => Outcome::Success,
            Ok((status, body)) if status.is_redirection() => {
                Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"))
            }
            Ok((status, _)) => {
                Outcome::Failure(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
            }
            Err(why) => Outcome::Failure(why),
        }
    }

    fn http_target(&self, action: &HTTPGetAction) -> Result<Get, String> {
        let headers = action.http_headers.iter().flatten();
        Ok(Get {
            tls: action
                .scheme
                .as_deref()
                .is_some_and(|s| s.eq_ignore_ascii_case("https")),
            host: self.host(action.host.as_deref())?,
            port: self.port(&action.port)?,
            path: action.path.clone().unwrap_or_default(),
            headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
        })
    }

    async fn tcp(&self, action: &TCPSocketAction, limit: Duration) -> Outcome {
        let target = self
            .host(action.host.as_deref())
            .and_then(|h| Ok((h, self.port(&action.port)?)));
        let (host, port) = match target {
            Ok(target) => target,
            Err(why) => return Outcome::Broken(why),
        };
        match tokio::time::timeout(limit, TcpStream::connect((host.as_str(), port))).await {
            Ok(Ok(_)) => Outcome::Success,
            Ok(Err(error)) => {
                let why = http_get::plain(&error);
                Outcome::Failure(format!("dial tcp {host}:{port}: connect: {why}"))
            }
            Err(_) => Outcome::Failure(format!("dial tcp {host}:{port}: i/o timeout")),
        }
    }

    async fn grpc(&self, action: &GRPCAction, limit: Duration) -> Outcome {
        let port = u16::try_from(action.port).unwrap_or(0);
        let host = match self.host(None) {
            Ok(host) if host.contains(':') => format!("[{host}]"),
            Ok(host) => host,
            Err(why) => return Outcome::Broken(why),
        };
        let service = action.service.clone().unwrap_or_default();
        let check = health_check(format!("{host}:{port}"), service.clone());
        match tokio::time::timeout(limit, check).await {
            Ok(Ok(HealthCheckResponse::SERVING)) => Outcome::Success,
            Ok(Ok(status)) => {
                let status = HealthCheckResponse::name(status);
                Outcome::Failure(format!("service unhealthy (responded with {status:?})"))
            }
            Ok(Err(why)) => Outcome::Failure(why),
            Err(_) => Outcome::Failure(format!(
                "timeout: failed to connect service \"{host}:{port}\" within {}s",
                limit.as_secs()
            )),
        }
    }

    fn host(&self, wanted: Option<&str>) -> Result<String, String> {
        match wanted.filter(|h| !h.is_empty()) {
            Some(host) => Ok(host.to_owned()),
            None => {
                let ip = self.pod_ip.map(|ip| ip.to_string());
                ip.ok_or_else(|| "the pod has no address yet".to_owned())
            }
        }
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let named = self
                    .container
                    .ports
                    .iter()
                    .flatten()
                    .find(|p| p.name.as_ref() == Some(name));
                named.map(|p| p.container_port).or_else(|| name.parse().ok())
            }
        };
        let number = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
        number.ok_or_else(|| format!("container {} has no port {port:?}", self.container.name))
    }
}

/// The last error of a chain says why; those around it only that.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    match last.downcast_ref::<std::io::Error>() {
        Some(error) => http_get::plain(error),
        None => last.to_string(),
    }
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_OUTPUT {
        let end = (0..=MAX_OUTPUT)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl HealthCheckResponse {
    const SERVING: i32 = 1;

    fn name(status: i32) -> &'static str {
        match status {
            Self::SERVING => "SERVING",
            2 => "NOT_SERVING",
            3 => "SERVICE_UNKNOWN",
            _ => "UNKNOWN",
        }
    }
}

async fn health_check(address: String, service: String) -> Result<i32, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| {
        let why = innermost(&error);
        format!("failed to connect service {address:?}: {why}")
    })?;
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|e| e.to_string())?;
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let answer = grpc
        .unary(tonic::Request::new(HealthCheckRequest { service }), path, codec)
        .await;
    answer
        .map(|a| a.into_inner().status)
        .map_err(|status| match status.code() {
            tonic::Code::Unimplemented => format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                status.message()
            ),
            code => format!(
                "error: health rpc probe failed: rpc error: code = {code:?} desc = {}",
                status.message()
            ),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn target(ip: &str) -> Target {
        Target {
            cri: cri::Client::new("/nonexistent.sock"),
            run_id: "r".into(),
            container: serde_json::from_value(
                json!({"name": "a", "ports": [{"name": "web", "containerPort": 8080}]}),
            )
            .unwrap(),
            pod_ip: Some(ip.parse().unwrap()),
        }
    }

    #[tokio::test]
    async fn ports_go_by_number_or_name() {
        let target = target("127.0.0.1");
        assert_eq!(target.port(&IntOrString::Int(80)), Ok(80));
        assert_eq!(target.port(&IntOrString::String("web".into())), Ok(8080));
        assert_eq!(target.port(&IntOrString::String("81".into())), Ok(81));
        assert!(target.port(&IntOrString::String("none".into())).is_err());
    }

    #[tokio::test]
    async fn a_tcp_probe_connects() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let probe: Probe = serde_json::from_value(json!({"tcpSocket": {"port": port}})).unwrap();
        assert_eq!(target("127.0.0.1").probe(&probe).await, Outcome::Success);
        drop(listener);
        assert!(matches!(
            target("127.0.0.1").probe(&probe).await,
            Outcome::Failure(_)
        ));
    }

    #[tokio::test]
    async fn being_sent_elsewhere_is_a_yes_that_is_told() {
        use tokio::io::AsyncWriteExt;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer =
                "HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 5\r\n\r\nFound";
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let probe: Probe = serde_json::from_value(json!({"httpGet": {"port": port}})).unwrap();
        assert_eq!(
            target("127.0.0.1").probe(&probe).await,
            Outcome::Warning("Probe terminated redirects, Response body: Found".into())
        );
    }

    /// A health service that says of `well` that it serves and of `ill` that it doesn't; it knows no other.
    async fn health_service() -> u16 {
        use bytes::Bytes;
        use http_body_util::{BodyExt, Full};
        use hyper_util::rt::{TokioExecutor, TokioIo};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            let asked = request.into_body().collect().await?.to_bytes();
            let status = if asked.ends_with(b"well") { 1 } else { 2 };
            let known = asked.ends_with(b"well") || asked.ends_with(b"ill");
            let trailers = http::HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                // Otherwise 5, which is "not found".
                http::HeaderValue::from_static(if known { "0" } else { "5" }),
            )]);
            let message = Full::new(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]));
            let body = message.with_trailers(async { Some(Ok(trailers)) });
            let mut response = http::Response::new(body);
            let kind = http::HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
            Ok::<_, hyper::Error>(response)
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
            }
        });
        port
    }

    #[tokio::test]
    async fn a_grpc_probe_asks_the_health_service() {
        let port = health_service().await;
        let ask = async |port: u16, service: &str| {
            let probe = json!({"grpc": {"port": port, "service": service}});
            let probe: Probe = serde_json::from_value(probe).unwrap();
            target("127.0.0.1").probe(&probe).await
        };
        assert_eq!(ask(port, "well").await, Outcome::Success);
        assert_eq!(
            ask(port, "ill").await,
            Outcome::Failure("service unhealthy (responded with \"NOT_SERVING\")".into())
        );
        assert!(matches!(
            ask(port, "other").await,
            Outcome::Failure(why) if why.starts_with("error: health rpc probe failed: rpc error: code = NotFound")
        ));
        assert_eq!(
            ask(1, "well").await,
            Outcome::Failure("failed to connect service \"127.0.0.1:1\": connection refused".into())
        );
    }
}
