//! Links of what is proxied: in HTML and in `Location`, those to the backend are made to lead through the proxy
//! again. What is rewritten is what Kubernetes' proxy rewrites.

pub(crate) mod fuzz;

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::{Read, Write};

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::{StreamExt, stream};
use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};
use http::response::Parts;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Frame;

use crate::reply::{self, Body, BoxError};

/// The largest page whose links are looked for, unpacked; larger ones pass as they are.
const MAX_PAGE: usize = 8 << 20;

/// Which attributes of which elements are links.
const LINKS: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Where links lead, and where they are to lead.
#[derive(Debug)]
pub(super) struct Links {
    /// The path of the proxy.
    pub(super) base: String,
    /// Who the backend is, as a URL has it.
    pub(super) backend: String,
    /// Who the client asked, if it said so: backends may use that name for themselves.
    pub(super) asked: Option<String>,
}

impl Links {
    /// The link through the proxy; nothing if it stays as it is.
    fn through(&self, link: &str) -> Option<String> {
        let (origin, path) = split(link)?;
        let host = origin.split_once("//").map_or("", |(_, host)| host);
        let asked = !host.is_empty() && self.asked.as_deref() == Some(host);
        if !(host.is_empty() || host == self.backend || asked) {
            return None;
        }
        // Whom the client asked it may ask again by that name.
        let origin = if asked { origin } else { "" };
        let path = if path.starts_with('/') {
            Cow::Borrowed(path)
        } else {
            format!("/{path}").into()
        };
        let base = match leads_below(&path, &self.base) {
            true => "",
            false => &self.base,
        };
        let through = format!("{origin}{base}{path}");
        (through != link).then_some(through)
    }

    /// A redirect to the backend itself leads through the proxy again.
    pub(super) fn relocate(&self, headers: &mut HeaderMap) {
        let location = headers.get(header::LOCATION);
        let through = location.and_then(|location| self.through(location.to_str().ok()?));
        if let Some(through) = through.and_then(|through| through.parse().ok()) {
            headers.insert(header::LOCATION, through);
        }
    }

    /// The body of an answer, rewritten as a whole if it is a page.
    pub(super) fn rewrite(self, head: &mut Parts, body: Body) -> Body {
        let Some(packed) = is_page(head) else {
            return body;
        };
        head.headers.remove(header::CONTENT_LENGTH);
        let rewriting = async move {
            match gather(body).await {
                Gathered::Whole(page) => match self.in_bytes(&page, packed) {
                    Some(rewritten) => reply::full(rewritten),
                    None => reply::full(page),
                },
                Gathered::TooLarge(body) => body,
            }
        };
        BodyExt::boxed_unsync(StreamBody::new(stream::once(rewriting).flat_map(BodyStream::new)))
    }

    /// A page with its links rewritten; nothing if it stays as it is.
    fn in_bytes(&self, page: &[u8], packed: bool) -> Option<Vec<u8>> {
        if !packed {
            return self.in_page(page);
        }
        let mut plain = Vec::new();
        let limit = MAX_PAGE as u64 + 1;
        MultiGzDecoder::new(page)
            .take(limit)
            .read_to_end(&mut plain)
            .ok()?;
        let rewritten = self.in_page(&plain).filter(|_| plain.len() <= MAX_PAGE)?;
        let mut encoder = GzEncoder::new(Vec::with_capacity(page.len()), Compression::fast());
        encoder.write_all(&rewritten).ok()?;
        encoder.finish().ok()
    }

    fn in_page(&self, page: &[u8]) -> Option<Vec<u8>> {
        let mut links: &[&str] = &[];
        let mut is_link = false;
        let mut changes: Vec<(Span, String)> = Vec::new();
        let mut emitter =
            CallbackEmitter::new(|event: CallbackEvent<'_>, span: Span| -> Option<Infallible> {
                match event {
                    CallbackEvent::OpenStartTag { name } => links = attributes(name),
                    CallbackEvent::CloseStartTag { .. } | CallbackEvent::EndTag { .. } => links = &[],
                    CallbackEvent::AttributeName { name } => {
                        is_link = links.iter().any(|link| link.as_bytes() == name);
                    }
                    CallbackEvent::AttributeValue { value } if is_link => {
                        let through = std::str::from_utf8(value)
                            .ok()
                            .and_then(|link| self.through(link));
                        changes.extend(through.map(|link| (span, link)));
                    }
                    _ => {}
                }
                None
            });
        emitter.naively_switch_states(true);
        let Ok(()) = Tokenizer::new_with_emitter(page, emitter).finish();
        (!changes.is_empty()).then(|| apply(page, &changes))
    }
}

/// Puts other values in the places of attributes' values.
fn apply(page: &[u8], changes: &[(Span, String)]) -> Vec<u8> {
    let added: usize = changes.iter().map(|(_, value)| value.len()).sum();
    let mut rewritten = Vec::with_capacity(page.len() + added);
    let mut done = 0;
    for (span, value) in changes {
        let before = &page[done..span.start];
        rewritten.extend_from_slice(before);
        // A value without quotes gets some: what it is made of may need them now.
        let quoted = matches!(before.last(), Some(b'"' | b'\''));
        let quote = if quoted { "" } else { "\"" };
        let value = value
            .replace('&', "&amp;")
            .replace('"', "&#34;")
            .replace('\'', "&#39;");
        rewritten.extend_from_slice(format!("{quote}{value}{quote}").as_bytes());
        done = span.end;
    }
    rewritten.extend_from_slice(&page[done..]);
    rewritten
}

fn attributes(element: &[u8]) -> &'static [&'static str] {
    let found = LINKS.iter().find(|(name, _)| name.as_bytes() == element);
    found.map_or(&[], |(_, attributes)| attributes)
}

/// A link's scheme and host, and the rest; nothing if it is relative to the page, or no link at all.
fn split(link: &str) -> Option<(&str, &str)> {
    let host = match link.split_once("://") {
        _ if link.starts_with("//") => 2,
        Some((scheme, _)) if is_scheme(scheme) => scheme.len() + 3,
        _ => return link.starts_with('/').then_some(("", link)),
    };
    let end = link[host..].find(['/', '?', '#']);
    Some(link.split_at(end.map_or(link.len(), |end| host + end)))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Whether a path leads through the proxy already.
fn leads_below(path: &str, base: &str) -> bool {
    let rest = path.strip_prefix(base);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// Whether an answer is a page that can be read, and whether it is packed.
fn is_page(head: &Parts) -> Option<bool> {
    let text = |name| {
        head.headers
            .get(name)
            .map_or(Some(""), |value| value.to_str().ok())
    };
    let media_type = text(header::CONTENT_TYPE)?.split(';').next().unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("text/html")
        || head.headers.contains_key(header::LOCATION)
        || matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT
        )
    {
        return None;
    }
    match text(header::CONTENT_ENCODING)? {
        "" => Some(false),
        "gzip" => Some(true),
        _ => None,
    }
}

enum Gathered {
    Whole(Bytes),
    /// What there was already is at its beginning.
    TooLarge(Body),
}

async fn gather(mut body: Body) -> Gathered {
    let mut gathered = BytesMut::new();
    loop {
        let (bytes, broken) = match body.frame().await {
            None => return Gathered::Whole(gathered.freeze()),
            Some(Ok(frame)) => (frame.into_data().unwrap_or_default(), None),
            Some(Err(error)) => (Bytes::new(), Some(error)),
        };
        gathered.extend_from_slice(&bytes);
        if gathered.len() > MAX_PAGE || broken.is_some() {
            return Gathered::TooLarge(chain(gathered.freeze(), broken, body));
        }
    }
}

/// Bytes, and what follows: an error, or the rest of a body.
fn chain(first: Bytes, broken: Option<BoxError>, rest: Body) -> Body {
    let first = [Some(Ok(Frame::data(first))), broken.map(Err)];
    let first = stream::iter(first.into_iter().flatten());
    BodyExt::boxed_unsync(StreamBody::new(first.chain(BodyStream::new(rest))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn links() -> Links {
        Links {
            base: "/api/v1/namespaces/x/pods/http:web:80/proxy".into(),
            backend: "10.0.0.1:80".into(),
            asked: Some("localhost:8001".into()),
        }
    }

    fn rewritten(page: &str) -> String {
        let rewritten = links().in_page(page.as_bytes());
        rewritten.map_or(page.to_owned(), |page| String::from_utf8(page).unwrap())
    }

    #[test]
    fn redirects_to_the_backend_come_back_through_the_proxy() {
        let base = links().base;
        for (location, expected) in [
            ("/login", format!("{base}/login")),
            ("http://10.0.0.1:80/a?b", format!("{base}/a?b")),
            ("http://10.0.0.1:80", format!("{base}/")),
            ("http://10.0.0.1:80?b#c", format!("{base}/?b#c")),
            ("//10.0.0.1:80/a", format!("{base}/a")),
            (
                "http://localhost:8001/a/",
                format!("http://localhost:8001{base}/a/"),
            ),
            (&format!("{base}/a"), format!("{base}/a")),
            (&format!("{base}y/a"), format!("{base}{base}y/a")),
            (
                "/?to=http://example.org/",
                format!("{base}/?to=http://example.org/"),
            ),
            ("http://10.0.0.1:8080/a", "http://10.0.0.1:8080/a".into()),
            ("https://example.org/", "https://example.org/".into()),
            ("//example.org/", "//example.org/".into()),
            (
                "next?to=http://10.0.0.1:80/",
                "next?to=http://10.0.0.1:80/".into(),
            ),
            ("mailto:a@b", "mailto:a@b".into()),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, location.parse().unwrap());
            links().relocate(&mut headers);
            assert_eq!(headers[header::LOCATION], expected, "{location}");
        }
    }

    #[test]
    fn links_of_a_page_lead_through_the_proxy_and_all_else_stays() {
        let base = links().base;
        for (page, expected) in [
            (
                "<a href=\"/x\">test</a>",
                format!("<a href=\"{base}/x\">test</a>"),
            ),
            (
                "<A  HREF = '/x?a&amp;b' id=/y>",
                format!("<A  HREF = '{base}/x?a&amp;b' id=/y>"),
            ),
            (
                "<img src=/x.png alt=/y>",
                format!("<img src=\"{base}/x.png\" alt=/y>"),
            ),
            ("<a href=/x>", format!("<a href=\"{base}/x\">")),
            (
                "<script src='/x.js'>'<a href=\"/y\">'</script>",
                format!("<script src='{base}/x.js'>'<a href=\"/y\">'</script>"),
            ),
            (
                "<p>\u{fc}\r\n<img src=\"/a\" longdesc=\"/b\"/></p><link href='/c'>",
                format!(
                    "<p>\u{fc}\r\n<img src=\"{base}/a\" longdesc=\"{base}/b\"/></p><link href='{base}/c'>"
                ),
            ),
            (
                "<a title=\"/x\" href=\"x\">/y</a>",
                "<a title=\"/x\" href=\"x\">/y</a>".into(),
            ),
            (
                "<!-- <a href=\"/x\"> --><p href=/x>",
                "<!-- <a href=\"/x\"> --><p href=/x>".into(),
            ),
            (
                "<a href=\"https://example.org/\"",
                "<a href=\"https://example.org/\"".into(),
            ),
        ] {
            assert_eq!(rewritten(page), expected, "{page}");
        }
    }

    #[test]
    fn a_packed_page_is_unpacked_and_packed_again() {
        let pack = |plain: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        };
        let packed = links().in_bytes(&pack(b"<a href=/x>"), true).unwrap();
        let mut plain = String::new();
        MultiGzDecoder::new(&packed[..])
            .read_to_string(&mut plain)
            .unwrap();
        assert_eq!(plain, rewritten("<a href=/x>"));
        assert_eq!(links().in_bytes(b"<a href=/x>", true), None);
        let mut bomb = b"<a href=/x>".to_vec();
        bomb.resize(MAX_PAGE + 1, b' ');
        assert_eq!(links().in_bytes(&pack(&bomb), true), None);
    }

    #[tokio::test]
    async fn a_page_too_large_passes_as_it_is() {
        for (content_type, size, changed) in [
            ("text/html; charset=utf-8", MAX_PAGE, true),
            ("text/html", MAX_PAGE + 1, false),
            ("text/plain", 100, false),
        ] {
            let mut page = b"<a href=/x>".to_vec();
            page.resize(size, b' ');
            let head = http::Response::builder()
                .header(header::CONTENT_TYPE, content_type)
                .header(header::CONTENT_LENGTH, size);
            let mut head = head.body(()).unwrap().into_parts().0;
            let body = links().rewrite(&mut head, reply::full(page.clone()));
            let body = body.collect().await.unwrap().to_bytes();
            assert_eq!(body != page, changed, "{content_type} {size}");
            assert_eq!(body.len() > size, changed);
        }
    }

    proptest! {
        /// Whatever the page, only values change, and they lead through the proxy.
        #[test]
        fn any_page_keeps_what_is_around_its_links(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "<a href=\"/", "x\"", "'", ">", "<a ", "href=/y", " ", "<!--", "-->", "<script>", "</script>", "&amp;",
                "\u{fc}", "\n", "=", "/", "</a>", "<img src='/", "<title>", "<textarea href=/", "text",
            ]), 0..24)
        ) {
            let page = pieces.concat();
            let links = links();
            let new = rewritten(&page);
            let undone = new.replace(&links.base, "");
            let plain = |text: &str| text.replace(['"', '\''], "").replace("&amp;", "&").replace("&#34;", "").replace("&#39;", "");
            prop_assert_eq!(plain(&undone), plain(&page));
            // What leads through the proxy stays as it is.
            prop_assert_eq!(rewritten(&new), new);
        }
    }
}
