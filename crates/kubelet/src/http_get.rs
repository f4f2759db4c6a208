//! A plain HTTP GET, for probes and hooks: no proxy, no certificate checks
//! (the pod vouches for itself), redirects within the same host followed.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How much of an answer is read.
const MAX_BODY: usize = 10 << 10;
const MAX_REDIRECTS: usize = 10;

/// What to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Get {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Get {
    fn uri(&self) -> Result<Uri, String> {
        let scheme = if self.tls { "https" } else { "http" };
        let host = &self.host;
        let bracketed = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        let text = format!("{scheme}://{bracketed}:{}{slash}{}", self.port, self.path);
        text.parse().map_err(|error| format!("{text:?}: {error}"))
    }
}

/// The answer's status, and the beginning of its body. An error says why there
/// was no answer.
pub(crate) async fn get(what: &Get, limit: Duration) -> Result<(StatusCode, String), String> {
    let first = what.uri()?;
    let exchange = async {
        let mut uri = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let (status, location, body) = once(&uri, what).await?;
            let next = location.filter(|_| status.is_redirection());
            match next.and_then(|to| resolve(&uri, &to)) {
                // Elsewhere is none of the pod's business: being sent there is enough.
                Some(next) if next.host() == first.host() => uri = next,
                _ => return Ok((status, body)),
            }
        }
        Err(format!("stopped after {MAX_REDIRECTS} redirects"))
    };
    let answer = match tokio::time::timeout(limit, exchange).await {
        Ok(answer) => answer,
        Err(_) => {
            Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned())
        }
    };
    answer.map_err(|why: String| format!("Get \"{first}\": {why}"))
}

async fn once(uri: &Uri, what: &Get) -> Result<(StatusCode, Option<String>, String), String> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let tls = uri.scheme() == Some(&Scheme::HTTPS);
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|error| format!("dial tcp {host}:{port}: connect: {}", plain(&error)))?;
    if tls {
        let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(Arc::clone(&TRUSTING))
            .connect(name, stream)
            .await;
        exchange(stream.map_err(|e| e.to_string())?, uri, what).await
    } else {
        exchange(stream, uri, what).await
    }
}

async fn exchange<S>(stream: S, uri: &Uri, what: &Get) -> Result<(StatusCode, Option<String>, String), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let answer = async {
        let request = request(uri, what)?;
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let location = answer.headers().get(http::header::LOCATION);
        let location = location.and_then(|l| l.to_str().ok()).map(str::to_owned);
        // A body that is too long or breaks off doesn't change the verdict.
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
        let body = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned());
        Ok((status, location, body.unwrap_or_default()))
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        // The connection ending first means that no answer came; hyper's
        // sender has the better words for it, so this is the last resort.
        ended = async { let end = connection.await; std::future::pending::<()>().await; end } => {
            Err(ended.err().map_or_else(|| "connection closed".to_owned(), |e| e.to_string()))
        }
    }
}

fn request(uri: &Uri, what: &Get) -> Result<Request<Empty<Bytes>>, String> {
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let authority = uri.authority().map(|a| a.to_string()).unwrap_or_default();
    let mut request = Request::get(path).body(Empty::new()).map_err(|e| e.to_string())?;
    let headers = request.headers_mut();
    let mut set = |name: &str, value: &str| -> Result<(), String> {
        let name: HeaderName = name
            .parse()
            .map_err(|_| format!("invalid header name {name:?}"))?;
        let value: HeaderValue = value
            .parse()
            .map_err(|_| format!("invalid value of header {name}"))?;
        headers.insert(name, value);
        Ok(())
    };
    set("host", &authority)?;
    set("user-agent", concat!("kube-probe/", "1.36"))?;
    set("accept", "*/*")?;
    set("connection", "close")?;
    for (name, value) in &what.headers {
        set(name, value)?;
    }
    Ok(request)
}

/// Where a `Location` leads, seen from `base`.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let to: Uri = location.parse().ok()?;
    if to.scheme().is_some() {
        return Some(to);
    }
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(to.path_and_query()?.clone());
    Uri::from_parts(parts).ok()
}

pub(crate) fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        std::io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// Probes don't ask who answers, as in Kubernetes: pods have no certificates
/// for their addresses.
static TRUSTING: LazyLock<Arc<ClientConfig>> =
    LazyLock::new(|| Arc::new(pki::trusting().expect("ring speaks the default protocol versions")));

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that gives each connection the next of `answers`.
    async fn server(answers: &'static [&'static str]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    fn at(port: u16, path: &str) -> Get {
        Get {
            tls: false,
            host: "127.0.0.1".into(),
            port,
            path: path.into(),
            headers: vec![],
        }
    }

    #[tokio::test]
    async fn an_answer_has_its_status_and_body() {
        let port = server(&["HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy"]).await;
        let (status, body) = get(&at(port, "/healthz"), Duration::from_secs(5)).await.unwrap();
        assert_eq!((status.as_u16(), body.as_str()), (503, "busy"));
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host_only() {
        let port = server(&[
            "HTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 302 Found\r\nlocation: http://example.com/\r\ncontent-length: 0\r\n\r\n",
        ])
        .await;
        let (status, _) = get(&at(port, "/a"), Duration::from_secs(5)).await.unwrap();
        assert_eq!(status.as_u16(), 302);
    }

    #[tokio::test]
    async fn a_refusal_reads_as_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = get(&at(port, "/x"), Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(
            error,
            format!(
                "Get \"http://127.0.0.1:{port}/x\": dial tcp 127.0.0.1:{port}: connect: connection refused"
            )
        );
    }

    #[tokio::test]
    async fn silence_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = get(&at(port, "/x"), Duration::from_millis(50)).await.unwrap_err();
        assert!(
            error.ends_with("deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
            "{error}"
        );
    }
}
