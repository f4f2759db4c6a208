//! Health and numbers: `/health`, `/ready` and `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::resolver::Resolver;

/// Answers until `shutdown`.
pub(crate) async fn serve(resolver: Arc<Resolver>, listener: TcpListener, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let (resolver, shutdown) = (Arc::clone(&resolver), shutdown.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&resolver, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let serve = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = serve => {}
            }
        });
    }
}

fn answer(resolver: &Resolver, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (code, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/health" | "/livez") => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/ready" | "/readyz") => match resolver.is_known() {
            true => (StatusCode::OK, "ok\n".to_owned()),
            false => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the cluster's names aren't known yet: waiting for the API\n".to_owned(),
            ),
        },
        (&Method::GET, "/metrics") => (StatusCode::OK, resolver.metrics()),
        _ => (
            StatusCode::NOT_FOUND,
            "there are /health, /ready and /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    response
}
