//! `/containerLogs`.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::Answer;
use super::answer::Refusal;
use super::find;
use super::query::Query;
use crate::context::Context;
use crate::logs::line::Stream;
use crate::logs::read::{Alive, Options, Reader};
use crate::runtime::{Observed, Run};
use crate::status;

/// How many chunks wait for a client that reads slowly.
const QUEUE: usize = 4;

pub(super) async fn serve(
    ctx: &Arc<Context>,
    namespace: &str,
    name: &str,
    container: &str,
    query: Option<&str>,
) -> Answer {
    let query = Query::parse(query);
    let mut options = options(&query)?;
    let previous = query.flag(&["previous"]);
    let (pod, observed) = find::container(ctx, namespace, name, container).await?;
    let run = choose(&pod, &observed, container, previous)?;
    // A run that has ended writes no more.
    options.follow &= !run.has_exited();
    let path = PathBuf::from(&run.log_path);
    let reader = Reader::open(&path, options, alive(ctx, run.id.clone())).await;
    let reader = reader.map_err(|error| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("failed to try resolving the log of container {container:?}: {error}"),
        )
    })?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Err(error) = reader.run(sender).await {
            tracing::debug!(log = %path.display(), %error, "reading a log broke off");
        }
    });
    let chunks = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let body = StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk))));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

pub(super) fn options(query: &Query) -> Result<Options, Refusal> {
    let since = match (query.text("sinceTime"), query.number::<i64>("sinceSeconds")?) {
        (Some(_), Some(_)) => {
            return Err(Refusal::bad_request(
                "at most one of sinceTime and sinceSeconds may be specified",
            ));
        }
        (Some(time), None) => Some(
            time.parse()
                .map_err(|e| Refusal::bad_request(format!("sinceTime: {e}")))?,
        ),
        (None, Some(seconds)) if seconds < 1 => {
            return Err(Refusal::bad_request("sinceSeconds must be greater than 0"));
        }
        // Before time began is as good as everything.
        (None, Some(seconds)) => Timestamp::now()
            .checked_sub(SignedDuration::from_secs(seconds))
            .ok(),
        (None, None) => None,
    };
    Ok(Options {
        follow: query.flag(&["follow"]),
        timestamps: query.flag(&["timestamps"]),
        // Newer clients say -1 for "all".
        tail: query
            .number::<i64>("tailLines")?
            .and_then(|n| u64::try_from(n).ok()),
        since,
        limit: query.number("limitBytes")?,
        stream: match query.text("stream") {
            Some("Stdout") => Some(Stream::Stdout),
            Some("Stderr") => Some(Stream::Stderr),
            _ => None,
        },
    })
}

/// The run whose log is wanted: the newest that got going or, for `previous`,
/// the one that the status shows as the container's last state. The errors are
/// Kubernetes' wording.
fn choose<'a>(
    pod: &Pod,
    observed: &'a Observed,
    container: &'a str,
    previous: bool,
) -> Result<&'a Run, Refusal> {
    let mut runs = observed
        .runs_of(container)
        .filter(|r| r.started_at.is_some() || r.has_exited());
    let found = if previous {
        let last = last_state(pod, container);
        runs.find(|r| last.as_deref() == Some(status::container_id(r).as_str()))
    } else {
        runs.next()
    };
    found.ok_or_else(|| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let whose = format!("{container:?} in pod {name:?}");
        Refusal::bad_request(if previous {
            format!("previous terminated container {whose} not found")
        } else {
            format!("container {whose} is waiting to start: ContainerCreating")
        })
    })
}

/// The id of the run that the container's status shows as its last state.
fn last_state(pod: &Pod, container: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let mut all = lists.into_iter().flatten().flatten();
    let status = all.find(|s| s.name == container)?;
    status
        .last_state
        .as_ref()?
        .terminated
        .as_ref()?
        .container_id
        .clone()
}

fn alive(ctx: &Context, id: String) -> Alive {
    let cri = ctx.cri.clone();
    Box::new(move || {
        let (cri, id) = (cri.clone(), id.clone());
        Box::pin(async move {
            match cri.container_status(&id).await {
                Ok(status) => status.state() == cri::message::ContainerState::Running,
                // A runtime that is being restarted doesn't end its containers.
                Err(error) => !error.is_not_found(),
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_log_is_newer_than_time() {
        let since = |text: &str| options(&Query::parse(Some(text))).map(|options| options.since);
        assert!(matches!(since("sinceSeconds=9223372036854775807"), Ok(None)));
        assert!(matches!(since("sinceSeconds=60"), Ok(Some(_))));
        for wrong in [
            "sinceSeconds=0",
            "sinceTime=x",
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        ] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
