//! Changes of Services over maps that are played: they look after every write whether anything leads
//! to what isn't there.

use std::net::{IpAddr, Ipv4Addr};

use model::{Backend, Protocol, Strategy as Way};
use plan::{Frontend, ServiceAddress};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::fake::Fake;
use super::*;

/// A Service's port, of which as much varies as matters here.
#[derive(Debug, Clone)]
struct Sketch {
    /// Numbers of endpoints.
    cluster: BTreeSet<u8>,
    /// Of those, this node's, if a policy asks.
    local: Option<BTreeSet<u8>>,
    /// An address that others may want, too.
    external: Option<u8>,
    maglev: bool,
    ranges: BTreeSet<u8>,
}

fn name(number: u8) -> ServiceName {
    ServiceName::new("default", format!("s{number}"))
}

fn address(third: u8, last: u8) -> IpAddr {
    Ipv4Addr::new(10, 96, third, last).into()
}

fn socket(number: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 244, 1, number).into(), 8080)
}

fn set_of(numbers: &BTreeSet<u8>, maglev: bool) -> BackendSet {
    let backends = numbers.iter().map(|number| Backend {
        socket: socket(*number),
        local: number % 2 == 0,
    });
    let count = u16::try_from(numbers.len()).unwrap();
    BackendSet {
        backends: backends.collect(),
        table: (maglev && count > 0).then(|| (0..7).map(|slot| slot % count).collect()),
    }
}

fn part(number: u8, sketch: &Sketch) -> Part {
    let outside = if sketch.local.is_some() {
        Scope::Local
    } else {
        Scope::Cluster
    };
    let frontend = |address, restricted| Frontend {
        address,
        port: 80,
        inside: Scope::Cluster,
        outside,
        keeps_source: false,
        silent: false,
        restricted,
    };
    let external = sketch
        .external
        .map(|one| frontend(address(1, one), !sketch.ranges.is_empty()));
    let own = address(0, number);
    let port = ServicePort {
        id: ServicePortId {
            service: name(number),
            v4: true,
            protocol: Protocol::Udp,
            port: 80,
        },
        frontends: [frontend(own, false)].into_iter().chain(external).collect(),
        cluster: set_of(&sketch.cluster, sketch.maglev),
        local: sketch.local.as_ref().map(|local| set_of(local, sketch.maglev)),
        lingering: Box::default(),
        strategy: if sketch.maglev { Way::Maglev } else { Way::Random },
        affinity: None,
        ranges: sketch
            .ranges
            .iter()
            .map(|one| IpAddr::from([192, 0, 2, *one]).into())
            .collect(),
    };
    let ping = ServiceAddress {
        service: name(number),
        address: own,
        served: !sketch.cluster.is_empty(),
    };
    Part {
        objects: [Object::Service(port.into()), Object::ServiceAddress(ping)].into(),
        ..Part::default()
    }
}

/// What each frontend should lead to.
fn wanted(all: &BTreeMap<u8, Sketch>) -> BTreeMap<At, [BTreeSet<SocketAddr>; 2]> {
    let mut wanted = BTreeMap::new();
    for (number, sketch) in all {
        let sockets = |numbers: &BTreeSet<u8>| numbers.iter().map(|one| socket(*one)).collect();
        let inside: BTreeSet<SocketAddr> = sockets(&sketch.cluster);
        let outside = sketch.local.as_ref().map_or(inside.clone(), sockets);
        let places = [
            Some(address(0, *number)),
            sketch.external.map(|one| address(1, one)),
        ];
        for address in places.into_iter().flatten() {
            let at = At {
                address,
                protocol: 17,
                port: 80,
            };
            wanted
                .entry(at)
                .or_insert_with(|| [inside.clone(), outside.clone()]);
        }
    }
    wanted
}

fn apply(services: &mut Services, fake: &Fake, changes: &BTreeMap<u8, Option<Sketch>>) -> Outcome {
    let parts: BTreeMap<ServiceName, Option<Part>> = changes
        .iter()
        .map(|(number, sketch)| (name(*number), sketch.as_ref().map(|sketch| part(*number, sketch))))
        .collect();
    let changes = parts.iter().map(|(name, part)| (name, part.as_ref())).collect();
    services.apply(fake, fake, &changes, Instant::now())
}

fn apply_all(services: &mut Services, fake: &Fake, all: &BTreeMap<u8, Sketch>) -> Outcome {
    let parts: BTreeMap<ServiceName, Part> = all
        .iter()
        .map(|(number, sketch)| (name(*number), part(*number, sketch)))
        .collect();
    services.apply_all(fake, fake, &parts.iter().collect(), Instant::now())
}

fn sketch(cluster: &[u8]) -> Sketch {
    Sketch {
        cluster: cluster.iter().copied().collect(),
        local: None,
        external: None,
        maglev: false,
        ranges: BTreeSet::new(),
    }
}

fn sketches() -> impl Strategy<Value = Sketch> {
    let numbers = || proptest::collection::btree_set(1_u8..9, 0..6);
    let external = proptest::option::of(0_u8..3);
    let ranges = proptest::collection::btree_set(0_u8..4, 0..3);
    let parts = (
        numbers(),
        proptest::option::of(numbers()),
        external,
        any::<bool>(),
        ranges,
    );
    parts.prop_map(|(cluster, local, external, maglev, ranges)| Sketch {
        local: local.map(|local| local.intersection(&cluster).copied().collect()),
        cluster,
        external,
        maglev,
        ranges,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever changes, whatever is refused and whenever the agent is killed: nothing ever leads to
    /// what isn't there, and in the end everything is as it should be, with nothing beside it.
    #[test]
    fn changes_lead_where_they_should(
        steps in proptest::collection::vec(
            (proptest::collection::btree_map(0_u8..4, proptest::option::of(sketches()), 1..4),
             proptest::option::of(0_usize..30), any::<bool>()),
            1..8,
        ),
    ) {
        let fake = Fake::default();
        let mut services = Services::read(&fake).unwrap();
        let mut all = BTreeMap::new();
        for (changes, refuse, restart) in steps {
            for (number, sketch) in &changes {
                match sketch {
                    Some(sketch) => drop(all.insert(*number, sketch.clone())),
                    None => drop(all.remove(number)),
                }
            }
            fake.refuse.set(refuse);
            let mut outcome = apply(&mut services, &fake, &changes);
            if restart {
                services = Services::read(&fake).unwrap();
                outcome = apply_all(&mut services, &fake, &all);
            }
            fake.refuse.set(None);
            if !outcome.failures.is_empty() {
                prop_assert!(refuse.is_some());
                let again = apply(&mut services, &fake, &changes);
                prop_assert!(again.failures.is_empty());
                if restart {
                    apply_all(&mut services, &fake, &all);
                }
            }
            prop_assert_eq!(fake.leads(), wanted(&all));
        }
        // Nothing is left over, and the next agent finds nothing to do.
        let mut next = Services::read(&fake).unwrap();
        apply_all(&mut next, &fake, &all);
        let serving: BTreeSet<SocketAddr> = all.values().flat_map(|one| &one.cluster).map(|one| socket(*one)).collect();
        let held: BTreeSet<SocketAddr> = fake.backends.borrow().values().map(|one| one.socket).collect();
        prop_assert_eq!(held, serving);
        prop_assert_eq!(fake.table.borrow().len(), fake.backends.borrow().len());
        let before = fake.writes.get();
        let mut last = Services::read(&fake).unwrap();
        apply_all(&mut last, &fake, &all);
        prop_assert_eq!(fake.writes.get(), before);
    }
}

#[test]
fn one_endpoint_more_or_less_is_a_few_writes() {
    let fake = Fake::default();
    let mut services = Services::read(&fake).unwrap();
    let all: Vec<u8> = (1..200).collect();
    let all_but = |gone: u8| sketch(&all.iter().copied().filter(|one| *one != gone).collect::<Vec<_>>());
    apply(
        &mut services,
        &fake,
        &BTreeMap::from([(1, Some(sketch(&all))), (2, Some(sketch(&[1])))]),
    );
    let mut writes = |fake: &Fake, change: Sketch| {
        let before = fake.writes.get();
        apply(&mut services, fake, &BTreeMap::from([(1, Some(change))]));
        fake.writes.get() - before
    };
    // The last slot into the gap, the count, the last slot, the translation, the backend.
    assert_eq!(writes(&fake, all_but(50)), 5);
    // The backend, its translation, a slot, the count.
    assert_eq!(writes(&fake, sketch(&all)), 4);
    // Another Service has this one.
    assert_eq!(writes(&fake, all_but(1)), 3);
    assert_eq!(writes(&fake, all_but(1)), 0);
}

#[test]
fn an_address_goes_to_the_next_who_wants_it() {
    let fake = Fake::default();
    let mut services = Services::read(&fake).unwrap();
    let both = |number| Sketch {
        external: Some(1),
        ..sketch(&[number])
    };
    apply(
        &mut services,
        &fake,
        &BTreeMap::from([(1, Some(both(1))), (2, Some(both(2)))]),
    );
    let at = At {
        address: address(1, 1),
        protocol: 17,
        port: 80,
    };
    assert_eq!(fake.leads()[&at][0], BTreeSet::from([socket(1)]));
    apply(&mut services, &fake, &BTreeMap::from([(1, None)]));
    assert_eq!(fake.leads()[&at][0], BTreeSet::from([socket(2)]));
}

#[test]
fn ids_wait_before_another_has_them_and_come_back_to_their_own() {
    let fake = Fake::default();
    let mut services = Services::read(&fake).unwrap();
    let id = |fake: &Fake| *fake.backends.borrow().keys().next().unwrap();
    apply(&mut services, &fake, &BTreeMap::from([(1, Some(sketch(&[1])))]));
    let first = id(&fake);
    apply(&mut services, &fake, &BTreeMap::from([(1, None)]));
    assert!(fake.backends.borrow().is_empty());
    apply(&mut services, &fake, &BTreeMap::from([(1, Some(sketch(&[1])))]));
    assert_eq!(id(&fake), first);
    // Another agent, on another node or after a restart, gives the same.
    let other = Fake::default();
    let mut services = Services::read(&other).unwrap();
    apply(&mut services, &other, &BTreeMap::from([(9, Some(sketch(&[1])))]));
    assert_eq!(id(&other), first);
}
