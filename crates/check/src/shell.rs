//! Commands in pods.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, LogParams};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Semaphore;

/// One command may take this long; each sets shorter limits for itself.
const LIMIT: Duration = Duration::from_secs(30);
/// Commands at once: starting one costs the node some work.
const AT_ONCE: usize = 8;
/// No command prints more than this that anybody wants.
const MOST_OUTPUT: u64 = 4 << 20;

/// What a command printed, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs commands in pods; tests have one without pods. An error is why the
/// command couldn't be run at all.
pub(crate) trait Shell: Send + Sync {
    /// Runs a command to its end.
    fn exec<'a>(&'a self, pod: &'a str, command: Vec<String>) -> BoxFuture<'a, Result<Output, String>>;
    /// What the pod has printed.
    fn logs<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, Result<String, String>>;
}

/// Through the API.
pub(crate) struct KubeShell {
    pods: Api<Pod>,
    permits: Semaphore,
}

impl KubeShell {
    pub(crate) fn new(pods: Api<Pod>) -> Self {
        Self {
            pods,
            permits: Semaphore::new(AT_ONCE),
        }
    }

    async fn run(&self, pod: &str, command: Vec<String>) -> Result<Output, String> {
        let params = AttachParams::default().stdout(true).stderr(true);
        let mut process = self
            .pods
            .exec(pod, command, &params)
            .await
            .map_err(|e| plain(&e))?;
        let status = process.take_status();
        let (stdout, stderr) = (process.stdout(), process.stderr());
        // Both at once, or the one that isn't read stops the other.
        let (stdout, stderr) = tokio::join!(read(stdout), read(stderr));
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let code = match status {
            Some(status) => exit_code(&status)?,
            None => return Err("the connection ended before the command did".to_owned()),
        };
        Ok(Output {
            code,
            stdout: stdout?,
            stderr: stderr?,
        })
    }
}

impl Shell for KubeShell {
    fn exec<'a>(&'a self, pod: &'a str, command: Vec<String>) -> BoxFuture<'a, Result<Output, String>> {
        Box::pin(async move {
            let _permit = self.permits.acquire().await.map_err(|e| e.to_string())?;
            match tokio::time::timeout(LIMIT, self.run(pod, command)).await {
                Ok(done) => done.map_err(|e| format!("exec: {e}")),
                Err(_) => Err(format!("exec: nothing came back within {LIMIT:?}")),
            }
        })
    }

    fn logs<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            let params = LogParams::default();
            let read = self.pods.logs(pod, &params);
            match tokio::time::timeout(LIMIT, read).await {
                Ok(done) => done.map_err(|e| format!("logs: {}", plain(&e))),
                Err(_) => Err(format!("logs: nothing came back within {LIMIT:?}")),
            }
        })
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> Result<String, String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let mut limited = stream.take(MOST_OUTPUT);
        limited.read_to_end(&mut bytes).await.map_err(|e| e.to_string())?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The exit code out of the status that ends a command's streams.
fn exit_code(status: &Status) -> Result<i32, String> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status
        .details
        .iter()
        .flat_map(|details| details.causes.iter().flatten());
    let mut codes = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = codes
        .next()
        .and_then(|cause| cause.message.as_ref()?.parse().ok());
    let message = status
        .message
        .clone()
        .unwrap_or_else(|| "failed without a word".to_owned());
    code.ok_or(message)
}

/// An API error as one line.
pub(crate) fn plain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(inner) = source {
                let inner_text = inner.to_string();
                if !text.contains(&inner_text) {
                    text = format!("{text}: {inner_text}");
                }
                source = inner.source();
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(json: serde_json::Value) -> Result<i32, String> {
        exit_code(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn exit_codes_are_read_from_the_status() {
        use serde_json::json;
        assert_eq!(code(json!({"status": "Success"})), Ok(0));
        let failed = json!({
            "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated",
            "details": {"causes": [{"reason": "ExitCode", "message": "5"}]},
        });
        assert_eq!(code(failed), Ok(5));
        let broken = json!({"status": "Failure", "message": "no such container"});
        assert_eq!(code(broken), Err("no such container".to_owned()));
    }
}
