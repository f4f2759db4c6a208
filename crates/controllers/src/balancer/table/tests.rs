//! Who gets which address.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn table() -> Table {
    with_pools(&[DEFAULT, CHOSEN])
}

const DEFAULT: (&str, &str) = (
    "default",
    r#"{"addresses":["10.0.0.1-10.0.0.3","fd00::1-fd00::2"]}"#,
);
const CHOSEN: (&str, &str) = ("chosen", r#"{"addresses":["10.9.0.0/30"],"autoAssign":false}"#);

fn pools(pools: &[(&str, &str)]) -> Vec<Pool> {
    let pool = |(name, spec): &(&str, &str)| {
        let spec: Value = serde_json::from_str(spec).unwrap();
        let object = json!({ "metadata": { "name": name }, "spec": spec });
        Pool::of(&serde_json::from_value(object).unwrap())
    };
    pools.iter().map(pool).collect()
}

fn with_pools(named: &[(&str, &str)]) -> Table {
    let mut table = Table::default();
    table.set_pools(pools(named));
    table
}

fn wish(families: &[&'static str], chosen: &[&str]) -> Wish {
    Wish {
        families: families.to_vec(),
        needs_all: false,
        chosen: chosen.iter().map(|ip| ip.parse().unwrap()).collect(),
        pool: None,
        claimant: Claimant::default(),
    }
}

fn from_pool(pool: &str, namespace: &str) -> Wish {
    let mut wish = wish(&["IPv4"], &[]);
    wish.pool = Some(pool.to_owned());
    wish.claimant.namespace = namespace.to_owned();
    wish
}

fn key(name: &str) -> Key {
    Key::new("n", name)
}

fn texts(addresses: Result<Vec<IpAddr>, Refusal>) -> String {
    match addresses {
        Ok(addresses) => addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" "),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn addresses_are_given_in_order_and_kept() {
    let mut table = table();
    assert_eq!(
        texts(table.allocate(&key("a"), &wish(&["IPv4"], &[]))),
        "10.0.0.1"
    );
    assert_eq!(
        texts(table.allocate(&key("b"), &wish(&["IPv6", "IPv4"], &[]))),
        "fd00::1 10.0.0.2"
    );
    assert_eq!(
        texts(table.allocate(&key("a"), &wish(&["IPv4"], &[]))),
        "10.0.0.1"
    );
    table.release(&key("a"));
    assert_eq!(
        texts(table.allocate(&key("c"), &wish(&["IPv4"], &[]))),
        "10.0.0.1"
    );
}

#[test]
fn what_is_chosen_is_given_or_refused_with_a_reason() {
    let mut table = table();
    assert_eq!(
        texts(table.allocate(&key("a"), &wish(&["IPv4"], &["10.9.0.2"]))),
        "10.9.0.2"
    );
    for (chosen, why) in [
        ("10.9.0.2", "address 10.9.0.2 is taken by Service n/a"),
        ("10.8.0.1", "address 10.8.0.1 is in no pool"),
        (
            "fd00::1",
            "address fd00::1 is of a family that the Service has not, or has one of already",
        ),
    ] {
        assert_eq!(texts(table.allocate(&key("b"), &wish(&["IPv4"], &[chosen]))), why);
    }
    // Another choice moves it.
    assert_eq!(
        texts(table.allocate(&key("a"), &wish(&["IPv4"], &["10.0.0.3"]))),
        "10.0.0.3"
    );
    assert_eq!(
        texts(table.allocate(&key("b"), &wish(&["IPv4"], &["10.9.0.2"]))),
        "10.9.0.2"
    );
}

#[test]
fn a_pool_ends() {
    let mut table = table();
    for name in ["a", "b"] {
        table.allocate(&key(name), &wish(&["IPv4", "IPv6"], &[])).unwrap();
    }
    let mut both = wish(&["IPv4", "IPv6"], &[]);
    assert_eq!(
        texts(table.allocate(&key("c"), &both)),
        "10.0.0.3",
        "one family is enough"
    );
    both.needs_all = true;
    assert_eq!(
        texts(table.allocate(&key("d"), &both)),
        "no pool has an IPv4 address left"
    );
    assert_eq!(
        texts(Table::default().allocate(&key("d"), &both)),
        "no pool for this Service has IPv4 addresses"
    );
}

#[test]
fn two_that_say_they_have_one_address_are_told_apart() {
    let mut table = table();
    let address = ["10.0.0.1".parse().unwrap()];
    table.occupy(&key("a"), &address);
    table.occupy(&key("b"), &address);
    assert_eq!(
        texts(table.allocate(&key("b"), &wish(&["IPv4"], &[]))),
        "10.0.0.2"
    );
    assert_eq!(
        texts(table.allocate(&key("a"), &wish(&["IPv4"], &[]))),
        "10.0.0.1"
    );
}

#[test]
fn a_service_keeps_what_it_has_while_a_pool_has_it() {
    let mut table = table();
    let one = wish(&["IPv4"], &[]);
    assert_eq!(texts(table.allocate(&key("a"), &one)), "10.0.0.1");
    // Another pool has it now, of which Services get nothing by themselves.
    table.set_pools(pools(&[
        ("other", r#"{"addresses":["10.0.0.0/24"],"autoAssign":false}"#),
        ("new", r#"{"addresses":["10.1.0.0/30"]}"#),
    ]));
    assert_eq!(texts(table.allocate(&key("a"), &one)), "10.0.0.1");
    table.set_pools(pools(&[("new", r#"{"addresses":["10.1.0.0/30"]}"#)]));
    assert!(!table.is_in_pool([10, 0, 0, 1].into()));
    assert_eq!(texts(table.allocate(&key("a"), &one)), "10.1.0.0");
    table.set_pools(Vec::new());
    assert_eq!(
        texts(table.allocate(&key("a"), &one)),
        "no pool for this Service has IPv4 addresses"
    );
    assert_eq!(table.keep(&key("a"), &[[10, 1, 0, 0].into()]), [] as [IpAddr; 0]);
    assert!(!table.release(&key("a")), "it has given it back");
}

#[test]
fn a_pool_is_chosen_by_its_name() {
    let team = (
        "team",
        r#"{"addresses":["10.7.0.1-10.7.0.1"],"namespaces":["team"]}"#,
    );
    let mut table = with_pools(&[DEFAULT, CHOSEN, team]);
    for (name, namespace, pool, expected) in [
        ("a", "x", "chosen", "10.9.0.0"),
        (
            "b",
            "x",
            "team",
            "pool team is for others: its namespaces or its serviceSelector leave this Service out",
        ),
        ("b", "x", "nobody", "there is no pool nobody"),
        ("c", "team", "team", "10.7.0.1"),
        ("d", "team", "team", "pool team has no IPv4 address left"),
    ] {
        assert_eq!(
            texts(table.allocate(&key(name), &from_pool(pool, namespace))),
            expected
        );
    }
    // Another choice moves it, and what it had is free.
    assert_eq!(
        texts(table.allocate(&key("c"), &from_pool("chosen", "team"))),
        "10.9.0.1"
    );
    assert_eq!(
        texts(table.allocate(&key("d"), &from_pool("team", "team"))),
        "10.7.0.1"
    );
    let mut v6 = from_pool("chosen", "x");
    v6.families = vec!["IPv6"];
    assert_eq!(
        texts(table.allocate(&key("e"), &v6)),
        "pool chosen has no IPv6 addresses"
    );
    let mut elsewhere = from_pool("chosen", "x");
    elsewhere.chosen = vec![[10, 0, 0, 3].into()];
    assert_eq!(
        texts(table.allocate(&key("e"), &elsewhere)),
        "address 10.0.0.3 is not in pool chosen"
    );
}

#[test]
fn a_service_gets_addresses_from_a_pool_of_its_own_first() {
    let team = (
        "z",
        r#"{"addresses":["10.7.0.1-10.7.0.1"],"namespaces":["team"]}"#,
    );
    let mut table = with_pools(&[DEFAULT, team]);
    let mut own = wish(&["IPv4"], &[]);
    own.claimant.namespace = "team".to_owned();
    assert_eq!(texts(table.allocate(&key("a"), &own)), "10.7.0.1");
    assert_eq!(texts(table.allocate(&key("b"), &own)), "10.0.0.1");
    own.claimant.namespace = "other".to_owned();
    own.chosen = vec![[10, 7, 0, 1].into()];
    assert_eq!(
        texts(table.allocate(&key("c"), &own)),
        "pool z is for others: its namespaces or its serviceSelector leave this Service out"
    );
}

#[test]
fn nodes_addresses_are_given_to_nobody() {
    let mut table = with_pools(&[("all", r#"{"addresses":["10.0.0.0/29"]}"#)]);
    let first = |table: &mut Table, name| texts(table.allocate(&key(name), &wish(&["IPv4"], &[])));
    assert_eq!(first(&mut table, "a"), "10.0.0.0");
    let nodes = [[10, 0, 0, 0].into(), [10, 0, 0, 1].into()];
    assert!(table.set_reserved(nodes.into()) && !table.set_reserved(nodes.into()));
    assert_eq!(first(&mut table, "a"), "10.0.0.2", "a node's it was all along");
    assert_eq!(
        texts(table.allocate(&key("b"), &wish(&["IPv4"], &["10.0.0.1"]))),
        "address 10.0.0.1 is a node's, or the node network's own"
    );
    let pool = table.pool("all").unwrap();
    assert_eq!(table.count(pool, true), (1, 5));
    assert_eq!(table.count(pool, false), (0, 0));
}

proptest! {
    #[test]
    fn no_address_is_shared(steps in prop::collection::vec((0..5u8, 0..4u8, prop::option::of(0..4u8), any::<bool>()), 0..80)) {
        let mut table = table();
        let mut model: BTreeMap<Key, Vec<IpAddr>> = BTreeMap::new();
        for (name, families, chosen, needs_all) in steps {
            let key = key(&name.to_string());
            let families: &[&'static str] = match families { 0 => &["IPv4"], 1 => &["IPv6"], 2 => &["IPv4", "IPv6"], _ => &[] };
            if families.is_empty() {
                prop_assert_eq!(table.release(&key), model.remove(&key).is_some());
            } else {
                let chosen: Vec<IpAddr> = chosen.map(|n| IpAddr::from([10, 0, 0, n])).into_iter().collect();
                let wish = Wish { families: families.to_vec(), needs_all, chosen: chosen.clone(), pool: None, claimant: Claimant::default() };
                if let Ok(addresses) = table.allocate(&key, &wish) {
                    prop_assert!(chosen.iter().all(|chosen| addresses.contains(chosen)));
                    prop_assert!(!addresses.is_empty() && (!needs_all || addresses.len() == families.len()));
                    model.insert(key, addresses);
                }
            }
            let all: Vec<_> = model.values().flatten().collect();
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            prop_assert_eq!(table.holders.len(), all.len());
        }
    }
}
