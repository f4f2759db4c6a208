//! `/logs/`: what is in the node's `/var/log`, to list and to read.
//!
//! Nothing outside is reached: what a path leads to is opened without reading it, and is read only once the kernel
//! says that it lies inside, whichever links led there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use futures::TryStreamExt;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LAST_MODIFIED, LOCATION, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use nix::fcntl::OFlag;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::Answer;
use super::answer::{Refusal, text, whole};

const ROOT: &str = "/var/log";
/// How much of a file is looked at to tell what it is.
const SNIFF: usize = 512;
/// What a name needs no escaping for in a link.
const IN_LINKS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What a path leads to.
enum Found {
    /// The names in a folder, with a slash behind those of folders.
    Folder(Vec<Vec<u8>>),
    File {
        file: File,
        length: u64,
        modified: Option<SystemTime>,
        content_type: &'static str,
    },
}

/// Answers with what is below `/logs/`.
pub(super) async fn serve<B>(below: &[&str], request: &Request<B>) -> Answer {
    from(Path::new(ROOT), below, request).await
}

async fn from<B>(root: &Path, below: &[&str], request: &Request<B>) -> Answer {
    if below
        .iter()
        .any(|part| *part == ".." || part.contains(['/', '\0']))
    {
        return Err(Refusal::bad_request("invalid URL path"));
    }
    let (root, path) = (root.to_owned(), below.join("/"));
    let found = tokio::task::spawn_blocking(move || find(&root, Path::new(&path))).await;
    let found = found.map_err(|error| Refusal::internal(error.to_string()))?;
    let is_folder = request.uri().path().ends_with('/');
    let name = || below.last().copied().unwrap_or("logs");
    match found.map_err(refusal)? {
        Found::Folder(_) if !is_folder => redirect(&format!("{}/", link(name().as_bytes()))),
        Found::Folder(names) => Ok(text("text/html; charset=utf-8", page(&names))),
        Found::File { .. } if is_folder => redirect(&format!("../{}", link(name().as_bytes()))),
        Found::File {
            file,
            length,
            modified,
            content_type,
        } => {
            let wanted = request.headers().get(RANGE).and_then(|range| range.to_str().ok());
            let mut answer = part(file, length, wanted.and_then(|range| parse_range(range, length)))?;
            let headers = answer.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            // What somebody writes into a log is not to become a page.
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            let modified = modified.and_then(|at| Timestamp::try_from(at).ok());
            let modified = modified.map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
            if let Some(at) = modified.and_then(|at| at.parse().ok()) {
                headers.insert(LAST_MODIFIED, at);
            }
            Ok(answer)
        }
    }
}

fn find(root: &Path, below: &Path) -> io::Result<Found> {
    // Opening a pipe or a device to read could do something already.
    let mut look = OpenOptions::new();
    let place = look
        .read(true)
        .custom_flags(OFlag::O_PATH.bits())
        .open(root.join(below))?;
    let held = format!("/proc/self/fd/{}", place.as_raw_fd());
    if !fs::read_link(&held)?.starts_with(root.canonicalize()?) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let metadata = place.metadata()?;
    if metadata.is_dir() {
        return folder(Path::new(&held)).map(Found::Folder);
    }
    if !metadata.is_file() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut file = File::open(&held)?;
    let content_type = content_type(&mut file, below)?;
    Ok(Found::File {
        file,
        length: metadata.len(),
        modified: metadata.modified().ok(),
        content_type,
    })
}

fn folder(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let mut name = entry.file_name().as_bytes().to_owned();
        if entry.file_type()?.is_dir() {
            name.push(b'/');
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

fn content_type(file: &mut File, path: &Path) -> io::Result<&'static str> {
    if path.extension().is_some_and(|extension| extension == "gz") {
        return Ok("application/gzip");
    }
    let mut beginning = Vec::with_capacity(SNIFF);
    Read::take(&mut *file, SNIFF as u64).read_to_end(&mut beginning)?;
    let is_binary = |byte: &u8| matches!(byte, 0..=8 | 11 | 14..=26 | 28..=31);
    Ok(match beginning.iter().any(is_binary) {
        true => "application/octet-stream",
        false => "text/plain; charset=utf-8",
    })
}

/// The part of a file that is wanted, as it is now: what is written meanwhile isn't part of it.
fn part(mut file: File, length: u64, range: Option<Range<u64>>) -> Answer {
    let content_range = match &range {
        Some(range) if range.is_empty() => Some(format!("bytes */{length}")),
        Some(range) => Some(format!("bytes {}-{}/{length}", range.start, range.end - 1)),
        None => None,
    };
    let status = match &range {
        Some(range) if range.is_empty() => StatusCode::RANGE_NOT_SATISFIABLE,
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    };
    let range = range.unwrap_or(0..length);
    let size = range.end - range.start;
    file.seek(SeekFrom::Start(range.start)).map_err(refusal)?;
    let bytes = ReaderStream::new(tokio::fs::File::from_std(file).take(size));
    let mut answer = Response::new(StreamBody::new(bytes.map_ok(Frame::data)).boxed_unsync());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_LENGTH, size.into());
    if let Some(range) = content_range.and_then(|range| range.parse().ok()) {
        headers.insert(CONTENT_RANGE, range);
    }
    Ok(answer)
}

/// The one range of bytes that is asked for; an empty one if the file doesn't have it. Others, several at once
/// among them, are as good as none: the whole file answers them as well.
fn parse_range(text: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", last) => length.saturating_sub(last.parse().ok()?)..length,
        (first, "") => first.parse().ok()?..length,
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            first..length.min(last.saturating_add(1))
        }
    };
    Some(if range.is_empty() { 0..0 } else { range })
}

fn redirect(to: &str) -> Answer {
    let mut answer = Response::new(whole(""));
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let to = HeaderValue::try_from(to).map_err(|error| Refusal::internal(error.to_string()))?;
    answer.headers_mut().insert(LOCATION, to);
    Ok(answer)
}

fn refusal(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            Refusal::not_found("404 page not found")
        }
        io::ErrorKind::PermissionDenied => Refusal::new(StatusCode::FORBIDDEN, "403 Forbidden"),
        _ => Refusal::internal(error.to_string()),
    }
}

fn link(name: &[u8]) -> String {
    percent_encode(name, IN_LINKS).to_string()
}

fn page(names: &[Vec<u8>]) -> String {
    let mut page = "<!doctype html>\n<pre>\n".to_owned();
    for name in names {
        let (plain, slash) = match name.strip_suffix(b"/") {
            Some(plain) => (plain, "/"),
            None => (&name[..], ""),
        };
        let shown = String::from_utf8_lossy(plain)
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        // A name with a colon isn't a scheme.
        page += &format!("<a href=\"./{}{slash}\">{shown}{slash}</a>\n", link(plain));
    }
    page + "</pre>\n"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rstest::rstest;

    use super::*;

    /// A folder `log` beside a secret.
    fn folders() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::create_dir_all(log.join("pods/a&b")).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::write(log.join("syslog"), "0123456789").unwrap();
        fs::write(log.join("<b>"), "").unwrap();
        fs::write(log.join("pods/data"), [0, 1, 2]).unwrap();
        fs::write(log.join("pods/page.html"), "<html>").unwrap();
        symlink(dir.path().join("secret"), log.join("outside")).unwrap();
        symlink("..", log.join("up")).unwrap();
        symlink(log.join("syslog"), log.join("pods/inside")).unwrap();
        nix::unistd::mkfifo(&log.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        dir
    }

    /// The code, a header and the body of an answer.
    async fn ask(dir: &tempfile::TempDir, path: &str, range: Option<&str>) -> (u16, http::HeaderMap, String) {
        let mut request = Request::get(format!("/logs/{path}"));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let request = request.body(()).unwrap();
        let below: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let answer = from(&dir.path().join("log"), &below, &request).await;
        let (head, body) = answer.unwrap_or_else(Refusal::into_response).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        (head.status.as_u16(), head.headers, body)
    }

    #[tokio::test]
    async fn folders_are_listed_and_files_read() {
        let dir = folders();
        let (code, headers, body) = ask(&dir, "", None).await;
        assert_eq!(
            (code, &headers["content-type"]),
            (200, &"text/html; charset=utf-8".parse().unwrap())
        );
        assert!(
            body.contains("<a href=\"./pods/\">pods/</a>\n<a href=\"./syslog\">syslog</a>\n"),
            "{body}"
        );
        assert!(body.contains("<a href=\"./%3Cb%3E\">&lt;b&gt;</a>"), "{body}");
        let (code, headers, body) = ask(&dir, "syslog", None).await;
        assert_eq!((code, body.as_str()), (200, "0123456789"));
        assert_eq!(headers["content-length"], "10");
        assert!(headers["last-modified"].to_str().unwrap().ends_with(" GMT"));
        let (_, headers, _) = ask(&dir, "pods/page.html", None).await;
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let (_, headers, _) = ask(&dir, "pods/data", None).await;
        assert_eq!(headers["content-type"], "application/octet-stream");
        for (path, location) in [
            ("pods", "pods/"),
            ("pods/a&b", "a%26b/"),
            ("syslog/", "../syslog"),
        ] {
            let (code, headers, _) = ask(&dir, path, None).await;
            assert_eq!((code, headers["location"].to_str().unwrap()), (301, location));
        }
    }

    #[rstest]
    #[case("outside", 404)]
    #[case("up/", 404)]
    #[case("up/secret", 404)]
    #[case("../secret", 400)]
    #[case("pods/../syslog", 400)]
    #[case("none", 404)]
    #[case("syslog/none", 404)]
    #[case("pipe", 403)]
    #[case("pods/inside", 200)]
    #[tokio::test]
    async fn nothing_outside_is_reached(#[case] path: &str, #[case] expected: u16) {
        let (code, _, body) = ask(&folders(), path, None).await;
        assert_eq!(code, expected, "{body}");
        assert!(!body.contains("secret"), "{body}");
    }

    #[rstest]
    #[case("bytes=2-4", 206, "234", "bytes 2-4/10")]
    #[case("bytes=8-", 206, "89", "bytes 8-9/10")]
    #[case("bytes=-3", 206, "789", "bytes 7-9/10")]
    #[case("bytes=5-99", 206, "56789", "bytes 5-9/10")]
    #[case("bytes=-99", 206, "0123456789", "bytes 0-9/10")]
    #[case("bytes=10-", 416, "", "bytes */10")]
    #[case("bytes=-0", 416, "", "bytes */10")]
    #[case("bytes=4-2", 200, "0123456789", "")]
    #[case("bytes=0-1,3-4", 200, "0123456789", "")]
    #[case("lines=1-2", 200, "0123456789", "")]
    #[tokio::test]
    async fn a_part_of_a_file_is_read(
        #[case] range: &str,
        #[case] expected: u16,
        #[case] content: &str,
        #[case] content_range: &str,
    ) {
        let (code, headers, body) = ask(&folders(), "syslog", Some(range)).await;
        assert_eq!((code, body.as_str()), (expected, content));
        let found = headers
            .get("content-range")
            .map_or("", |range| range.to_str().unwrap());
        assert_eq!(found, content_range);
    }
}
