//! Full disks.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use testkit::SmallDisk;

use super::machine::Machine;
use crate::{Error, Options, Range, Store, Value};

const LIMIT: Duration = Duration::from_secs(20);

/// Writes keys until the disk is full; how many there are then.
async fn fill(store: &Store, size: usize) -> u64 {
    for number in 0..100_000 {
        let value = Value::plain(vec![b'x'; size]);
        match store.create(&format!("/{number:05}"), value).await {
            Ok(_) => {}
            Err(Error::Full) => return number,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk is too large");
}

fn count(store: &Store) -> u64 {
    let all = Range {
        prefix: "/",
        ..Range::default()
    };
    store.list(&all, |_| true).unwrap().entries.len() as u64
}

#[tokio::test]
async fn a_full_disk_refuses_writes_goes_on_reading_and_recovers() {
    fill_and_make_space(Options::default()).await;
    // So little memory that reads have to go to the file, those of watches too.
    let options = Options {
        cache_bytes: 0,
        window_bytes: 0,
        ..Options::default()
    };
    fill_and_make_space(options).await;
}

async fn fill_and_make_space(options: Options) {
    let disk = SmallDisk::new(4);
    let ballast = disk.path("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).unwrap();
    let path = disk.path("store.redb");
    let store = Store::open(&path, options.clone()).unwrap();
    let mut watch = store.watch("/", 0).unwrap();
    let written = fill(&store, 9000).await;
    for _ in 0..3 {
        let refused = store.create("/more", Value::plain("")).await.unwrap_err();
        assert!(refused.to_string().contains("the disk is full"), "{refused}");
    }
    assert_eq!((count(&store), store.revision()), (written, written));
    for revision in 1..=written {
        assert_eq!(watch.next().await.unwrap().revision, revision);
    }

    // It can be opened while the disk is full, too.
    drop((watch, store));
    let store = Store::open(&path, options).unwrap();
    assert_eq!((count(&store), store.revision()), (written, written));
    let waiting = tokio::spawn({
        let mut watch = store.watch("/", written).unwrap();
        async move { watch.next().await.unwrap().revision }
    });

    std::fs::remove_file(&ballast).unwrap();
    let begin = Instant::now();
    let large = || Value::plain(vec![b'y'; 9000]);
    while let Err(error) = store.create("/more", large()).await {
        assert!(matches!(error, Error::Full), "{error}");
        assert!(begin.elapsed() < LIMIT, "there is space again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(waiting.await.unwrap(), written + 1);
    assert_eq!(count(&store), written + 1);
}

#[tokio::test]
async fn a_disk_that_fills_up_again_and_again_loses_nothing() {
    let machine = Machine::new(StdRng::seed_from_u64(7));
    let store = Store::on(Box::new(machine.clone()), Options::default()).unwrap();
    let mut number = 0;
    for _ in 0..6 {
        machine.room_for(1 << 20);
        loop {
            let value = Value::plain(vec![b'x'; 20_000]);
            match store.create(&format!("/{number:05}"), value).await {
                Ok(entry) => assert_eq!(entry.revision, number + 1),
                Err(Error::Full) => break,
                Err(error) => panic!("{error}"),
            }
            number += 1;
        }
        assert_eq!(count(&store), number);
    }
    assert!(number > 10, "{number}");
}
