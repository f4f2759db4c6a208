//! Queueing disciplines at the root of links: how fast a link's end sends.
//!
//! Ours has a handle of its own, so that it's known from others': somebody else's is never replaced.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_REPLACE, Nla};
use plan::Shaper;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption, TcStats2};

use crate::link::Link;
use crate::{Error, Netlink, Result};

/// The number that traffic control knows ours by ("ri").
pub(crate) const OURS: u16 = 0x7269;
/// The handle of our queues.
const HANDLE: TcHandle = TcHandle {
    major: OURS,
    minor: 0,
};
const TBF: &str = "tbf";
/// `TCA_OPTIONS`
const OPTIONS: u16 = 2;
/// `TCA_TBF_PARMS`
const PARAMETERS: u16 = 1;
/// `TCA_TBF_RATE64`
const RATE64: u16 = 4;
/// `TCA_TBF_BURST`
const BURST: u16 = 6;
/// `struct tc_tbf_qopt`: two `tc_ratespec`s, then limit, buffer and mtu.
const PARAMETERS_LENGTH: usize = 36;
const RATE_AT: usize = 8;
const LIMIT_AT: usize = 24;
const BUFFER_AT: usize = 28;

/// The queue at the root of a link's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Qdisc {
    /// `tbf`, `noqueue` …
    pub kind: String,
    /// Whether it's one of ours.
    pub ours: bool,
    /// Whether somebody made it: links come with one that nobody did.
    pub made: bool,
    /// Its parameters, if it's a token bucket.
    pub bucket: Option<Bucket>,
    /// How many packets it dropped.
    pub drops: u32,
    /// How often it had a packet wait.
    pub overlimits: u32,
}

/// A token bucket as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes per second.
    pub rate: u64,
    /// The burst as the time that it takes, in the kernel's ticks of 64 ns, as far as 32 bits go.
    pub ticks: u32,
    /// How many bytes may wait.
    pub limit: u32,
}

impl Bucket {
    /// Whether it's what a plan says. The kernel rounds times.
    fn is(&self, shaper: &Shaper) -> bool {
        const NANOSECONDS: u128 = 1_000_000_000;
        let nanoseconds = u128::from(shaper.burst) * NANOSECONDS / u128::from(shaper.rate.max(1));
        let low = (nanoseconds >> 6) & u128::from(u32::MAX);
        let wanted = u32::try_from(low).expect("the low 32 bits are 32 bits");
        let off = wanted
            .wrapping_sub(self.ticks)
            .min(self.ticks.wrapping_sub(wanted));
        let allowed = 2 + u32::try_from(nanoseconds >> 16).unwrap_or(u32::MAX);
        self.rate == shaper.rate && self.limit == shaper.queue && off <= allowed
    }
}

impl Netlink {
    /// The queue at the root of a link, by the link's index.
    pub async fn root_qdisc(&self, link: u32) -> Result<Option<Qdisc>> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(message(link));
        let objects = self
            .dump(request, || format!("read the queues of link {link}"))
            .await?;
        Ok(objects.into_iter().find_map(|object| match object {
            RouteNetlinkMessage::NewQueueDiscipline(message) => parse(message, link),
            _ => None,
        }))
    }

    /// Whether a link's queue is as it should be; of no wish, whether none of ours is there.
    pub async fn holds_shaper(&self, link: &Link, wanted: Option<&Shaper>) -> Result<bool> {
        if link.qdisc != TBF {
            return Ok(wanted.is_none());
        }
        let root = self.root_qdisc(link.index).await?.unwrap_or_default();
        Ok(match wanted {
            None => !root.ours,
            Some(shaper) => root.ours && root.bucket.is_some_and(|bucket| bucket.is(shaper)),
        })
    }

    /// Makes a link's queue as it should be; returns the number of writes.
    pub(crate) async fn ensure_shaper(&self, link: &Link, wanted: Option<&Shaper>) -> Result<usize> {
        if self.holds_shaper(link, wanted).await? {
            return Ok(0);
        }
        let Some(shaper) = wanted else {
            return self.delete_root_qdisc(link).await;
        };
        let root = self.root_qdisc(link.index).await?.unwrap_or_default();
        if root.made && !root.ours {
            return Err(Error::QueueTaken {
                link: link.name.clone(),
                kind: root.kind,
            });
        }
        self.set_shaper(link.index, shaper).await.map(|()| 1)
    }

    /// Gives a link the queue, in place of the one it came with or of ours.
    pub(crate) async fn set_shaper(&self, link: u32, shaper: &Shaper) -> Result<()> {
        let mut message = message(link);
        message.attributes.push(TcAttribute::Kind(TBF.to_owned()));
        message.attributes.push(TcAttribute::Options(options(shaper)));
        let request = RouteNetlinkMessage::NewQueueDiscipline(message);
        self.execute(request, NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("give link {link} the queue {shaper}")
        })
        .await
    }

    async fn delete_root_qdisc(&self, link: &Link) -> Result<usize> {
        let request = RouteNetlinkMessage::DelQueueDiscipline(message(link.index));
        let describe = || format!("delete the queue of link {}", link.name);
        match self.execute(request, 0, describe).await {
            Ok(()) => Ok(1),
            Err(error) if error.is_not_found() => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn message(link: u32) -> TcMessage {
    message_at(link, TcHandle::ROOT, HANDLE)
}

/// A message about something of a link's traffic control, by where it is and what it's known by.
pub(crate) fn message_at(link: u32, parent: TcHandle, handle: TcHandle) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = link.cast_signed();
    message.header.handle = handle;
    message.header.parent = parent;
    message
}

fn options(shaper: &Shaper) -> Vec<TcOption> {
    let mut parameters = [0; PARAMETERS_LENGTH];
    // Larger ones are in an attribute of their own.
    let rate = u32::try_from(shaper.rate).unwrap_or(u32::MAX);
    parameters[RATE_AT..RATE_AT + 4].copy_from_slice(&rate.to_ne_bytes());
    parameters[LIMIT_AT..LIMIT_AT + 4].copy_from_slice(&shaper.queue.to_ne_bytes());
    let option = |kind, bytes: &[u8]| TcOption::Other(DefaultNla::new(kind, bytes.to_vec()));
    let mut options = vec![
        option(PARAMETERS, &parameters),
        option(BURST, &shaper.burst.to_ne_bytes()),
    ];
    if u64::from(rate) != shaper.rate || rate == u32::MAX {
        options.push(option(RATE64, &shaper.rate.to_ne_bytes()));
    }
    options
}

fn parse(message: TcMessage, link: u32) -> Option<Qdisc> {
    let header = message.header;
    if header.index != link.cast_signed() || header.parent != TcHandle::ROOT {
        return None;
    }
    let mut qdisc = Qdisc {
        made: header.handle != TcHandle::UNSPEC,
        ..Qdisc::default()
    };
    for attribute in message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => qdisc.kind = kind,
            TcAttribute::Options(options) => qdisc.bucket = options.iter().find_map(bucket),
            TcAttribute::Stats2(stats) => {
                for one in stats {
                    if let TcStats2::Queue(queue) = one {
                        (qdisc.drops, qdisc.overlimits) = (queue.drops, queue.overlimits);
                    }
                }
            }
            _ => {}
        }
    }
    qdisc.ours = qdisc.kind == TBF && header.handle == HANDLE;
    Some(qdisc)
}

/// A token bucket's parameters: they are within one attribute.
fn bucket(option: &TcOption) -> Option<Bucket> {
    let TcOption::Other(nested) = option else {
        return None;
    };
    let mut bytes = vec![0; nested.value_len()];
    nested.emit_value(&mut bytes);
    let parameters = nft::wire::find(&bytes, PARAMETERS).filter(|_| nested.kind() == OPTIONS)?;
    let word = |at: usize| {
        let bytes: [u8; 4] = parameters.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    };
    let large = nft::wire::find(&bytes, RATE64).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    Some(Bucket {
        rate: large.map_or_else(
            || word(RATE_AT).map(u64::from),
            |bytes| Some(u64::from_ne_bytes(bytes)),
        )?,
        ticks: word(BUFFER_AT)?,
        limit: word(LIMIT_AT)?,
    })
}
