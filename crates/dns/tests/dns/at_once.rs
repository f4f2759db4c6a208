//! What is answered at once is what would be answered otherwise.

use std::sync::{Arc, LazyLock};

use dns::forward::{Bounds, Forwarder};
use dns::metrics::Metrics;
use dns::resolver::Resolver;
use dns::wire;
use futures::FutureExt;
use hickory_proto::op::{Edns, Message};
use hickory_proto::rr::RecordType;
use proptest::prelude::*;
use rstest::rstest;

use crate::lab::{cluster, ip, query, routes};

static RESOLVER: LazyLock<Arc<Resolver>> = LazyLock::new(|| {
    let metrics = Arc::new(Metrics::default());
    let forwarder = Forwarder::new(routes(&[]), Bounds::default(), Arc::clone(&metrics));
    let resolver = Resolver::new(cluster(), forwarder, Vec::new(), metrics);
    resolver.set_known();
    Arc::new(resolver)
});

/// The reply at once, if there is one, and what is said to the same bytes otherwise.
fn both(bytes: &[u8]) -> Option<(Message, Message)> {
    let client = ip("10.244.1.2");
    let mut at_once = Vec::new();
    if !RESOLVER.reply_at_once(bytes, client, &mut at_once) {
        return None;
    }
    let question = wire::read(bytes).expect("what is answered can be read");
    let limit = question.udp_limit();
    assert!(at_once.len() <= limit);
    let reply = Arc::clone(&RESOLVER).reply(question, client, limit);
    let reply = reply.now_or_never().expect("nobody has to be asked");
    Some((
        Message::from_vec(&at_once).expect("a message"),
        Message::from_vec(&reply).expect("a message"),
    ))
}

#[rstest]
#[case::v4("only-v4", RecordType::A, true)]
#[case::v6("kubernetes", RecordType::AAAA, true)]
#[case::none_of_v6("only-v4", RecordType::AAAA, true)]
#[case::another_type("kubernetes", RecordType::SRV, false)]
#[case::headless("db", RecordType::A, false)]
#[case::external("outside", RecordType::A, false)]
#[case::missing("nobody", RecordType::A, false)]
fn a_services_own_addresses_are_answered_at_once(
    #[case] service: &str,
    #[case] kind: RecordType,
    #[case] expected: bool,
) {
    let mut message = query(&format!("{service}.default.svc.cluster.local"), kind);
    let plain = both(&message.to_vec().unwrap());
    message.set_edns(Edns::new());
    let with_edns = both(&message.to_vec().unwrap());
    for found in [plain, with_edns] {
        assert_eq!(found.is_some(), expected);
        if let Some((at_once, otherwise)) = found {
            assert_eq!(at_once, otherwise);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_said_at_once_is_what_would_be_said_otherwise(
        name in "(kubernetes|only-v4|db|nobody)\\.(default|empty)\\.(svc|SVC|pod)\\.(cluster|Cluster)\\.local",
        v6 in any::<bool>(),
        edns in prop::option::of((any::<u16>(), any::<bool>())),
        changes in prop::collection::vec((0..80usize, any::<u8>()), 0..3),
        flags in any::<u8>(),
        more in prop::collection::vec(any::<u8>(), 0..2),
    ) {
        let mut message = query(&name, if v6 { RecordType::AAAA } else { RecordType::A });
        if let Some((max, signed)) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(max).set_dnssec_ok(signed);
            message.set_edns(edns);
        }
        let mut bytes = message.to_vec().unwrap();
        bytes[3] = flags;
        for (at, with) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
        }
        bytes.extend(more);
        if let Some((at_once, otherwise)) = both(&bytes) {
            prop_assert!(at_once.queries[0].name().eq_case(otherwise.queries[0].name()));
            prop_assert_eq!(at_once, otherwise);
        }
    }
}
