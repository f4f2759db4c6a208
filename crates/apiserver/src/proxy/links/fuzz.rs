//! What is made of a page, and of where a redirect leads.

use super::Links;

/// A page of a backend, or a link. What leads through the proxy stays as it is.
pub(crate) fn page(bytes: &[u8]) {
    let links = Links {
        base: "/api/v1/namespaces/default/services/web/proxy".to_owned(),
        backend: "web.default.svc".to_owned(),
        asked: Some("192.0.2.1:6443".to_owned()),
    };
    if let Some(rewritten) = links.in_page(bytes) {
        assert_eq!(
            links.in_page(&rewritten),
            None,
            "all of it leads through the proxy"
        );
    }
    if let Some(through) = str::from_utf8(bytes).ok().and_then(|link| links.through(link)) {
        assert_eq!(links.through(&through), None, "it leads through the proxy");
    }
}
