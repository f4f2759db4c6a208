//! Our nft table against a real kernel.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use ipnet::IpNet;
use kernel::nftables::Nft;
use nft::{Change, Elements, Expr, Family, Field, Key, Place, Rule, Table, Verdict};
use testkit::TestNs;

fn key(text: &str) -> Key {
    Key::from(text.parse::<IpNet>().unwrap())
}

fn elements(pairs: &[(&str, &str)]) -> Elements {
    pairs.iter().map(|(set, text)| (*set, key(text))).collect()
}

fn place(table: &Table) -> Place {
    Place::new(table.family, &table.name)
}

fn describe(changes: &[Change], table: &Table) -> String {
    changes
        .iter()
        .map(|change| change.describe(&place(table)))
        .collect::<Vec<_>>()
        .join("\n")
}

fn postrouting(table: &mut Table) -> &mut nft::Chain {
    let mut chains = table.chains.iter_mut();
    chains.find(|chain| chain.name == "postrouting").unwrap()
}

const SOME: [(&str, &str); 6] = [
    ("own_pods4", "10.244.0.0/24"),
    ("pods4", "10.244.0.0/24"),
    ("pods4", "10.244.1.0/24"),
    ("nodes4", "172.30.0.11/32"),
    ("pods6", "fd00:10:244::/64"),
    ("direct4", "192.0.0.0/2"),
];

#[tokio::test]
async fn our_table_is_made_and_found_unchanged() {
    let ns = TestNs::new("nft").await;
    let nft = Nft::open(&ns).unwrap();
    let table = plan::table();
    assert_eq!(nft.observe(&place(&table)).unwrap(), None);
    let made = nft.apply(&table, &elements(&SOME)).unwrap();
    assert_eq!(made[0], Change::AddTable);
    assert_eq!(nft.apply(&table, &elements(&SOME)).unwrap(), []);

    let observed = nft.observe(&place(&table)).unwrap().unwrap();
    let rules = &observed.chains["postrouting"].rules;
    assert_eq!(rules.len(), 7);
    assert_eq!(rules[5].comment.as_deref(), Some("pods to outside the cluster"));
    assert!(nft.delete_table(&place(&table)).unwrap());
    assert!(!nft.delete_table(&place(&table)).unwrap());
    assert_eq!(nft.observe(&place(&table)).unwrap(), None);
}

#[tokio::test]
async fn only_what_differs_is_written() {
    let ns = TestNs::new("nft").await;
    let nft = Nft::open(&ns).unwrap();
    let mut table = plan::table();
    nft.apply(&table, &elements(&SOME)).unwrap();

    let other = elements(&[
        ("own_pods4", "10.244.0.0/24"),
        ("pods4", "10.244.0.0/23"),
        ("nodes4", "172.30.0.11/32"),
        ("nodes4", "172.30.0.12/32"),
        ("pods6", "fd00:10:244::/64"),
        ("direct4", "192.0.0.0/2"),
    ]);
    let changes = nft.apply(&table, &other).unwrap();
    insta::assert_snapshot!(describe(&changes, &table), @r"
    delete element inet ripstop pods4 { 10.244.0.0/24, 10.244.1.0/24 }
    add element inet ripstop pods4 { 10.244.0.0/23 }
    add element inet ripstop nodes4 { 172.30.0.12 }
    ");
    assert_eq!(nft.apply(&table, &other).unwrap(), []);

    postrouting(&mut table).rules[6].exprs.insert(0, Expr::Counter);
    let changes = nft.apply(&table, &other).unwrap();
    insta::assert_snapshot!(describe(&changes, &table), @r#"
    flush chain inet ripstop postrouting
    add rule inet ripstop postrouting snat ip to ip saddr . ip daddr map @hairpins4 comment "a pod that reaches itself by the node"
    add rule inet ripstop postrouting snat ip6 to ip6 saddr . ip6 daddr map @hairpins6 comment "a pod that reaches itself by the node"
    add rule inet ripstop postrouting meta mark 0xc0000000/2 ip daddr @own_pods4 snat ip to meta mark & 0x80000000 map @own_addresses4 comment "Services' clients, to pods of this node"
    add rule inet ripstop postrouting meta mark 0xc0000000/2 ip6 daddr @own_pods6 snat ip6 to meta mark & 0x80000000 map @own_addresses6 comment "Services' clients, to pods of this node"
    add rule inet ripstop postrouting meta mark 0xc0000000/2 masquerade fully-random comment "Services' clients, to endpoints elsewhere"
    add rule inet ripstop postrouting ip saddr @own_pods4 ip daddr != @pods4 ip daddr != @nodes4 ip daddr != @direct4 masquerade fully-random comment "pods to outside the cluster"
    add rule inet ripstop postrouting counter ip6 saddr @own_pods6 ip6 daddr != @pods6 ip6 daddr != @nodes6 ip6 daddr != @direct6 masquerade fully-random comment "pods to outside the cluster"
    "#);
    assert_eq!(nft.apply(&table, &other).unwrap(), []);
}

#[tokio::test]
async fn what_others_did_to_our_table_is_undone() {
    let ns = TestNs::new("nft").await;
    let nft = Nft::open(&ns).unwrap();
    let table = plan::table();
    nft.apply(&table, &elements(&SOME)).unwrap();
    let mut foreign = table.clone();
    postrouting(&mut foreign).rules.truncate(3);
    postrouting(&mut foreign).rules.push(Rule {
        exprs: vec![
            Expr::ne(Field::IifName, "eth0"),
            Expr::Established,
            Expr::Verdict(Verdict::Jump("extra".into())),
        ],
        comment: None,
    });
    let rule = Rule {
        exprs: vec![
            Expr::eq(Field::Ip6Destination, "fe80::/10".parse::<IpNet>().unwrap()),
            Expr::Verdict(Verdict::Drop),
        ],
        comment: None,
    };
    foreign.chains.push(nft::Chain {
        name: "extra".into(),
        base: None,
        rules: vec![rule],
    });
    foreign
        .sets
        .push(nft::Set::new("extra", nft::KeyType::Ipv6, false));
    nft.apply(&foreign, &elements(&SOME)).unwrap();
    assert_eq!(nft.apply(&foreign, &elements(&SOME)).unwrap(), []);

    let changes = nft.apply(&table, &elements(&SOME)).unwrap();
    insta::assert_snapshot!(describe(&changes, &table), @r#"
    flush chain inet ripstop postrouting
    add rule inet ripstop postrouting snat ip to ip saddr . ip daddr map @hairpins4 comment "a pod that reaches itself by the node"
    add rule inet ripstop postrouting snat ip6 to ip6 saddr . ip6 daddr map @hairpins6 comment "a pod that reaches itself by the node"
    add rule inet ripstop postrouting meta mark 0xc0000000/2 ip daddr @own_pods4 snat ip to meta mark & 0x80000000 map @own_addresses4 comment "Services' clients, to pods of this node"
    add rule inet ripstop postrouting meta mark 0xc0000000/2 ip6 daddr @own_pods6 snat ip6 to meta mark & 0x80000000 map @own_addresses6 comment "Services' clients, to pods of this node"
    add rule inet ripstop postrouting meta mark 0xc0000000/2 masquerade fully-random comment "Services' clients, to endpoints elsewhere"
    add rule inet ripstop postrouting ip saddr @own_pods4 ip daddr != @pods4 ip daddr != @nodes4 ip daddr != @direct4 masquerade fully-random comment "pods to outside the cluster"
    add rule inet ripstop postrouting ip6 saddr @own_pods6 ip6 daddr != @pods6 ip6 daddr != @nodes6 ip6 daddr != @direct6 masquerade fully-random comment "pods to outside the cluster"
    flush chain inet ripstop extra
    delete chain inet ripstop extra
    delete set inet ripstop extra
    "#);
    assert_eq!(nft.apply(&table, &elements(&SOME)).unwrap(), []);

    // A set can't change its nature: the table is made anew, in the same batch.
    let mut other = table.clone();
    other.sets[2].interval = true;
    let changes = nft.apply(&other, &elements(&SOME)).unwrap();
    assert_eq!(changes[..2], [Change::DeleteTable, Change::AddTable]);
    assert_eq!(nft.apply(&other, &elements(&SOME)).unwrap(), []);
}

#[tokio::test]
async fn a_refused_batch_changes_nothing_and_says_why() {
    let ns = TestNs::new("nft").await;
    let nft = Nft::open(&ns).unwrap();
    let table = plan::table();
    nft.apply(&table, &elements(&SOME)).unwrap();
    let set = table.sets[1].clone();
    let changes = [
        Change::DeleteElements(set.clone(), vec![key("10.244.0.0/24").into()]),
        Change::AddElements(set, vec![key("10.244.0.0/15").into()]),
    ];
    let error = nft.change(&place(&table), &changes).unwrap_err();
    insta::assert_snapshot!(error, @"cannot add element inet ripstop pods4 { 10.244.0.0/15 }: File exists (os error 17)");
    assert_eq!(nft.apply(&table, &elements(&SOME)).unwrap(), []);
}

#[tokio::test]
async fn thousands_of_elements_go_in_one_batch() {
    let ns = TestNs::new("nft").await;
    let nft = Nft::open(&ns).unwrap();
    let table = plan::table();
    let mut many = Elements::new();
    for n in 0..5000_u16 {
        let [high, low] = n.to_be_bytes();
        many.insert("pods4", key(&format!("10.{high}.{low}.0/24")));
        many.insert("pods6", key(&format!("fd00:{n:x}::/64")));
    }
    nft.apply(&table, &many).unwrap();
    assert_eq!(nft.apply(&table, &many).unwrap(), []);
}

#[tokio::test]
async fn tables_of_the_same_name_in_another_family_are_others() {
    let ns = TestNs::new("nft").await;
    let nft = Nft::open(&ns).unwrap();
    let other = Place::new(Family::Ip, plan::TABLE);
    nft.change(&other, &[Change::AddTable]).unwrap();
    nft.apply(&plan::table(), &Elements::new()).unwrap();
    assert!(nft.delete_table(&place(&plan::table())).unwrap());
    assert!(nft.observe(&other).unwrap().is_some());
}
