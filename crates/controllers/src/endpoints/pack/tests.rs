use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointPort};
use proptest::prelude::*;

use super::*;

fn endpoint(number: u32, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![format!(
            "10.{}.{}.{}",
            number >> 16,
            number >> 8 & 255,
            number & 255
        )],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        target_ref: Some(ObjectReference {
            uid: Some(number.to_string()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

fn port(number: i32) -> EndpointPort {
    EndpointPort {
        name: Some(String::new()),
        port: Some(number),
        protocol: Some("TCP".to_owned()),
        app_protocol: None,
    }
}

fn group(port_number: i32, endpoints: Vec<Endpoint>) -> Group {
    Group {
        family: "IPv4".to_owned(),
        ports: vec![port(port_number)],
        endpoints,
    }
}

fn template() -> Template {
    Template {
        prefix: "web-".to_owned(),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..Template::default()
    }
}

/// A server that does what it is told.
#[derive(Default)]
struct Server {
    slices: BTreeMap<String, Arc<EndpointSlice>>,
    made: usize,
}

impl Server {
    fn run(&mut self, groups: Vec<Group>) -> Vec<Action> {
        let existing: Vec<_> = self.slices.values().cloned().collect();
        let actions = pack(&template(), groups, &["IPv4".to_owned()], &existing);
        for action in &actions {
            match action.clone() {
                Action::Create(mut slice) => {
                    self.made += 1;
                    let name = format!("web-{:05}", self.made);
                    slice.metadata.name = Some(name.clone());
                    self.slices.insert(name, Arc::new(slice));
                }
                Action::Update(slice) => {
                    let name = slice.metadata.name.clone().unwrap();
                    assert!(self.slices.insert(name, Arc::new(slice)).is_some());
                }
                Action::Delete(slice) => {
                    assert!(
                        self.slices
                            .remove(slice.metadata.name.as_ref().unwrap())
                            .is_some()
                    );
                }
            }
        }
        actions
    }

    /// Every endpoint with its port, as often as it is there.
    fn told(&self) -> Vec<(String, i32, bool)> {
        let mut told = Vec::new();
        for slice in self.slices.values() {
            for endpoint in slice.endpoints.iter().flatten() {
                let port = slice.ports.as_ref().unwrap()[0].port.unwrap();
                let ready = endpoint.conditions.as_ref().unwrap().ready.unwrap();
                told.push((endpoint.addresses[0].clone(), port, ready));
            }
        }
        told.sort();
        told
    }
}

fn many(count: u32) -> Vec<Endpoint> {
    (0..count).map(|number| endpoint(number, true)).collect()
}

#[test]
fn one_change_writes_one_slice() {
    let mut server = Server::default();
    assert_eq!(server.run(vec![group(80, many(250))]).len(), 3);
    assert_eq!(server.run(vec![group(80, many(250))]), []);
    let mut endpoints = many(250);
    endpoints[120] = endpoint(120, false);
    assert_eq!(server.run(vec![group(80, endpoints.clone())]).len(), 1);
    endpoints.remove(7);
    assert_eq!(server.run(vec![group(80, endpoints.clone())]).len(), 1);
    // One goes and one comes: into the slice that is written anyway.
    endpoints.remove(180);
    endpoints.push(endpoint(999, true));
    assert_eq!(server.run(vec![group(80, endpoints.clone())]).len(), 1);
    // One comes: into the fullest that has room.
    endpoints.push(endpoint(1000, true));
    let actions = server.run(vec![group(80, endpoints)]);
    assert!(
        matches!(&actions[..], [Action::Update(slice)] if slice.endpoints.as_ref().unwrap().len() == 100)
    );
}

#[test]
fn without_endpoints_there_is_a_slice_that_says_so() {
    let mut server = Server::default();
    assert!(matches!(&server.run(vec![])[..], [Action::Create(_)]));
    assert_eq!(server.run(vec![]), []);
    // It is what the first endpoints go into, and stays when the last has gone.
    assert!(matches!(
        &server.run(vec![group(80, many(1))])[..],
        [Action::Update(_)]
    ));
    assert!(matches!(&server.run(vec![])[..], [Action::Update(_)]));
    assert_eq!(server.slices.len(), 1);
}

#[test]
fn other_ports_take_the_place_of_those_before() {
    let mut server = Server::default();
    server.run(vec![group(80, many(3))]);
    assert!(matches!(
        &server.run(vec![group(81, many(3))])[..],
        [Action::Update(_)]
    ));
    let both = vec![group(80, many(1)), group(81, many(3)[1..].to_vec())];
    assert_eq!(server.run(both).len(), 2);
    assert_eq!(server.slices.len(), 2);
}

#[test]
fn a_family_that_is_gone_takes_its_slices_with_it() {
    let mut server = Server::default();
    let mut six = group(80, many(1));
    six.family = "IPv6".to_owned();
    six.endpoints[0].addresses = vec!["fd00::1".to_owned()];
    server.run(vec![group(80, many(1)), six]);
    assert!(matches!(
        &server.run(vec![group(80, many(1))])[..],
        [Action::Delete(_)]
    ));
}

proptest! {
    #[test]
    fn slices_tell_every_endpoint_once(
        rounds in prop::collection::vec(prop::collection::btree_map(0..400u32, (0..2i32, any::<bool>()), 0..300), 1..6)
    ) {
        let mut server = Server::default();
        for round in rounds {
            let mut groups: BTreeMap<i32, Vec<Endpoint>> = BTreeMap::new();
            for (number, (port, ready)) in &round {
                groups.entry(*port).or_default().push(endpoint(*number, *ready));
            }
            let groups: Vec<_> = groups.into_iter().map(|(port, endpoints)| group(port, endpoints)).collect();
            server.run(groups.clone());
            let expected: BTreeSet<_> = round
                .iter()
                .map(|(number, (port, ready))| (endpoint(*number, true).addresses[0].clone(), *port, *ready))
                .collect();
            prop_assert_eq!(server.told(), expected.into_iter().collect::<Vec<_>>());
            prop_assert!(server.slices.values().all(|slice| slice.endpoints.as_ref().unwrap().len() <= MOST));
            prop_assert_eq!(server.run(groups), vec![], "once is enough");
        }
    }
}
