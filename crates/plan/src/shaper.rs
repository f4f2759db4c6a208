//! The queue that holds a pod to a rate: a token bucket (TBF) at the sending end of a link.
//!
//! What a pod receives waits at the node's end, what it sends at its own.

use std::fmt;

use model::Rate;

/// Ethernet's header, and a tag.
const FRAME: u64 = 18;
/// How much of the rate may pass at once after a pause: a hundredth of a second of it.
const BURSTS_PER_SECOND: u64 = 100;
/// How long a packet waits at most before it is dropped: a fortieth of a second.
const WAITS_PER_SECOND: u64 = 40;
/// Even the slowest queue takes this many packets of full size.
const PACKETS: u64 = 16;

/// A token bucket at the root of a link's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shaper {
    /// Bytes per second.
    pub rate: u64,
    /// How many bytes may pass at once. Never less than two packets, or none would pass.
    pub burst: u32,
    /// How many bytes may wait.
    pub queue: u32,
}

impl Shaper {
    /// The bucket for a rate on a link whose packets have at most `mtu` bytes.
    pub(crate) fn new(rate: Rate, mtu: u32) -> Shaper {
        let bytes = (rate.bits / 8).max(1);
        let packet = u64::from(mtu) + FRAME;
        let burst = rate.burst.map_or(bytes / BURSTS_PER_SECOND, |bits| bits / 8);
        let burst = burst.max(2 * packet);
        let queue = burst + (bytes / WAITS_PER_SECOND).max(PACKETS * packet);
        let number = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Shaper {
            rate: bytes,
            burst: number(burst),
            queue: number(queue),
        }
    }
}

impl fmt::Display for Shaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tbf rate {}bps burst {}b limit {}b",
            self.rate, self.burst, self.queue
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaper(bits: u64, burst: Option<u64>) -> Shaper {
        Shaper::new(Rate { bits, burst }, 1500)
    }

    #[test]
    fn a_bucket_fits_its_rate() {
        insta::assert_snapshot!(shaper(10_000_000, None), @"tbf rate 1250000bps burst 12500b limit 43750b");
        insta::assert_snapshot!(shaper(1_000, None), @"tbf rate 125bps burst 3036b limit 27324b");
        insta::assert_snapshot!(shaper(10_000_000_000, None), @"tbf rate 1250000000bps burst 12500000b limit 43750000b");
        insta::assert_snapshot!(shaper(1_000_000, Some(800_000)), @"tbf rate 125000bps burst 100000b limit 124288b");
    }

    #[test]
    fn no_rate_or_burst_is_too_large_or_too_small() {
        assert_eq!(
            shaper(1_000_000_000_000_000, None).burst,
            1_250_000_000_000_u64.min(u32::MAX.into()) as u32
        );
        assert_eq!(shaper(1_000, Some(8)).burst, 3036);
        assert_eq!(shaper(1, None).rate, 1);
    }
}
