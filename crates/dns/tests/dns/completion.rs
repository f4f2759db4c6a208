//! Search lists gone through for the client.

use dns::settings::Settings;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::lab::{Dns, Upstream, ip, lines};

/// A DNS for a pod at 127.0.0.1, where tests ask from.
fn for_pod(dns: &Dns, namespace: &str) {
    let own = format!("{namespace}.svc.cluster.local");
    let list = [own.as_str(), "svc.cluster.local", "cluster.local", "corp.example"].map(str::to_owned);
    let pod = (namespace.to_owned(), "web-0".to_owned());
    dns.resolver
        .change_searches(|searches| searches.put(pod, vec![ip("127.0.0.1")], list.into()));
}

fn outside() -> Upstream {
    Upstream::knowing(
        300,
        &[
            ("www.example.com", "192.0.2.80"),
            ("www.example.com", "2001:db8::80"),
            ("wiki.corp.example", "192.0.2.81"),
            ("only-v4.example.com", "192.0.2.82"),
        ],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_is_enough() {
    let upstream = outside();
    let dns = Dns::start(&[upstream.address]);
    for_pod(&dns, "web");
    for (name, found, address) in [
        ("www.example.com", "www.example.com", "192.0.2.80"),
        ("wiki", "wiki.corp.example", "192.0.2.81"),
        (
            "kubernetes.default",
            "kubernetes.default.svc.cluster.local",
            "10.96.0.1",
        ),
        (
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "10.96.0.1",
        ),
        (
            "kubernetes.default.svc.cluster.local",
            "kubernetes.default.svc.cluster.local",
            "10.96.0.1",
        ),
        (
            "db-0.db.default",
            "db-0.db.default.svc.cluster.local",
            "10.244.1.2",
        ),
    ] {
        let asked = format!("{name}.web.svc.cluster.local");
        let reply = dns.ask(&asked, RecordType::A).await;
        assert_eq!(
            lines(&reply.answers),
            {
                let mut lines = [
                    format!("{asked}. CNAME {found}."),
                    format!("{found}. A {address}"),
                ];
                lines.sort();
                lines
            },
            "{name}"
        );
    }
    // Cluster names told nobody, and the outside ones what had to be asked.
    assert_eq!(dns.counter("completions_total"), 6);
    assert_eq!(
        upstream.asked(),
        3,
        "www.example.com.corp.example, www.example.com and wiki.corp.example"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_that_is_found_is_the_same_for_every_type() {
    let upstream = outside();
    let dns = Dns::start(&[upstream.address]);
    for_pod(&dns, "web");
    let reply = dns
        .ask("only-v4.example.com.web.svc.cluster.local", RecordType::AAAA)
        .await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!(
        lines(&reply.answers),
        ["only-v4.example.com.web.svc.cluster.local. CNAME only-v4.example.com."]
    );
    assert_eq!(reply.authorities.len(), 1, "there is no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_pods_resolver_asks_first_is_completed() {
    let upstream = outside();
    let dns = Dns::start(&[upstream.address]);
    let missing = async |name: &str| {
        let reply = dns.ask(name, RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{name}");
        assert!(reply.answers.is_empty(), "{name}");
    };
    missing("www.example.com.web.svc.cluster.local").await;
    for_pod(&dns, "web");
    missing("www.example.com.svc.cluster.local").await;
    missing("www.example.com.default.svc.cluster.local").await;
    missing("nobody.web.svc.cluster.local").await;
    missing("no.such.example.com.web.svc.cluster.local").await;
    let settings = Settings {
        search_completion: false,
        ..Settings::default()
    };
    dns.resolver.set_settings(settings);
    missing("www.example.com.web.svc.cluster.local").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_others_do_not_answer_the_client_goes_on_by_itself() {
    let failing = Upstream::start(|asked, _| {
        let mut reply = crate::lab::reply_to(asked);
        reply.metadata.response_code = ResponseCode::ServFail;
        vec![reply.to_vec().unwrap()]
    });
    let dns = Dns::start(&[failing.address]);
    for_pod(&dns, "web");
    let reply = dns
        .ask("www.example.com.web.svc.cluster.local", RecordType::A)
        .await;
    assert_eq!(
        reply.metadata.response_code,
        ResponseCode::NXDomain,
        "which is true of this name"
    );
    // Names of the cluster don't wait for it.
    let before = failing.asked();
    let reply = dns
        .ask(
            "kubernetes.default.svc.cluster.local.web.svc.cluster.local",
            RecordType::A,
        )
        .await;
    assert_eq!(reply.answers.len(), 2);
    assert_eq!(failing.asked(), before);
}
