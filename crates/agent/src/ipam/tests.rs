//! The journal and the pool together: restarts, crashes, damage, and a naive model beside them.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Barrier;

use model::PodRef;
use proptest::prelude::*;

use super::*;

const BOOT: &str = "boot-1";
const COOL_DOWN: Millis = 100;

fn id(number: u8) -> AttachmentId {
    AttachmentId {
        container: format!("c{number}"),
        interface: "eth0".to_owned(),
    }
}

fn attachment(number: u8, addresses: Vec<IpAddr>) -> Attachment {
    Attachment {
        pod: PodRef {
            namespace: "shop".to_owned(),
            name: format!("web-{number}"),
            uid: String::new(),
        },
        netns: format!("/run/netns/{number}"),
        host_link: format!("rip-{number}"),
        addresses,
        mtu: 1500,
        ..Attachment::default()
    }
}

fn blocks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a block")).collect()
}

fn open(dir: &Path) -> Ipam {
    let ipam = Ipam::open(dir, BOOT, Duration::from_millis(COOL_DOWN)).expect("the journal opens");
    ipam.set_blocks(&blocks(&["10.0.0.0/28", "fd00::/64"]));
    ipam
}

fn add(ipam: &Ipam, number: u8, now: Millis) -> Result<Added, Error> {
    ipam.add(&id(number), now, |addresses| attachment(number, addresses))
}

fn journal(dir: &Path) -> PathBuf {
    dir.join("attachments.journal")
}

#[test]
fn adding_twice_returns_the_same_addresses_and_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let ipam = open(dir.path());
    let first = add(&ipam, 1, 0).expect("free");
    let size = fs::metadata(journal(dir.path())).expect("there").len();
    assert_eq!(
        add(&ipam, 1, 5).expect("free"),
        Added::Known(first.attachment().clone())
    );
    assert_eq!(fs::metadata(journal(dir.path())).expect("there").len(), size);
}

#[test]
fn an_attachment_whose_namespace_moved_keeps_its_addresses() {
    let dir = tempfile::tempdir().expect("a directory");
    let ipam = open(dir.path());
    let before = add(&ipam, 1, 0).expect("free").attachment().clone();
    let moved = ipam.add(&id(1), 1, |addresses| Attachment {
        netns: "/elsewhere".into(),
        ..attachment(1, addresses)
    });
    let Added::Known(moved) = moved.expect("known") else {
        panic!("it was there")
    };
    assert_eq!(moved.addresses, before.addresses);
    drop(ipam);
    assert_eq!(open(dir.path()).get(&id(1)).expect("there").netns, "/elsewhere");
}

#[test]
fn releasing_what_is_not_there_is_no_error() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(open(dir.path()).release(&id(9), 0).expect("fine"), None);
}

#[test]
fn a_restart_remembers_owners_and_cool_downs() {
    let dir = tempfile::tempdir().expect("a directory");
    let ipam = open(dir.path());
    add(&ipam, 1, 0).expect("free");
    add(&ipam, 2, 0).expect("free");
    ipam.release(&id(1), 10).expect("written");
    let (before, usage) = (ipam.attachments(), ipam.usage(20));
    drop(ipam);
    let ipam = open(dir.path());
    assert_eq!(ipam.attachments(), before);
    assert_eq!(ipam.usage(20), usage);
    assert_eq!((usage[0].used, usage[0].cooling), (1, 1));
}

#[test]
fn another_boot_begins_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    add(&open(dir.path()), 1, 0).expect("free");
    let ipam = Ipam::open(dir.path(), "boot-2", Duration::ZERO).expect("opens");
    assert!(ipam.attachments().is_empty());
}

#[test]
fn a_second_agent_is_kept_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let _first = open(dir.path());
    let second = Ipam::open(dir.path(), BOOT, Duration::ZERO).expect_err("locked");
    assert!(matches!(second, Error::Locked { .. }), "{second}");
}

#[test]
fn damage_before_the_end_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let ipam = open(dir.path());
    add(&ipam, 1, 0).expect("free");
    add(&ipam, 2, 0).expect("free");
    drop(ipam);
    let mut bytes = fs::read(journal(dir.path())).expect("there");
    let second_line = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    bytes[second_line + 20] ^= 1;
    fs::write(journal(dir.path()), bytes).expect("written");
    let error = Ipam::open(dir.path(), BOOT, Duration::ZERO).expect_err("damaged");
    assert!(
        matches!(error, Error::Damaged { offset, .. } if offset == second_line),
        "{error}"
    );
    assert!(error.to_string().contains("delete the file"), "{error}");
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let header = Record::Journal {
        version: 2,
        boot: BOOT.to_owned(),
    };
    fs::write(journal(dir.path()), header.to_line()).expect("written");
    let error = Ipam::open(dir.path(), BOOT, Duration::ZERO).expect_err("newer");
    assert!(matches!(error, Error::Version { version: 2, .. }), "{error}");
}

#[test]
fn a_compaction_that_a_crash_cut_short_is_ignored() {
    let dir = tempfile::tempdir().expect("a directory");
    let ipam = open(dir.path());
    let before = add(&ipam, 1, 0).expect("free");
    drop(ipam);
    fs::write(dir.path().join("attachments.journal.new"), "half a jour").expect("written");
    assert_eq!(open(dir.path()).get(&id(1)).as_ref(), Some(before.attachment()));
}

#[test]
fn a_long_life_keeps_the_file_short() {
    let dir = tempfile::tempdir().expect("a directory");
    let ipam = open(dir.path());
    ipam.set_blocks(&blocks(&["10.0.0.0/28"]));
    add(&ipam, 200, 0).expect("free");
    let rounds: u64 = 700;
    for round in 0..rounds {
        let now = round * 2 * COOL_DOWN;
        add(&ipam, 1, now).expect("free");
        ipam.release(&id(1), now + 1).expect("written");
    }
    let lines = fs::read_to_string(journal(dir.path()))
        .expect("text")
        .lines()
        .count();
    assert!(lines < SLACK, "{lines} lines after {} records", 2 * rounds);
    let before = ipam.attachments();
    drop(ipam);
    assert_eq!(open(dir.path()).attachments(), before);
}

#[test]
fn many_at_once_never_share_an_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let ipam = Ipam::open(dir.path(), BOOT, Duration::ZERO).expect("opens");
    ipam.set_blocks(&blocks(&["10.0.0.0/24"]));
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let (ipam, start) = (&ipam, &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..25 {
                    let number = thread * 25 + number;
                    add(ipam, number, 0).expect("free");
                    if number % 3 == 0 {
                        ipam.release(&id(number), 0).expect("written");
                    }
                }
            });
        }
    });
    let attachments = ipam.attachments();
    let addresses: std::collections::BTreeSet<IpAddr> = attachments
        .values()
        .flat_map(|attachment| attachment.addresses.clone())
        .collect();
    assert_eq!(addresses.len(), attachments.len());
    assert_eq!(
        attachments.len(),
        (0..200u8).filter(|number| number % 3 != 0).count()
    );
    drop(ipam);
    let reopened = Ipam::open(dir.path(), BOOT, Duration::ZERO).expect("opens");
    assert_eq!(reopened.attachments(), attachments);
}

#[derive(Debug, Clone)]
enum Op {
    Add(u8),
    Release(u8),
    Wait(Millis),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..20u8).prop_map(Op::Add),
        4 => (0..20u8).prop_map(Op::Release),
        2 => (0..COOL_DOWN * 2).prop_map(Op::Wait),
        1 => Just(Op::Restart),
    ]
}

/// What should happen, in the plainest words: one IPv4 block of 14 addresses.
#[derive(Debug, Clone, Default)]
struct Naive {
    owners: BTreeMap<u8, Ipv4Addr>,
    released: Vec<(Millis, Ipv4Addr)>,
}

impl Naive {
    fn add(&mut self, number: u8, now: Millis) -> Option<Ipv4Addr> {
        if let Some(address) = self.owners.get(&number) {
            return Some(*address);
        }
        let all = (1..=14).map(|host| Ipv4Addr::new(10, 0, 0, host));
        let owned = |address: &Ipv4Addr| self.owners.values().any(|owned| owned == address);
        let used = |address: &Ipv4Addr| self.released.iter().any(|(_, released)| released == address);
        let fresh = all.clone().find(|address| !owned(address) && !used(address));
        let oldest = self
            .released
            .first()
            .filter(|(at, _)| now - at >= COOL_DOWN)
            .map(|(_, address)| *address);
        let address = fresh.or(oldest)?;
        self.released.retain(|(_, released)| *released != address);
        self.owners.insert(number, address);
        Some(address)
    }

    fn release(&mut self, number: u8, now: Millis) {
        if let Some(address) = self.owners.remove(&number) {
            self.released.push((now, address));
        }
    }
}

fn v4(attachment: &Attachment) -> Ipv4Addr {
    match attachment.addresses[0] {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} comes second"),
    }
}

/// Runs one operation on both and compares; `now` advances.
fn step(ipam: &Ipam, naive: &mut Naive, op: &Op, now: &mut Millis) {
    *now += 1;
    match op {
        Op::Add(number) => {
            let got = add(ipam, *number, *now).ok().map(|added| v4(added.attachment()));
            assert_eq!(got, naive.add(*number, *now), "{op:?} at {now}");
        }
        Op::Release(number) => {
            ipam.release(&id(*number), *now).expect("written");
            naive.release(*number, *now);
        }
        Op::Wait(time) => *now += time,
        Op::Restart => {}
    }
}

fn agree(ipam: &Ipam, naive: &Naive) {
    let got: BTreeMap<AttachmentId, Ipv4Addr> = ipam
        .attachments()
        .iter()
        .map(|(id, attachment)| (id.clone(), v4(attachment)))
        .collect();
    let want: BTreeMap<AttachmentId, Ipv4Addr> = naive
        .owners
        .iter()
        .map(|(number, address)| (id(*number), *address))
        .collect();
    assert_eq!(got, want);
    let all: Vec<IpAddr> = ipam
        .attachments()
        .values()
        .flat_map(|attachment| attachment.addresses.clone())
        .collect();
    let distinct: std::collections::BTreeSet<&IpAddr> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "an address has two owners");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random operations; some of them are cut short by `kill -9` at a random byte of what they
    /// write. What was acknowledged is there afterwards; what wasn't is there whole or not at all.
    #[test]
    fn no_crash_loses_or_doubles_an_address(ops in prop::collection::vec((op(), prop::option::weighted(0.2, 0.0..=1.0f64)), 1..80)) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut ipam = open(dir.path());
        let mut naive = Naive::default();
        let mut now = 0;
        for (op, crash) in ops {
            let before = naive.clone();
            let old = fs::read(journal(dir.path())).expect("there");
            step(&ipam, &mut naive, &op, &mut now);
            if let Some(at) = crash {
                drop(ipam);
                let new = fs::read(journal(dir.path())).expect("there");
                prop_assert!(new.starts_with(&old), "the journal only grows");
                let written = new.len() - old.len();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a few bytes")]
                let kept = (written as f64 * at) as usize;
                fs::write(journal(dir.path()), &new[..old.len() + kept]).expect("written");
                if kept < written {
                    naive = before;
                }
                ipam = open(dir.path());
            } else if matches!(op, Op::Restart) {
                drop(ipam);
                ipam = open(dir.path());
            }
            agree(&ipam, &naive);
        }
    }
}
