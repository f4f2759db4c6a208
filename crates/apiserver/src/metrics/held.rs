//! Requests that go on after their answer has begun.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use super::{About, Metrics};
use crate::reply::{Body, BoxError, Request, Response};

/// Whoever has this keeps a long request counted.
#[derive(Clone)]
pub(crate) struct Held(#[expect(dead_code, reason = "what counts is that it is there")] Arc<Long>);

struct Long {
    metrics: Arc<Metrics>,
    about: About,
}

impl Drop for Long {
    fn drop(&mut self) {
        if let Some(series) = self.metrics.lock().get_mut(&self.about) {
            series.long -= 1;
        }
    }
}

impl Held {
    pub(super) fn new(metrics: Arc<Metrics>, about: About) -> Held {
        metrics.lock().entry(about.clone()).or_default().long += 1;
        Held(Arc::new(Long { metrics, about }))
    }

    /// The response, whose body has the hold.
    pub(super) fn by(self, response: Response) -> Response {
        response.map(|body| Holding { body, _held: self }.boxed_unsync())
    }
}

/// The hold on a request, for what goes on without an answer's body: a tunnel.
pub(crate) fn held(request: &Request) -> Option<Held> {
    request.extensions().get::<Held>().cloned()
}

/// A body with the hold on its request.
struct Holding {
    body: Body,
    _held: Held,
}

impl http_body::Body for Holding {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
