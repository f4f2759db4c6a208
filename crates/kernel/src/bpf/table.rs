//! A hash in the kernel, written and read many entries at once.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{Map, MapData};

use super::sys;
use crate::{Error, Result};

/// How many entries go over in one call.
const BATCH: usize = 4096;

/// What a map may have as key or value.
///
/// # Safety
///
/// Numbers, without padding between them.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: it's a number.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}

/// A hash, by whatever rule it forgets.
pub(super) struct Table<K, V> {
    map: MapData,
    what: &'static str,
    entries: PhantomData<fn() -> (K, V)>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// A map as what it is; `what` is in it, for people.
    pub(super) fn new(map: Map, what: &'static str) -> Result<Table<K, V>> {
        let (Map::HashMap(map) | Map::LruHashMap(map)) = map else {
            unreachable!("the object has {what} in a hash");
        };
        let info = map
            .info()
            .map_err(|error| Error::bpf(format!("use the map of {what}"), &error))?;
        assert_eq!(
            (info.key_size() as usize, info.value_size() as usize),
            (size_of::<K>(), size_of::<V>()),
            "the object's map of {what}"
        );
        Ok(Table {
            map,
            what,
            entries: PhantomData,
        })
    }

    /// Writes entries, over whatever is there.
    pub(super) fn put(&self, entries: &[(K, V)]) -> Result<()> {
        for some in entries.chunks(BATCH) {
            let (keys, values): (Vec<K>, Vec<V>) = some.iter().copied().unzip();
            // SAFETY: as many keys and values of the map's as it says, as `new` has checked.
            let (_, result) = unsafe {
                sys::update_batch(
                    self.fd(),
                    keys.as_ptr().cast(),
                    values.as_ptr().cast(),
                    some.len(),
                )
            };
            result.map_err(|error| self.failed("write", &error))?;
        }
        Ok(())
    }

    /// Removes entries; says how many were there.
    pub(super) fn remove(&self, keys: &[K]) -> Result<usize> {
        let (mut rest, mut removed) = (keys, 0);
        while !rest.is_empty() {
            let some = rest.len().min(BATCH);
            // SAFETY: as many keys of the map's as it says, as `new` has checked.
            let (done, result) = unsafe { sys::delete_batch(self.fd(), rest.as_ptr().cast(), some) };
            removed += done;
            let gone = match result {
                Ok(()) => 0,
                // The next one isn't there.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => 1,
                Err(error) => return Err(self.failed("remove", &error)),
            };
            rest = rest.get(done + gone..).unwrap_or_default();
        }
        Ok(removed)
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> Result<bool> {
        let (mut key, mut value) = (
            std::mem::MaybeUninit::<K>::uninit(),
            std::mem::MaybeUninit::<V>::uninit(),
        );
        let (mut at, room) = (None, 1);
        // SAFETY: there's room for one key and value of the map's.
        let (count, result) = unsafe {
            sys::lookup_batch(
                self.fd(),
                &mut at,
                key.as_mut_ptr().cast(),
                value.as_mut_ptr().cast(),
                room,
            )
        };
        match result {
            Ok(()) => Ok(count == 0),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(count == 0),
            // A bucket has more than one.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Ok(false),
            Err(error) => Err(self.failed("read", &error)),
        }
    }

    /// Everything that is in it. What changes meanwhile may be there or not.
    pub(super) fn read(&self) -> Result<Vec<(K, V)>> {
        let (mut entries, mut at, mut room) = (Vec::new(), None, BATCH);
        loop {
            let (mut keys, mut values) = (Vec::<K>::with_capacity(room), Vec::<V>::with_capacity(room));
            let before = at;
            // SAFETY: there's room for as many keys and values of the map's as it says.
            let (count, result) = unsafe {
                sys::lookup_batch(
                    self.fd(),
                    &mut at,
                    keys.as_mut_ptr().cast(),
                    values.as_mut_ptr().cast(),
                    room,
                )
            };
            let last = match result {
                Ok(()) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                // Less room than one bucket needs.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    (at, room) = (before, room * 2);
                    continue;
                }
                Err(error) => return Err(self.failed("read", &error)),
            };
            // SAFETY: the kernel has written so many, no more than there's room for.
            unsafe {
                keys.set_len(count.min(room));
                values.set_len(count.min(room));
            }
            entries.extend(keys.into_iter().zip(values));
            if last {
                return Ok(entries);
            }
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    fn failed(&self, action: &str, error: &io::Error) -> Error {
        let what = self.what;
        if error.raw_os_error() == Some(libc::E2BIG) {
            return Error::bpf(
                format!("{action} {what}: there are too many for the kernel's table"),
                error,
            );
        }
        Error::bpf(format!("{action} {what}"), error)
    }
}
