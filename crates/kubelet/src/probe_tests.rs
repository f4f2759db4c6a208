use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::pod::tests::pod;
use crate::runtime::tests::{ready_sandbox, running};

fn prober(verdicts: &Arc<Mutex<Vec<Verdict>>>) -> Prober {
    let verdicts = Arc::clone(verdicts);
    let report: Report = Arc::new(move |v| verdicts.lock().unwrap().push(v));
    Prober::new(
        cri::Client::new("/nonexistent.sock"),
        crate::events::tests_sink(),
        report,
    )
}

fn observed() -> Observed {
    Observed {
        sandboxes: vec![ready_sandbox("s0", 0)],
        runs: vec![running("a", "s0", 0)],
    }
}

fn verdict(check: Check, good: bool) -> Verdict {
    Verdict {
        run_id: "a-0".into(),
        check,
        good,
    }
}

#[tokio::test]
async fn without_probes_a_running_container_is_ready() {
    let it = pod(json!({"spec": {"containers": [{"name": "a"}]}}));
    let mut prober = prober(&Arc::default());
    prober.sync(&it, &observed(), None);
    assert!(prober.ready().contains("a-0") && prober.started().contains("a-0"));
    prober.sync(&it, &Observed::default(), None);
    assert!(prober.ready().is_empty() && prober.started().is_empty());
}

#[tokio::test]
async fn readiness_waits_for_the_startup_probe() {
    let probe = json!({"tcpSocket": {"port": 1}, "periodSeconds": 3600});
    let it = pod(json!({"spec": {"containers": [{"name": "a", "startupProbe": probe}]}}));
    let mut prober = prober(&Arc::default());
    prober.sync(&it, &observed(), None);
    assert!(prober.ready().is_empty() && prober.started().is_empty());
    assert!(prober.note(&it, &verdict(Check::Startup, true)));
    assert!(prober.ready().contains("a-0") && prober.started().contains("a-0"));
}

#[tokio::test]
async fn a_restarted_agent_believes_what_the_api_says_of_the_same_run() {
    let probe = json!({"tcpSocket": {"port": 1}, "periodSeconds": 3600});
    let status = |id: &str| {
        json!({"containerStatuses": [{"name": "a", "ready": true, "started": true,
        "restartCount": 0, "image": "", "imageID": "", "containerID": format!("containerd://{id}")}]})
    };
    for (id, expected) in [("a-0", true), ("a-9", false)] {
        let it = pod(
            json!({"spec": {"containers": [{"name": "a", "readinessProbe": probe}]}, "status": status(id)}),
        );
        let mut prober = prober(&Arc::default());
        prober.sync(&it, &observed(), None);
        assert_eq!(prober.ready().contains("a-0"), expected);
    }
}

#[tokio::test]
async fn a_dead_container_is_given_up_once_and_not_while_stopping() {
    let probe = json!({"tcpSocket": {"port": 1}, "periodSeconds": 3600});
    let it = pod(json!({"spec": {"containers": [{"name": "a", "livenessProbe": probe}]}}));
    let mut prober = prober(&Arc::default());
    prober.sync(&it, &observed(), None);
    prober.note(&it, &verdict(Check::Liveness, false));
    assert_eq!(prober.failed().get("a-0"), Some(&Check::Liveness));
    prober.stopping();
    assert!(prober.failed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn thresholds_are_counted_in_a_row() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let probe =
        json!({"httpGet": {"port": port, "host": "127.0.0.1"}, "periodSeconds": 1, "failureThreshold": 3});
    let it = pod(json!({"spec": {"containers": [{"name": "a", "livenessProbe": probe}]}}));
    let verdicts: Arc<Mutex<Vec<Verdict>>> = Arc::default();
    let mut prober = prober(&verdicts);
    let begun = tokio::time::Instant::now();
    prober.sync(&it, &observed(), None);
    while verdicts.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*verdicts.lock().unwrap(), [verdict(Check::Liveness, false)]);
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}
