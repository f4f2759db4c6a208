//! What an agent makes of a journal that it finds.

use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::journal;
use super::pool::Pool;
use super::record::{Record, line};
use super::{apply, dump};

const BOOT: &str = "boot";

/// A file as it is, and the same with the sums that its lines should have.
pub(crate) fn replay(bytes: &[u8], path: &Path) {
    let lines = bytes.split(|byte| *byte == b'\n');
    let summed: String = lines
        .filter_map(|json| Some(line(str::from_utf8(json).ok()?)))
        .collect();
    for bytes in [bytes, summed.as_bytes()] {
        let Ok(replay) = journal::read(bytes, BOOT, path) else {
            continue;
        };
        if let Some(pool) = pool(replay.records) {
            let again = self::pool(dump(&pool)).expect("what a pool says of itself is true");
            assert_eq!(again.attachments(), pool.attachments());
            let released = |pool: &Pool| pool.released().collect::<Vec<_>>();
            assert_eq!(released(&again), released(&pool));
        }
    }
}

/// The pool that the records come to, if no address has two owners.
fn pool(records: Vec<Record>) -> Option<Pool> {
    let mut pool = Pool::new(Duration::from_secs(60));
    pool.set_blocks(&["10.244.1.0/29", "fd00::/125"].map(|net| net.parse::<IpNet>().expect("a network")));
    for record in records {
        apply(&mut pool, record, Path::new("cni")).ok()?;
    }
    pool.usage(70_000);
    if let Ok(addresses) = pool.pick(70_000) {
        assert!(
            addresses.iter().all(|address| pool.owner(*address).is_none()),
            "what is given is free"
        );
    }
    Some(pool)
}
