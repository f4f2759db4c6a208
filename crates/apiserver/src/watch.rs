//! Watches: a stream of events for the objects of a selection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kinds::{Kind, Reason};
use rand::Rng;
use serde_json::Value;
use store::Change;
use tokio::time::Instant;

use crate::call::Call;
use crate::negotiate::{Accept, Encoding};
use crate::path::Query;
use crate::reply::{self, BoxError, Response};
use crate::selector::Selection;
use crate::server::ApiServer;
use crate::status::Failure;
use crate::{list, object, present};

/// How often a quiet watch says how far it is, to clients that want to know.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// The last bookmark comes this long before the end, so that the next watch begins where this one ended.
const BEFORE_END: Duration = Duration::from_secs(2);
/// Watches without `timeoutSeconds` end by themselves after between one and two of these, not all at once.
const DEFAULT_TIMEOUT: u64 = 1800;
/// Events that are there already go out together, up to about this size.
const CHUNK: usize = 32 << 10;

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// What exists first, as `ADDED`, then what changes.
    State { not_before: u64 },
    /// Only what changed after this revision.
    After(u64),
}

/// What a watch request asks for.
pub(crate) struct Plan {
    start: Start,
    /// Marks the end of the existing objects with a bookmark.
    mark_initial: bool,
    bookmarks: bool,
    timeout: Duration,
}

impl Plan {
    pub(crate) fn parse(query: &Query) -> Result<Plan, Failure> {
        let version = list::resource_version(query)?;
        let matching = query.get("resourceVersionMatch");
        let initial = query.get("sendInitialEvents").map(|value| value == "true");
        let bookmarks = query.flag("allowWatchBookmarks");
        check_initial(initial, matching)?;
        let start = match (initial, version) {
            (Some(true), version) | (None, version @ (None | Some(0))) => Start::State {
                not_before: version.unwrap_or(0),
            },
            (Some(false), None | Some(0)) => Start::After(u64::MAX),
            (_, Some(version)) => Start::After(version),
        };
        let timeout = match query.number("timeoutSeconds")? {
            Some(seconds) if seconds > 0 => seconds,
            _ => rand::rng().random_range(DEFAULT_TIMEOUT..2 * DEFAULT_TIMEOUT),
        };
        Ok(Plan {
            start,
            mark_initial: initial == Some(true) && bookmarks,
            bookmarks,
            timeout: Duration::from_secs(timeout.min(365 * 86400)),
        })
    }
}

fn check_initial(initial: Option<bool>, matching: Option<&str>) -> Result<(), Failure> {
    let refuse = |field: &str, message: &str| {
        Err(Failure::invalid_option(
            "ListOptions",
            field,
            Reason::Forbidden,
            message.to_owned(),
        ))
    };
    match (initial, matching) {
        (None, Some(_)) => refuse(
            "resourceVersionMatch",
            "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (Some(_), matching) if matching != Some("NotOlderThan") => refuse(
            "resourceVersionMatch",
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        _ => Ok(()),
    }
}

/// Answers a watch request.
pub(crate) async fn watch(server: &Arc<ApiServer>, call: &Call) -> Result<Response, Failure> {
    let plan = Plan::parse(&call.query)?;
    let mut selection = Selection::parse(&call.kind, &call.query)?;
    if let Some(name) = &call.name {
        selection = selection.and_name(name);
    }
    let stream = Stream::start(server.clone(), call, &plan, selection).await?;
    let chunks = futures::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.chunk().await?;
        Some((Ok::<_, BoxError>(Frame::data(chunk)), stream))
    });
    let content_type = match call.accept.encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => protobuf::WATCH_MEDIA_TYPE,
    };
    let mut response = reply::bytes(StatusCode::OK, content_type, Bytes::new());
    *response.body_mut() = StreamBody::new(chunks.boxed()).boxed_unsync();
    Ok(response)
}

/// A running watch.
struct Stream {
    server: Arc<ApiServer>,
    kind: Kind,
    accept: Accept,
    selection: Selection,
    /// Objects that existed at the start and aren't sent yet.
    initial: std::vec::IntoIter<store::Entry>,
    /// The revision to mark once `initial` is sent.
    mark: Option<u64>,
    /// An error that ends the stream right after the start.
    source: Result<store::Watch, Failure>,
    bookmarks: bool,
    /// The revision of the last bookmark, so that none is repeated.
    marked: u64,
    next_bookmark: Instant,
    deadline: Instant,
    first: bool,
    ended: bool,
}

impl Stream {
    async fn start(
        server: Arc<ApiServer>,
        call: &Call,
        plan: &Plan,
        selection: Selection,
    ) -> Result<Stream, Failure> {
        let prefix = object::prefix(&call.kind, call.namespace.as_deref());
        let mut initial = Vec::new();
        let mut mark = None;
        let after = match plan.start {
            Start::State { not_before } => {
                list::reach(&server, not_before).await?;
                let everything = list::read(&server, prefix.clone(), None, 0, None, selection.clone());
                let page = everything.await?;
                initial = page.entries;
                mark = plan.mark_initial.then_some(page.revision);
                page.revision
            }
            Start::After(u64::MAX) => server.store.revision(),
            Start::After(revision) => {
                list::reach(&server, revision).await?;
                revision
            }
        };
        let source = match server.store.watch(&prefix, after) {
            Ok(watch) => Ok(watch),
            // Watches report this as an event, so that clients treat it like one that happens later.
            Err(error @ store::Error::Compacted { .. }) => Err(error.into()),
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        let deadline = now + plan.timeout;
        Ok(Stream {
            server,
            kind: call.kind.clone(),
            accept: call.accept,
            selection,
            initial: initial.into_iter(),
            mark,
            source,
            bookmarks: plan.bookmarks,
            marked: after,
            next_bookmark: next_bookmark(now, deadline),
            deadline,
            first: true,
            ended: false,
        })
    }

    /// The next lines to send; `None` at the end.
    async fn chunk(&mut self) -> Option<Bytes> {
        let mut chunk = Vec::new();
        while !self.ended && chunk.len() < CHUNK {
            match self.ready() {
                Ok(Some(line)) => chunk.extend_from_slice(&line),
                Ok(None) if chunk.is_empty() => match self.wait().await {
                    Ok(line) => chunk.extend_from_slice(&line),
                    Err(failure) => self.end(failure, &mut chunk),
                },
                Ok(None) => break,
                Err(failure) => self.end(failure, &mut chunk),
            }
        }
        (!chunk.is_empty()).then(|| chunk.into())
    }

    fn end(&mut self, failure: Option<Failure>, chunk: &mut Vec<u8>) {
        self.ended = true;
        if let Some(failure) = failure {
            let encoding = self.accept.encoding;
            // A status can always be encoded.
            if let Ok(status) = present::encode(encoding, &failure.status()) {
                chunk.extend_from_slice(&event_bytes(encoding, "ERROR", &status));
            }
        }
    }

    /// A line that needs no waiting.
    fn ready(&mut self) -> Result<Option<Bytes>, Option<Failure>> {
        if let Some(entry) = self.initial.next() {
            return self.line("ADDED", &entry.value).map(Some);
        }
        if let Some(revision) = self.mark.take() {
            return self.bookmark(revision, true).map(Some);
        }
        loop {
            let source = self.source.as_mut().map_err(|failure| Some(failure.clone()))?;
            let Some(event) = source.try_next().map_err(ending)? else {
                return Ok(None);
            };
            if let Some(line) = self.event_line(&event)? {
                return Ok(Some(line));
            }
        }
    }

    /// Waits for an event, the time of a bookmark, or the end.
    async fn wait(&mut self) -> Result<Bytes, Option<Failure>> {
        loop {
            let source = self.source.as_mut().map_err(|failure| Some(failure.clone()))?;
            tokio::select! {
                event = source.next() => {
                    let event = event.map_err(ending)?;
                    if let Some(line) = self.event_line(&event)? {
                        return Ok(line);
                    }
                }
                () = tokio::time::sleep_until(self.next_bookmark) => {
                    self.next_bookmark = next_bookmark(Instant::now(), self.deadline);
                    let revision = source.revision();
                    if self.bookmarks && revision > self.marked {
                        return self.bookmark(revision, false);
                    }
                }
                () = tokio::time::sleep_until(self.deadline) => return Err(None),
                () = self.server.stopping.cancelled() => return Err(None),
            }
        }
    }

    /// What an event means for this selection: objects also enter and leave it by changing.
    fn event_line(&mut self, event: &store::Event) -> Result<Option<Bytes>, Option<Failure>> {
        let before = event.change != Change::Created && self.selection.matches(&event.previous);
        let after = event.change != Change::Deleted && self.selection.matches(&event.value);
        match (before, after) {
            (false, false) => Ok(None),
            (false, true) => self.line("ADDED", &event.value).map(Some),
            (true, true) => self.line("MODIFIED", &event.value).map(Some),
            (true, false) if event.change == Change::Deleted => self.line("DELETED", &event.value).map(Some),
            (true, false) => {
                let left = as_of(&event.previous, event.revision)?;
                self.line("DELETED", &left).map(Some)
            }
        }
    }

    fn line(&mut self, event: &str, object: &Bytes) -> Result<Bytes, Option<Failure>> {
        let first = std::mem::take(&mut self.first);
        let object = present::event(&self.kind, self.accept, object, first)?;
        Ok(event_bytes(self.accept.encoding, event, &object))
    }

    fn bookmark(&mut self, revision: u64, initial_events_end: bool) -> Result<Bytes, Option<Failure>> {
        self.marked = revision;
        let object = present::bookmark(&self.kind, self.accept.form, revision, initial_events_end);
        let encoding = self.accept.encoding;
        Ok(event_bytes(
            encoding,
            "BOOKMARK",
            &present::encode(encoding, &object)?,
        ))
    }
}

/// After a while, and shortly before the end.
fn next_bookmark(now: Instant, deadline: Instant) -> Instant {
    let last = deadline.checked_sub(BEFORE_END).filter(|last| *last > now);
    last.map_or(now + BOOKMARK_PERIOD, |last| last.min(now + BOOKMARK_PERIOD))
}

/// How a store's error ends a watch: a closing store says nothing, as a closing server does.
fn ending(error: store::Error) -> Option<Failure> {
    match error {
        store::Error::Closed => None,
        error => Some(error.into()),
    }
}

/// An object as it was before an event, with the event's revision: where a client would go on from.
fn as_of(object: &[u8], revision: u64) -> Result<Bytes, Failure> {
    let mut object = object::parse(object)?;
    object::metadata(&mut object).insert("resourceVersion".into(), Value::String(revision.to_string()));
    Ok(object.to_string().into())
}

/// An event as it goes over the wire.
fn event_bytes(encoding: Encoding, event: &str, object: &[u8]) -> Bytes {
    match encoding {
        Encoding::Json => line(event, object),
        Encoding::Protobuf => protobuf::event(event, object).into(),
    }
}

fn line(event: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(event.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}
