//! Answers on the supervisor's socket.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};

use crate::Error;
use crate::protocol::{Failure, Phase, Reply, Request, line};
use crate::run::Supervisor;

pub(crate) async fn serve(supervisor: Arc<Supervisor>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let supervisor = Arc::clone(&supervisor);
                tokio::spawn(async move {
                    // A client that went away needs no answer.
                    let _ = answer(&supervisor, stream).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(supervisor: &Arc<Supervisor>, stream: UnixStream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let text = BufReader::new(reader)
        .lines()
        .next_line()
        .await?
        .unwrap_or_default();
    let request = match serde_json::from_str(&text) {
        Ok(request) => request,
        Err(error) => {
            let failure = Failure {
                what: format!("the supervisor doesn't understand {text:?}: {error}"),
                cure: "use the `ripstop` that started the cluster, or start it anew".to_owned(),
                log: None,
            };
            return say(&mut writer, &Reply::Failed(failure)).await;
        }
    };
    tracing::debug!(?request, "asked");
    match request {
        Request::Status => say(&mut writer, &Reply::Status(Box::new(supervisor.status()))).await,
        Request::Follow => follow(supervisor, &mut writer).await,
        Request::StopNode { node } => {
            let result = supervisor.stop_node(&node).await;
            say(&mut writer, &outcome(&result)).await
        }
        Request::StartNode { node } => {
            let result = supervisor.start_node(&node).await;
            say(&mut writer, &outcome(&result)).await
        }
        Request::Shutdown => {
            supervisor.shut_down().await;
            let said = say(&mut writer, &Reply::Done).await;
            supervisor.finish();
            said
        }
    }
}

fn outcome(result: &Result<(), Error>) -> Reply {
    match result {
        Ok(()) => Reply::Done,
        Err(error) => {
            tracing::warn!(%error, "refused");
            Reply::Failed(Failure::from(error))
        }
    }
}

/// Tells each step until the start is over.
async fn follow(supervisor: &Supervisor, writer: &mut OwnedWriteHalf) -> std::io::Result<()> {
    let mut changes = supervisor.state.changes();
    let mut told = 0;
    loop {
        changes.mark_unchanged();
        // The phase first: when it is over, no step comes after those that are read next.
        let (phase, failure) = supervisor.state.phase();
        for step in supervisor.state.steps_from(told) {
            told += 1;
            say(writer, &Reply::Step(step)).await?;
        }
        match (phase, failure) {
            (Phase::Starting, _) => {}
            (Phase::Failed, Some(failure)) => return say(writer, &Reply::Failed(failure)).await,
            _ => return say(writer, &Reply::Done).await,
        }
        if changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn say(writer: &mut OwnedWriteHalf, reply: &Reply) -> std::io::Result<()> {
    writer.write_all(&line(reply)).await
}
