//! Short waits for the kernel's grace periods.
//!
//! A program that comes on a link or leaves it, as it does with a link that is deleted, makes the
//! kernel wait until no processor can be inside the old list of programs any more: ten milliseconds
//! or more each, with the lock held that every change of links needs. A kernel that is told to hurry
//! (`/sys/kernel/rcu_expedited`) asks the processors instead, and is done in a tenth of one.
//!
//! That's told for as long as it takes and taken back. The number that is written says that it's
//! ours: what an administrator has set stays, and what a process that was killed has left is taken
//! back by the next one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

const PATH: &str = "/sys/kernel/rcu_expedited";
/// Any number but zero tells it; this one is ours.
const OURS: &str = "29289";

/// The kernel hurries until the last of these is dropped, in whichever process. Where it can't be
/// told it waits as ever.
#[derive(Debug)]
pub(crate) struct Hurry {
    /// Locked shared by all who are at it.
    told: Option<File>,
}

impl Hurry {
    pub(crate) fn up() -> Hurry {
        Hurry { told: tell().ok() }
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        let Some(file) = self.told.take() else { return };
        // To have it alone means that everybody else is done; to fail gives up our share of it, so
        // that of two who try at the same moment one succeeds.
        if file.try_lock().is_ok() && read(&file).is_ok_and(|value| value == OURS) {
            // It worked a moment ago. If not now, the next one tries again.
            let _ = file.write_at(b"0", 0);
        }
    }
}

fn tell() -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(PATH)?;
    // Somebody has it alone for a moment: better to wait for the kernel once than for them.
    file.try_lock_shared()?;
    if read(&file)? == "0" {
        file.write_at(OURS.as_bytes(), 0)?;
    }
    Ok(file)
}

fn read(file: &File) -> io::Result<String> {
    let mut buffer = [0; 16];
    let length = file.read_at(&mut buffer, 0)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> String {
        std::fs::read_to_string(PATH)
            .expect("this kernel can hurry")
            .trim()
            .to_owned()
    }

    /// Waits until nobody hurries. Others on the machine may, but for a moment each, and those that were
    /// killed at it are cleaned up after.
    fn settled() -> String {
        loop {
            drop(Hurry::up());
            let value = value();
            if value != OURS {
                return value;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_is_told_while_anybody_hurries_and_taken_back() {
        let first = Hurry::up();
        let second = Hurry::up();
        drop(first);
        assert_ne!(value(), "0");
        drop(second);
        settled();
    }

    #[test]
    fn what_somebody_left_is_taken_back() {
        let file = OpenOptions::new().write(true).open(PATH).expect("as root");
        file.write_at(OURS.as_bytes(), 0).expect("as root");
        settled();
    }
}
