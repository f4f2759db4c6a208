//! Answers and refusals.

use std::io;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::json;

use super::{Answer, Body};
use crate::context::Context;
use crate::stats;

/// Why a request isn't answered as wished.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Something behind us failed.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = text("text/plain; charset=utf-8", self.message + "\n");
        *response.status_mut() = self.status;
        response
    }
}

/// A whole body.
pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .map_err(|never: io::Error| never)
        .boxed_unsync()
}

/// An answer of that type.
pub(super) fn text(content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(whole(bytes));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// What happens to conversations, a line each, as it happens.
pub(super) fn flows(ctx: &Context, query: Option<&str>) -> Answer {
    let flows = ctx.network.flows(query.unwrap_or_default());
    let flows = flows.ok_or_else(|| Refusal::not_found("nobody tells of flows here"))?;
    let lines = flows.map_err(Refusal::bad_request)?;
    let body = StreamBody::new(lines.map(|line| Ok(Frame::data(line))));
    let mut response = Response::new(body.boxed_unsync());
    let json_lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, json_lines);
    Ok(response)
}

/// The node's pods as a PodList.
pub(super) fn pods(ctx: &Context) -> Answer {
    let pods = ctx.directory.all();
    let pods: Vec<_> = pods.iter().map(|p| &**p).collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods});
    Ok(text("application/json", list.to_string()))
}

/// What everything uses, as JSON.
pub(super) async fn summary(ctx: &Context) -> Answer {
    let figures = stats::collect(ctx).await;
    let figures = figures.map_err(|error| Refusal::internal(format!("no figures: {error}")))?;
    Ok(text("application/json", stats::summary(&figures).to_string()))
}

/// What everything uses, in Prometheus' text format. That it can't be had is a figure, too.
pub(super) async fn resource(ctx: &Context) -> Answer {
    let body = match stats::collect(ctx).await {
        Ok(figures) => stats::text(&figures),
        Err(error) => {
            tracing::warn!(%error, "the runtime doesn't say what containers use");
            "# TYPE resource_scrape_error gauge\nresource_scrape_error 1\n".to_owned()
        }
    };
    Ok(text("text/plain; version=0.0.4; charset=utf-8", body))
}
