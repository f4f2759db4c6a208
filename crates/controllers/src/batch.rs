//! Many requests at once, carefully.

use futures::future::join_all;

/// How many requests are under way at once; more would only wait inside the server.
const WIDEST: usize = 64;

/// Runs `count` requests in batches of 1, 2, 4 … and stops after the first batch with a failure,
/// so that what cannot work (a quota, a broken template) fails once and not a hundred times.
/// Returns how many succeeded, and the first error.
pub(crate) async fn slow_start<F, Fut, E>(count: usize, request: F) -> (usize, Option<E>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let (mut started, mut succeeded, mut width) = (0, 0, 1);
    while started < count {
        let batch = width.min(count - started);
        let results = join_all((started..started + batch).map(&request)).await;
        started += batch;
        width = (width * 2).min(WIDEST);
        succeeded += results.iter().filter(|result| result.is_ok()).count();
        if let Some(error) = results.into_iter().find_map(Result::err) {
            return (succeeded, Some(error));
        }
    }
    (succeeded, None)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn everything_is_done_once_when_nothing_fails() {
        let calls = AtomicUsize::new(0);
        let request = |_| async {
            calls.fetch_add(1, Ordering::SeqCst);
            Ok::<_, ()>(())
        };
        assert_eq!(slow_start(100, request).await, (100, None));
        assert_eq!(calls.load(Ordering::SeqCst), 100);
        assert_eq!(slow_start(0, request).await, (0, None));
    }

    #[tokio::test]
    async fn what_cannot_work_is_tried_once() {
        let calls = AtomicUsize::new(0);
        let request = |_| async {
            calls.fetch_add(1, Ordering::SeqCst);
            Err("quota")
        };
        assert_eq!(slow_start(100, request).await, (0, Some("quota")));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_in_the_middle_stops_after_its_batch() {
        let request = |n| async move { if n == 4 { Err(n) } else { Ok(()) } };
        assert_eq!(slow_start(100, request).await, (6, Some(4)));
    }
}
