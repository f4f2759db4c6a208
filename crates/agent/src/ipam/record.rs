//! The journal's lines.

use std::net::IpAddr;

use model::{Attachment, AttachmentId};
use serde::{Deserialize, Serialize};

use super::Millis;

/// The version of the format; another one is refused.
pub(super) const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Record {
    /// The first line: what this file is, and of which boot.
    Journal { version: u32, boot: String },
    /// An attachment has these addresses from here on.
    Assign {
        id: AttachmentId,
        attachment: Box<Attachment>,
    },
    /// An attachment is gone, and its addresses cool down from `at` on.
    Release { id: AttachmentId, at: Millis },
    /// An address cools down from `at` on: what compaction leaves of a release.
    Cooling { address: IpAddr, at: Millis },
}

impl Record {
    /// `CRC32 JSON`, and a line feed. The sum is over the JSON's bytes, in eight hex digits.
    pub(super) fn to_line(&self) -> String {
        let json = serde_json::to_string(self).expect("a record is plain data with string keys");
        line(&json)
    }

    /// The record of a line without its line feed; none if the line is damaged.
    pub(super) fn from_line(line: &[u8]) -> Option<Record> {
        let (sum, json) = line.split_at_checked(9)?;
        let sum = u32::from_str_radix(str::from_utf8(sum).ok()?.strip_suffix(' ')?, 16).ok()?;
        if sum != crc32(json) {
            return None;
        }
        serde_json::from_slice(json).ok()
    }
}

/// A line that says this.
pub(super) fn line(json: &str) -> String {
    format!("{:08x} {json}\n", crc32(json.as_bytes()))
}

/// CRC-32 as in zlib, PNG and Ethernet (reflected, polynomial 0xEDB88320).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 {
                (sum >> 1) ^ 0xEDB8_8320
            } else {
                sum >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Record {
        let id = AttachmentId {
            container: "c0ffee".to_owned(),
            interface: "eth0".to_owned(),
        };
        Record::Release { id, at: 7 }
    }

    #[test]
    fn the_sum_is_the_usual_crc32() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_line_is_readable() {
        let line = release().to_line();
        assert_eq!(
            line,
            "5de3263b {\"op\":\"release\",\"id\":{\"container\":\"c0ffee\",\"interface\":\"eth0\"},\"at\":7}\n"
        );
        assert_eq!(Record::from_line(line.trim_end().as_bytes()), Some(release()));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let line = release().to_line();
        let line = line.trim_end().as_bytes();
        for byte in 0..line.len() {
            for bit in 0..8 {
                let mut damaged = line.to_vec();
                damaged[byte] ^= 1 << bit;
                let read = Record::from_line(&damaged);
                // Case of a hex digit is the one thing that doesn't matter.
                assert!(read.is_none() || read == Some(release()), "{byte}:{bit}");
            }
        }
    }

    #[test]
    fn any_cut_is_noticed() {
        let line = release().to_line();
        for end in 0..line.len() - 1 {
            assert_eq!(Record::from_line(&line.as_bytes()[..end]), None);
        }
    }
}
