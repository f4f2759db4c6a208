//! Large answers, compressed for clients that like that.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::reply::{self, AsItIs, Response};

/// Smaller answers aren't worth it: Kubernetes' threshold.
const WORTHWHILE: u64 = 128 << 10;

/// Whether a client takes gzip.
pub(crate) fn accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
            name.eq_ignore_ascii_case("gzip") && !refused
        })
}

/// Compresses an answer that is there as a whole and large enough; streams go on as they are.
pub(crate) async fn gzip(response: Response) -> Response {
    let size = response.body().size_hint();
    if size.exact().is_none_or(|size| size < WORTHWHILE)
        || response.headers().contains_key(header::CONTENT_ENCODING)
        || response.extensions().get::<AsItIs>().is_some()
    {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let whole = match body.collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(error) => {
            // A body of a known size is in memory: it has nothing to fail with.
            tracing::error!(%error, "an answer's body");
            return Response::from_parts(head, reply::full(Bytes::new()));
        }
    };
    let plain = whole.clone();
    let body = match tokio::task::spawn_blocking(move || compress(&plain)).await {
        Ok(Ok(compressed)) => {
            let headers = &mut head.headers;
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            compressed
        }
        // The runtime shuts down, or there is no memory for it: the plain answer will do.
        Ok(Err(_)) | Err(_) => whole,
    };
    Response::from_parts(head, reply::full(body))
}

fn compress(plain: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain)?;
    Ok(encoder.finish()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_say_whether_they_take_gzip() {
        let takes = |value: &str| {
            accepted(&HeaderMap::from_iter([(
                header::ACCEPT_ENCODING,
                value.parse().unwrap(),
            )]))
        };
        assert!(takes("gzip") && takes("br, gzip;q=0.5") && takes("GZIP"));
        assert!(!takes("identity") && !takes("gzip;q=0") && !takes("x-gzip") && !accepted(&HeaderMap::new()));
    }
}
