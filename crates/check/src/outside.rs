//! A listener outside the cluster, which tells whom it saw.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::Error;

/// Where pods can ask, outside the cluster, which address they come from: an
/// `http://` URL that answers with JSON that has a `client_ip`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideProbe {
    /// Such as `http://172.30.0.1:41234/`; IPv6 addresses in brackets.
    pub url: String,
    /// The listener's address, for its family.
    pub address: IpAddr,
}

/// Such a listener, closed when dropped.
#[derive(Debug)]
pub struct Outside {
    probe: OutsideProbe,
    task: AbortHandle,
}

impl Outside {
    /// Listens on one of this machine's addresses, on any free port. It answers
    /// nothing but the address of whoever asks.
    ///
    /// # Errors
    /// When the address isn't this machine's.
    pub async fn listen(address: IpAddr) -> Result<Self, Error> {
        let wanted = SocketAddr::new(address, 0);
        let failed = |source| Error::Outside {
            address: wanted,
            source,
        };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(serve(listener)).abort_handle();
        let probe = OutsideProbe {
            url: format!("http://{local}/"),
            address,
        };
        Ok(Self { probe, task })
    }

    /// What to put into [`crate::Options::outside`].
    pub fn probe(&self) -> OutsideProbe {
        self.probe.clone()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                tokio::spawn(tokio::time::timeout(
                    Duration::from_secs(5),
                    answer(stream, client),
                ));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Reads a request's head, whatever it asks for, and answers it.
async fn answer(mut stream: TcpStream, client: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 16 << 10 {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        head.extend_from_slice(&buffer[..n]);
    }
    let ip = client.ip().to_canonical();
    let body = format!("{}\n", serde_json::json!({ "client_ip": ip }));
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_tells_who_asked_and_is_gone_when_dropped() {
        let outside = Outside::listen([127, 0, 0, 1].into()).await.unwrap();
        let url = outside.probe().url;
        let place = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let mut stream = TcpStream::connect(&place).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("{\"client_ip\":\"127.0.0.1\"}\n"), "{text}");
        drop(outside);
        while TcpStream::connect(&place).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
