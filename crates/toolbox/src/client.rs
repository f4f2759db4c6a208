//! The HTTP client: one URL, one connection, deadlines for everything.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::head::{Head, HeadError};
use crate::wire::{Length, Timed, Wire};

/// What is spoken at a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Tcp,
    Udp,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A URL such as `http://10.1.2.3:8080/` or `tcp://10.1.2.3:9000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) target: String,
}

impl Url {
    /// Reads `http://HOST[:PORT][/PATH]`; the scheme may be left out.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        Self::parse_any(text, &[Scheme::Http])
    }

    /// Reads a URL of one of these schemes; the first one may be left out. Only HTTP has a port
    /// that goes without saying.
    pub(crate) fn parse_any(text: &str, schemes: &[Scheme]) -> Result<Self, Failure> {
        let wrong = || {
            let like = schemes
                .iter()
                .map(|scheme| format!("{}://10.1.2.3:8080", scheme.name()));
            let like = like.collect::<Vec<_>>().join(" or ");
            Failure::Usage(format!("`{text}` is not a URL such as {like}"))
        };
        let (scheme, rest) = match text.split_once("://") {
            None => (schemes[0], text),
            Some((name, rest)) => {
                let scheme = schemes.iter().find(|scheme| scheme.name() == name);
                (*scheme.ok_or_else(wrong)?, rest)
            }
        };
        let usual = (scheme == Scheme::Http).then_some("80");
        if text.chars().any(|c| c.is_ascii_control() || c == ' ') {
            return Err(wrong());
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (place, target) = rest.split_at(end);
        let (host, port) = match place.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or_else(wrong)?;
                (
                    host,
                    after.strip_prefix(':').or(usual.filter(|_| after.is_empty())),
                )
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, usual),
            },
        };
        let port = port.and_then(|port| port.parse().ok()).ok_or_else(wrong)?;
        if host.is_empty() {
            return Err(wrong());
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
            target: format!("{slash}{target}"),
        })
    }

    fn authority(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(v6)) => format!("[{v6}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The addresses of a name, asked for no longer than `limit`.
pub(crate) fn resolve(host: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    // The resolver has its own idea of time, so it is asked on another thread,
    // which a process that exits takes along.
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    thread::spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs();
        let _ = sender.send(found.map(Iterator::collect::<Vec<_>>));
    });
    match receiver.recv_timeout(limit) {
        Ok(Ok(found)) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Failure::NotFound(host.to_owned())),
        Err(_) => Err(Failure::TimedOut("looking the name up")),
    }
}

/// Connects to the first of a host's addresses that answers.
pub(crate) fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, Failure> {
    let deadline = Instant::now() + limit;
    let mut last = Failure::TimedOut("connecting");
    for address in resolve(host, port, limit)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = Failure::from_io(&e, "connecting"),
        }
    }
    Err(last)
}

/// A response up to its body.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) length: Length,
    /// Whether the connection can be used again after the body.
    pub(crate) stays: bool,
}

/// A connection on which requests are made.
pub(crate) struct Client {
    url: Url,
    pub(crate) wire: Wire,
}

impl Client {
    /// Connects within `limit`.
    pub(crate) fn connect(url: &Url, limit: Duration) -> Result<Self, Failure> {
        let stream = connect(&url.host, url.port, limit)?;
        let wire = Timed::wire(stream).map_err(|e| Failure::from_io(&e, "connecting"))?;
        let url = url.clone();
        Ok(Self { url, wire })
    }

    /// Sends a request and reads the response's head; all within `limit`.
    pub(crate) fn request(
        &mut self,
        method: &str,
        headers: &[String],
        body: &[u8],
        stay: bool,
        limit: Duration,
    ) -> Result<Response, Failure> {
        self.wire.get_mut().expire_in(limit);
        let mut text = format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: toolbox\r\n",
            self.url.target,
            self.url.authority()
        );
        if !stay {
            text += "Connection: close\r\n";
        }
        if !body.is_empty() || method != "GET" {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        for header in headers {
            text += header;
            text += "\r\n";
        }
        text += "\r\n";
        let mut message = text.into_bytes();
        message.extend_from_slice(body);
        let sent = self.wire.get_mut().write_all(&message);
        sent.map_err(|e| Failure::from_io(&e, "sending the request"))?;
        loop {
            let head = Head::read(&mut self.wire).map_err(|e| match e {
                HeadError::Closed => Failure::CutOff("closed without an answer".into()),
                HeadError::Io(e) => Failure::from_io(&e, "waiting for the answer"),
                HeadError::Bad(_, why) => Failure::Other(format!("the answer is not HTTP: {why}")),
            })?;
            let response = Response::of(&head, method)?;
            // 1xx announce the answer proper.
            if response.status >= 200 {
                return Ok(response);
            }
        }
    }
}

impl Response {
    fn of(head: &Head, method: &str) -> Result<Self, Failure> {
        let not_http = || Failure::Other(format!("the answer is not HTTP: {:?}", head.first));
        let mut words = head.first.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|text| text.parse::<u16>().ok());
        let (true, Some(status)) = (version.starts_with("HTTP/1."), status) else {
            return Err(not_http());
        };
        let length = match head.length() {
            _ if method == "HEAD" || matches!(status, 100..200 | 204 | 304) => Length::Fixed(0),
            Ok(length) => length.unwrap_or(Length::UntilClose),
            Err(why) => return Err(Failure::Other(format!("the answer is not HTTP: {why}"))),
        };
        let stays =
            version == "HTTP/1.1" && length != Length::UntilClose && !head.lists("connection", "close");
        Ok(Self {
            status,
            length,
            stays,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_and_without_their_optional_parts() {
        let url = |text| {
            let url = Url::parse(text).unwrap();
            (url.host, url.port, url.target)
        };
        let is = |host: &str, port, target: &str| (host.to_owned(), port, target.to_owned());
        assert_eq!(url("http://a"), is("a", 80, "/"));
        assert_eq!(url("http://a:8080/p?q"), is("a", 8080, "/p?q"));
        assert_eq!(url("10.0.0.1:81?q"), is("10.0.0.1", 81, "/?q"));
        assert_eq!(url("http://[fd00::1]:9/"), is("fd00::1", 9, "/"));
        assert_eq!(url("http://[fd00::1]"), is("fd00::1", 80, "/"));
        assert_eq!(
            Url::parse("http://[fd00::1]/").unwrap().authority(),
            "[fd00::1]:80"
        );
        for bad in [
            "",
            "http://",
            "https://a/",
            "http://a:x/",
            "http://a b/",
            "http://[::1",
            "http://[::1]x/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_schemes_are_taken_where_they_are_wanted_and_need_a_port() {
        let both = |text| Url::parse_any(text, &[Scheme::Http, Scheme::Tcp]);
        assert_eq!(
            both("tcp://a:9").map(|url| (url.scheme, url.port)),
            Ok((Scheme::Tcp, 9))
        );
        assert_eq!(both("a:9").map(|url| url.scheme), Ok(Scheme::Http));
        assert_eq!(both("http://a").map(|url| url.port), Ok(80));
        for bad in [
            "tcp://a",
            "tcp://[fd00::1]",
            "udp://a:9",
            "TCP://a:9",
            "tcp://tcp://a:9",
        ] {
            assert!(both(bad).is_err(), "{bad}");
        }
    }
}
