use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, IntoRequest, Status};
use tonic_prost::ProstCodec;

use crate::Error;

/// What containerd itself is ready to send; a list of many containers is large.
const MAX_MESSAGE: usize = 16 << 20;

/// A connection to a container runtime. Cheap to clone; it connects when it is
/// first used and again whenever the runtime has been away.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    socket: Arc<Path>,
}

impl Client {
    /// A client of the runtime that listens on `socket`. Nothing is dialled yet.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        let socket: Arc<Path> = socket.into().into();
        let path = Arc::clone(&socket);
        // The address is a formality: gRPC wants an authority, the connector ignores it.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(
            tower::service_fn(move |_: Uri| {
                let path = Arc::clone(&path);
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }),
        );
        Self { channel, socket }
    }

    /// Where the runtime listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// One call. `path` is the full gRPC path; `limit` bounds the whole call.
    pub(crate) async fn call<Q, R>(
        &self,
        path: &'static str,
        limit: Duration,
        request: impl IntoRequest<Q>,
    ) -> Result<R, Error>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let method = path.rsplit('/').next().unwrap_or(path);
        let request = request.into_request();
        let exchange = async {
            let mut grpc = tonic::client::Grpc::new(self.channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            grpc.ready().await.map_err(|e| self.unreachable(&e))?;
            grpc.unary(
                request,
                PathAndQuery::from_static(path),
                ProstCodec::<Q, R>::default(),
            )
            .await
            .map_err(|status| self.refused(method, &status))
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Error::Timeout { method, limit }),
        }
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> Error {
        Error::Unreachable {
            socket: self.socket.to_path_buf(),
            message: innermost(error),
        }
    }

    fn refused(&self, method: &'static str, status: &Status) -> Error {
        // A status that carries a transport error never came from the runtime.
        match std::error::Error::source(status) {
            Some(source) if status.code() != Code::Ok => self.unreachable(source),
            _ => Error::Refused {
                method,
                code: status.code(),
                message: status.message().to_owned(),
            },
        }
    }
}

/// The last error of a chain: the operating system's, where there is one.
fn innermost(mut error: &dyn std::error::Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_runtime_is_told_apart_from_a_refusing_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let client = Client::new(folder.path().join("absent.sock"));
        let error = client.version().await.expect_err("nothing listens there");
        assert!(error.is_unreachable(), "{error:?}");
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
