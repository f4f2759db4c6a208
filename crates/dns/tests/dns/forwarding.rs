//! Names that aren't the cluster's: servers that are dead, slow, lying or in a circle.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dns::forward::{Bounds, Transport, Way};
use dns::settings::Settings;
use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use rstest::rstest;
use socket2::{Domain, Socket, Type};
use testkit::TestNs;

use crate::lab::{Dns, Upstream, answer, lines, named, query, reply_to, routes, soa};

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.2:0").unwrap().local_addr().unwrap()
}

/// A server that never answers.
fn silent() -> Upstream {
    Upstream::start(|_, _| Vec::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_asked_for_once_and_remembered() {
    let upstream = Upstream::knowing(
        300,
        &[
            ("www.example.com", "192.0.2.80"),
            ("www.example.com", "2001:db8::80"),
        ],
    );
    let dns = Dns::start(&[upstream.address]);
    for name in ["www.example.com", "WWW.example.COM", "www.Example.com"] {
        let reply = dns.ask(name, RecordType::A).await;
        assert_eq!(
            lines(&reply.answers),
            [format!("{name}. A 192.0.2.80")],
            "spelt as it was asked"
        );
        assert!(reply.metadata.recursion_available && !reply.metadata.authoritative);
        assert!((290..=300).contains(&reply.answers[0].ttl));
    }
    assert_eq!(upstream.asked(), 1);
    dns.ask("www.example.com", RecordType::AAAA).await;
    assert_eq!(upstream.asked(), 2, "another type is another question");
    assert_eq!(dns.counter("cache_hits_total"), 2);
}

/// As dnsmasq or unbound on the machine whose namespaces nodes are.
#[tokio::test(flavor = "multi_thread")]
async fn servers_on_the_machines_loopback_are_asked_from_there() {
    let machine = Arc::new(TestNs::new("machine").await);
    let behave = |asked: &Message, by_tcp: bool| {
        let mut reply = answer(asked, 300, "192.0.2.80");
        if !by_tcp && asked.queries[0].name() == &named("long.example.com") {
            reply.metadata.truncation = true;
        }
        vec![reply.to_vec().unwrap()]
    };
    let upstream = machine.within(|| Upstream::start(behave));
    let there = Arc::clone(&machine);
    let open = move |server: SocketAddr, transport| {
        let kind = match transport {
            Transport::Udp => Type::DGRAM,
            Transport::Tcp => Type::STREAM,
        };
        there.within(|| Socket::new(Domain::for_address(server), kind, None).map(Into::into))
    };
    let dns = Dns::by(&[upstream.address], Way::to_loopback(Arc::new(open)));
    for name in ["www.example.com", "long.example.com"] {
        let reply = dns.ask(name, RecordType::A).await;
        assert_eq!(lines(&reply.answers), [format!("{name}. A 192.0.2.80")]);
    }
    assert_eq!((upstream.asked(), upstream.asked_by_tcp()), (2, 1));
    let elsewhere = Dns::start(&[upstream.address]);
    let reply = elsewhere.ask("www.example.com", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_there_is_none_is_remembered_too() {
    let upstream = Upstream::knowing(300, &[("www.example.com", "192.0.2.80")]);
    let dns = Dns::start(&[upstream.address]);
    for _ in 0..3 {
        let reply = dns.ask("no.example.com", RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(reply.authorities.len(), 1);
        let reply = dns.ask("www.example.com", RecordType::AAAA).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.answers.is_empty());
    }
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_the_same_are_one_question() {
    let upstream = Upstream::start(|asked, _| {
        std::thread::sleep(Duration::from_millis(200));
        vec![answer(asked, 300, "192.0.2.80").to_vec().unwrap()]
    });
    let dns = Arc::new(Dns::start(&[upstream.address]));
    let ask = || {
        let dns = Arc::clone(&dns);
        tokio::spawn(async move { dns.ask("www.example.com", RecordType::A).await })
    };
    for reply in futures::future::join_all((0..50).map(|_| ask())).await {
        assert_eq!(reply.unwrap().answers.len(), 1);
    }
    assert_eq!(upstream.asked(), 1);
}

#[rstest]
#[case::nobody_there(Some(nobody()))]
#[case::silent(None)]
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_costs_the_first_question_and_not_the_next(#[case] dead: Option<SocketAddr>) {
    let silent = silent();
    let upstream = Upstream::knowing(0, &[("www.example.com", "192.0.2.80")]);
    let dns = Dns::start(&[dead.unwrap_or(silent.address), upstream.address]);
    for _ in 0..6 {
        let reply = dns.ask("www.example.com", RecordType::A).await;
        assert_eq!(reply.answers.len(), 1);
    }
    // Twice it's given a chance; then others are asked first for some seconds.
    assert!(silent.asked() <= 3, "{}", silent.asked());
}

#[rstest]
#[case(ResponseCode::ServFail)]
#[case(ResponseCode::Refused)]
#[case(ResponseCode::NotImp)]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_know_is_not_the_last_word(#[case] code: ResponseCode) {
    let unknowing = Upstream::start(move |asked, _| {
        let mut reply = reply_to(asked);
        reply.metadata.response_code = code;
        vec![reply.to_vec().unwrap()]
    });
    let knowing = Upstream::knowing(300, &[("www.example.com", "192.0.2.80")]);
    let dns = Dns::start(&[unknowing.address, knowing.address]);
    assert_eq!(dns.ask("www.example.com", RecordType::A).await.answers.len(), 1);
    let alone = Dns::start(&[unknowing.address]);
    let reply = alone.ask("www.example.com", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_before_edns_is_asked_in_its_way() {
    let old = Upstream::start(|asked, _| {
        let mut reply = answer(asked, 300, "192.0.2.80");
        if asked.edns.is_some() {
            reply.answers.clear();
            reply.metadata.response_code = ResponseCode::FormErr;
        }
        vec![reply.to_vec().unwrap()]
    });
    let dns = Dns::start(&[old.address]);
    assert_eq!(dns.ask("www.example.com", RecordType::A).await.answers.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_is_not_believed_and_the_truth_is_waited_for() {
    let upstream = Upstream::start(|asked, _| {
        let lie = |change: fn(&mut Message)| {
            let mut lie = answer(asked, 300, "203.0.113.66");
            change(&mut lie);
            lie.to_vec().unwrap()
        };
        vec![
            lie(|lie| lie.metadata.id = lie.metadata.id.wrapping_add(1)),
            lie(|lie| {
                lie.queries[0].set_name(named("www.example.org"));
            }),
            lie(|lie| {
                lie.queries[0].set_query_type(RecordType::AAAA);
            }),
            lie(|lie| lie.queries.clear()),
            b"\0\0nonsense".to_vec(),
            answer(asked, 300, "192.0.2.80").to_vec().unwrap(),
        ]
    });
    let dns = Dns::start(&[upstream.address]);
    let reply = dns.ask("www.example.com", RecordType::A).await;
    assert_eq!(lines(&reply.answers), ["www.example.com. A 192.0.2.80"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_broken_is_none() {
    let broken = Upstream::start(|asked, _| {
        let mut bytes = answer(asked, 300, "192.0.2.80").to_vec().unwrap();
        let length = bytes.len();
        bytes.truncate(length - 2);
        vec![bytes]
    });
    let dns = Dns::start(&[broken.address]);
    let reply = dns.ask("www.example.com", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

/// A server that has as many addresses, and says so only by TCP.
fn with_many(count: u8) -> Upstream {
    Upstream::start(move |asked, by_tcp| {
        let mut reply = reply_to(asked);
        let name = asked.queries[0].name().clone();
        if by_tcp {
            let records = (0..count).map(|number| {
                let data = crate::lab::data_of(&format!("192.0.2.{number}"));
                Record::from_rdata(name.clone(), 300, data)
            });
            reply.insert_answers(records.collect());
        } else {
            reply.metadata.truncation = true;
        }
        vec![reply.to_vec().unwrap()]
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_comes_by_tcp_as_far_as_it_has_to() {
    let upstream = with_many(100);
    let dns = Dns::start(&[upstream.address]);
    let reply = dns.ask("many.example.com", RecordType::A).await;
    assert!(reply.metadata.truncation);
    assert!(
        (20..40).contains(&reply.answers.len()),
        "as many as fit into 512 bytes: {}",
        reply.answers.len()
    );
    let mut modern = query("many.example.com", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    modern.set_edns(edns);
    let reply = dns.send(modern).await;
    assert!(reply.metadata.truncation && reply.edns.is_some());
    assert!(
        (60..80).contains(&reply.answers.len()),
        "as many as fit into 1232 bytes: {}",
        reply.answers.len()
    );
    let reply = dns
        .ask_by_tcp(vec![query("many.example.com", RecordType::A)])
        .await;
    assert!(!reply[0].metadata.truncation);
    assert_eq!(reply[0].answers.len(), 100);
    assert_eq!(upstream.asked_by_tcp(), 1, "remembered whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_answer_is_better_than_none() {
    let dead = Arc::new(AtomicBool::new(false));
    let is_dead = Arc::clone(&dead);
    let upstream = Upstream::start(move |asked, _| match is_dead.load(Ordering::SeqCst) {
        true => Vec::new(),
        false => vec![answer(asked, 1, "192.0.2.80").to_vec().unwrap()],
    });
    let dns = Dns::start(&[upstream.address]);
    assert_eq!(dns.ask("www.example.com", RecordType::A).await.answers[0].ttl, 1);
    dead.store(true, Ordering::SeqCst);
    let old = async || loop {
        let reply = dns.ask("www.example.com", RecordType::A).await;
        assert_eq!(lines(&reply.answers), ["www.example.com. A 192.0.2.80"]);
        if reply.answers[0].ttl == 30 {
            return;
        }
    };
    old().await;
    // The failed attempt is over some seconds later: then nobody waits for the next one.
    while upstream.asked() < 3 {
        old().await;
    }
    assert!(dns.counter("stale_answers_total") >= 1);
    dns.resolver.forwarder().set_routes(dns::forward::Routes {
        stale: Duration::ZERO,
        ..routes(&[upstream.address])
    });
    let reply = dns.ask("www.example.com", RecordType::A).await;
    assert_eq!(
        reply.metadata.response_code,
        ResponseCode::ServFail,
        "unless people don't want that"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_remembered_for_a_moment() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = Upstream::start(move |asked, _| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut reply = reply_to(asked);
        reply.metadata.response_code = ResponseCode::ServFail;
        vec![reply.to_vec().unwrap()]
    });
    let dns = Dns::start(&[upstream.address]);
    for _ in 0..20 {
        let reply = dns.ask("broken.example.com", RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    }
    assert!(asked.load(Ordering::SeqCst) <= 4, "asked {asked:?} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_client_is_refused_and_the_cluster_answers_on() {
    let silent = silent();
    let bounds = Bounds {
        waiting_of_one: 5,
        ..Bounds::default()
    };
    let dns = Dns::bounded(&[silent.address], bounds);
    let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..50 {
        let question = query(&format!("n{number}.example.com"), RecordType::A);
        flood.send_to(&question.to_vec().unwrap(), dns.address).unwrap();
    }
    let refused = tokio::task::spawn_blocking(move || {
        flood.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut buffer = [0; 512];
        let refused = (0..45).filter(|_| {
            let length = flood.recv(&mut buffer).unwrap();
            Message::from_vec(&buffer[..length])
                .unwrap()
                .metadata
                .response_code
                == ResponseCode::Refused
        });
        refused.count()
    });
    let reply = dns
        .ask("kubernetes.default.svc.cluster.local", RecordType::A)
        .await;
    assert_eq!(reply.answers.len(), 1);
    assert_eq!(refused.await.unwrap(), 45);
    assert_eq!(dns.counter("limit_refusals_total"), 45);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_what_it_would_be_asked_is_a_loop() {
    let upstream = Upstream::knowing(300, &[("www.example.com", "192.0.2.80")]);
    let dns = Dns::start(&[upstream.address]);
    let resolver = Arc::clone(&dns.resolver);
    let question = dns::wire::read(&query("www.example.com", RecordType::A).to_vec().unwrap()).unwrap();
    let reply = resolver.reply(question, upstream.address.ip(), 512).await;
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!((upstream.asked(), dns.counter("loops_total")), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn some_domains_have_servers_of_their_own() {
    let usual = Upstream::knowing(300, &[("www.example.com", "192.0.2.1")]);
    let corp = Upstream::knowing(300, &[("git.corp.example", "192.0.2.2")]);
    let part = Upstream::knowing(300, &[("a.part.corp.example", "192.0.2.3")]);
    let dns = Dns::start(&[usual.address]);
    dns.resolver.forwarder().set_routes(dns::forward::Routes {
        stubs: vec![
            (named("part.corp.example"), vec![part.address]),
            (named("corp.example"), vec![corp.address]),
        ],
        ..routes(&[usual.address])
    });
    for (name, address) in [
        ("www.example.com", 1),
        ("git.corp.example", 2),
        ("A.part.Corp.example", 3),
    ] {
        let reply = dns.ask(name, RecordType::A).await;
        assert_eq!(lines(&reply.answers), [format!("{name}. A 192.0.2.{address}")]);
    }
    assert_eq!([usual.asked(), corp.asked(), part.asked()], [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_have_names_of_their_own() {
    let upstream = Upstream::knowing(300, &[]);
    let dns = Dns::start(&[upstream.address]);
    let mut settings = Settings::default();
    settings.hosts.insert(
        named("registry.corp.example"),
        vec!["192.0.2.80".parse().unwrap()],
    );
    dns.resolver.set_settings(settings);
    let reply = dns.ask("Registry.corp.example", RecordType::A).await;
    assert_eq!(lines(&reply.answers), ["Registry.corp.example. A 192.0.2.80"]);
    let reply = dns.ask("registry.corp.example", RecordType::AAAA).await;
    assert_eq!(
        (reply.metadata.response_code, reply.answers.len()),
        (ResponseCode::NoError, 0)
    );
    assert_eq!(upstream.asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_name_brings_its_addresses() {
    let upstream = Upstream::knowing(300, &[("www.example.com", "192.0.2.80")]);
    let dns = Dns::start(&[upstream.address]);
    let reply = dns.ask("outside.default.svc.cluster.local", RecordType::A).await;
    assert_eq!(
        lines(&reply.answers),
        [
            "outside.default.svc.cluster.local. CNAME www.example.com.",
            "www.example.com. A 192.0.2.80"
        ]
    );
    let reply = dns
        .ask("outside.default.svc.cluster.local", RecordType::CNAME)
        .await;
    assert_eq!(reply.answers.len(), 1);
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_for_no_time_is_not_kept_and_what_is_beside_the_matter_is_not_passed_on() {
    let upstream = Upstream::start(|asked, _| {
        let mut reply = answer(asked, 0, "192.0.2.80");
        reply.add_authority(soa(9));
        let name = named("victim.example");
        reply.add_additional(Record::from_rdata(name, 300, crate::lab::data_of("203.0.113.66")));
        vec![reply.to_vec().unwrap()]
    });
    let dns = Dns::start(&[upstream.address]);
    for _ in 0..2 {
        let reply = dns.ask("www.example.com", RecordType::A).await;
        assert!(reply.additionals.is_empty());
        assert!(matches!(reply.answers[0].data, RData::A(_)));
    }
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_servers_outside_names_fail_at_once() {
    let dns = Dns::start(&[]);
    let reply = dns.ask("www.example.com", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    let mut question = query("www.example.com", RecordType::A);
    question.metadata.recursion_desired = false;
    assert_eq!(
        dns.send(question).await.metadata.response_code,
        ResponseCode::Refused
    );
}
