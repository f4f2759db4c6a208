//! Files that somebody else may have made.

use sha2::{Digest, Sha256};
use store::{Error, Reader};

/// A snapshot as it is, and one that these bytes are the beginning of: it is refused, or restored as it says.
pub(crate) fn snapshot(bytes: &[u8]) {
    let whole = [bytes, &Sha256::digest(bytes)].concat();
    for bytes in [bytes, &whole] {
        let Ok(objects) = count(bytes) else { continue };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.redb");
        match store::restore(bytes, &path, |_| {}) {
            Ok(restored) => {
                assert_eq!(restored.summary.objects, objects);
                let again = store::restore(bytes, &path, |_| {});
                let again = again.map(|again| again.revision > restored.revision);
                assert!(matches!(again, Ok(true) | Err(Error::Snapshot(_))), "{again:?}");
                assert!(path.exists(), "there is a store whatever comes");
            }
            Err(error) => assert!(matches!(error, Error::Snapshot(_)), "{error}"),
        }
    }
}

fn count(bytes: &[u8]) -> Result<u64, Error> {
    let mut reader = Reader::new(bytes)?;
    let mut count = 0;
    while reader.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}
