//! Messages as they come: cut, bent, nonsense, many at a time; and who may ask.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use dns::forward::{Bounds, Forwarder};
use dns::metrics::Metrics;
use dns::resolver::Resolver;
use dns::wire;
use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_proto::rr::RecordType;
use proptest::prelude::*;
use rstest::rstest;

use crate::lab::{Dns, cluster, ip, named, query, routes, table};

fn code(bytes: &[u8]) -> ResponseCode {
    Message::from_vec(bytes).unwrap().metadata.response_code
}

#[rstest]
#[case::no_question(|message: &mut Message| message.queries.clear(), ResponseCode::FormErr)]
#[case::two_questions(|message: &mut Message| { let query = message.queries[0].clone(); message.add_query(query); }, ResponseCode::FormErr)]
#[case::update(|message: &mut Message| message.metadata.op_code = OpCode::Update, ResponseCode::NotImp)]
#[case::notify(|message: &mut Message| message.metadata.op_code = OpCode::Notify, ResponseCode::NotImp)]
#[case::transfer(|message: &mut Message| { message.queries[0].set_query_type(RecordType::AXFR); }, ResponseCode::Refused)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_is_told_so(#[case] change: fn(&mut Message), #[case] expected: ResponseCode) {
    let dns = Dns::start(&[]);
    let mut message = query("kubernetes.default.svc.cluster.local", RecordType::A);
    change(&mut message);
    let reply = dns.send_bytes(message.to_vec().unwrap()).await;
    assert_eq!(code(&reply), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_edns_than_ours_is_told_so() {
    let dns = Dns::start(&[]);
    let mut message = query("kubernetes.default.svc.cluster.local", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    message.set_edns(edns);
    // 16 is the number of two codes.
    assert_eq!(u16::from(dns.send(message).await.metadata.response_code), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_no_question_and_gets_none() {
    let dns = Dns::start(&[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut answer = query("kubernetes.default.svc.cluster.local", RecordType::A);
    answer.metadata.message_type = hickory_proto::op::MessageType::Response;
    let question = query("db.default.svc.cluster.local", RecordType::A);
    for bytes in [
        answer.to_vec().unwrap(),
        b"short".to_vec(),
        Vec::new(),
        question.to_vec().unwrap(),
    ] {
        socket.send_to(&bytes, dns.address).unwrap();
    }
    let received = tokio::task::spawn_blocking(move || {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..length]).unwrap().metadata.id
    });
    assert_eq!(
        received.await.unwrap(),
        question.metadata.id,
        "the first answer is to the question"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_endpoints_are_told_as_far_as_they_fit_and_all_by_tcp() {
    let dns = Dns::start(&[]);
    dns.resolver.change(|table| {
        let endpoints =
            (0..=255).map(|number| crate::lab::endpoint(&format!("10.244.9.{number}"), None, true));
        let slice = dns::record::Slice {
            service: "db".to_owned(),
            endpoints: endpoints.collect(),
            ports: vec![crate::lab::port("sql", "tcp", 5432)],
        };
        table.put_slice(("default".to_owned(), "db-many".to_owned()), slice);
    });
    let reply = dns.ask("db.default.svc.cluster.local", RecordType::A).await;
    assert!(reply.metadata.truncation && reply.answers.len() > 10);
    let bytes = dns
        .send_bytes(
            query("_sql._tcp.db.default.svc.cluster.local", RecordType::SRV)
                .to_vec()
                .unwrap(),
        )
        .await;
    assert!(bytes.len() <= 512);
    let questions = vec![
        query("db.default.svc.cluster.local", RecordType::A),
        query("_sql._tcp.db.default.svc.cluster.local", RecordType::SRV),
        query("kubernetes.default.svc.cluster.local", RecordType::A),
    ];
    let mut counts: Vec<usize> = dns
        .ask_by_tcp(questions)
        .await
        .iter()
        .map(|reply| reply.answers.len())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 259, 259], "in whatever order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_nonsense_is_closed_and_others_go_on() {
    let dns = Dns::start(&[]);
    let address = dns.address;
    let work = tokio::task::spawn_blocking(move || {
        let mut streams: Vec<TcpStream> = (0..100)
            .filter_map(|_| TcpStream::connect(address).ok())
            .collect();
        for stream in &mut streams {
            let _ = stream.write_all(&[0xff; 300]);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.is_empty());
        }
    });
    let reply = dns.ask_by_tcp(vec![query("kubernetes.default.svc.cluster.local", RecordType::A)]);
    work.await.unwrap();
    assert_eq!(reply.await[0].answers.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() {
    let metrics = Arc::new(Metrics::default());
    let forwarder = Forwarder::new(routes(&[]), Bounds::default(), Arc::clone(&metrics));
    let clients = vec!["10.244.0.0/16".parse().unwrap()];
    let resolver = Arc::new(Resolver::new(cluster(), forwarder, clients, metrics));
    resolver.set_known();
    let ask = async |client: &str| {
        let bytes = query("kubernetes.default.svc.cluster.local", RecordType::A)
            .to_vec()
            .unwrap();
        let question = wire::read(&bytes).unwrap();
        code(&Arc::clone(&resolver).reply(question, ip(client), 512).await)
    };
    assert_eq!(ask("10.244.1.2").await, ResponseCode::NoError);
    assert_eq!(ask("::ffff:10.244.1.2").await, ResponseCode::NoError);
    assert_eq!(ask("127.0.0.1").await, ResponseCode::NoError);
    assert_eq!(ask("192.0.2.1").await, ResponseCode::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_names_are_known_nothing_is_said_to_be_missing() {
    let metrics = Arc::new(Metrics::default());
    let forwarder = Forwarder::new(routes(&[]), Bounds::default(), Arc::clone(&metrics));
    let dns = Dns::of(Arc::new(Resolver::new(table(), forwarder, Vec::new(), metrics)));
    let reply = dns
        .ask("kubernetes.default.svc.cluster.local", RecordType::A)
        .await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = wire::read(&bytes);
        let asked = query("www.example.com", RecordType::A).to_vec().unwrap();
        let _ = wire::Packet::read(&bytes, &asked);
    }

    #[test]
    fn no_question_is_too_bent(
        at in 0..60usize,
        with in any::<u8>(),
        cut in 0..60usize,
        end in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut message = query("a.very.long.name.default.svc.cluster.local", RecordType::A);
        message.set_edns(Edns::new());
        let mut bytes = message.to_vec().unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = with;
        }
        let keep = bytes.len().saturating_sub(cut);
        bytes.truncate(keep);
        bytes.extend(end);
        match wire::read(&bytes) {
            Ok(question) => {
                // What can be read can be answered.
                let reply = wire::render(&question, &wire::Answer::failed(ResponseCode::ServFail), 512);
                let reply = Message::from_vec(&reply).unwrap();
                prop_assert_eq!(reply.metadata.id, question.id);
                prop_assert!(reply.queries[0].name().eq_case(&question.name));
            }
            Err(wire::Wrong::Reply(reply)) => prop_assert!(Message::from_vec(&reply).is_ok()),
            Err(wire::Wrong::Silence) => {}
        }
    }

    #[test]
    fn no_reply_of_others_is_too_bent(at in 0..200usize, with in any::<u8>(), cut in 0..100usize, limit in 0..300usize) {
        let asked = query("www.example.com", RecordType::A);
        let mut reply = crate::lab::answer(&asked, 300, "192.0.2.80");
        reply.add_answer(hickory_proto::rr::Record::from_rdata(named("www.example.com"), 60, crate::lab::data_of("192.0.2.81")));
        reply.add_authority(crate::lab::soa(60));
        let mut bytes = reply.to_vec().unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = with;
        }
        let keep = bytes.len().saturating_sub(cut);
        bytes.truncate(keep);
        let asked = asked.to_vec().unwrap();
        if let Ok(packet) = wire::Packet::read(&bytes, &asked) {
            let question = wire::read(&asked).unwrap();
            let reply = packet.render(&question, wire::Left::After(7), limit.max(64));
            prop_assert!(reply.len() <= limit.max(64));
            prop_assert!(Message::from_vec(&reply).is_ok(), "{:?}", reply);
            let _ = packet.records(wire::Left::Stale);
        }
    }
}
