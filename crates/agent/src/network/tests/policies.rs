//! A pod's isolation, before its link and as long as it.

use cni::Code;
use plan::Isolation;

use super::*;

/// An API that is away, as it was when it was last heard of.
async fn with_policies(dir: &Path, kernel: &Fake, pods: &[&str]) -> Running {
    let policies = Arc::new(Policies::new(api::away(), "a", &BTreeSet::new()));
    let running = begin(dir, kernel, policies).await;
    let pods: Vec<_> = pods.iter().map(|name| api::pod("shop", name)).collect();
    running
        .policies
        .list(&[api::policy("deny", "5")], &[api::namespace("shop")], &pods);
    running.publish(cluster(&["10.244.1.0/24"])).await;
    running
}

fn follow(running: &Running) -> tokio_util::sync::DropGuard {
    let (network, stop) = (running.network.clone(), CancellationToken::new());
    let token = stop.clone();
    tokio::spawn(async move { network.follow_policies(token).await });
    stop.drop_guard()
}

fn isolation(kernel: &Fake) -> Vec<Isolation> {
    kernel.played().policies.isolation.values().copied().collect()
}

#[tokio::test]
async fn isolation_comes_before_the_link_and_goes_after_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = with_policies(dir.path(), &kernel, &["web"]).await;
    running.add("web").await.expect("attached");
    assert!(!isolation(&kernel)[0].ingress.is_free());
    assert!(isolation(&kernel)[0].egress.is_free());
    running
        .call(Command::Del, "web", json!({}))
        .await
        .expect("detached");
    assert_eq!(isolation(&kernel), []);
    let order = ["policies", "plan", "policies", "link", "no link", "policies"];
    assert_eq!(kernel.played().order, order);
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_which_the_api_has_not_told_is_not_attached() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = with_policies(dir.path(), &kernel, &["web"]).await;
    let error = running
        .call(Command::Add, "other", json!({}))
        .await
        .expect_err("refused");
    assert_eq!(error.code, Code::TryAgainLater);
    assert_eq!(
        error.msg,
        "the pod's isolation isn't known yet: the API hasn't told yet of pod shop/other"
    );
    assert!(running.names().is_empty() && kernel.links().is_empty());
    running
        .call(Command::Status, "", json!({}))
        .await
        .expect("others can be attached");
}

#[tokio::test(start_paused = true)]
async fn before_policies_are_known_nothing_is_attached_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let policies = Arc::new(Policies::new(api::away(), "a", &BTreeSet::new()));
    let running = begin(dir.path(), &kernel, policies).await;
    let _follow = follow(&running);
    let says = "the API hasn't said yet which NetworkPolicies there are";
    running.snapshots.send_replace(Some(cluster(&["10.244.1.0/24"])));
    running
        .until(|state| *state == Err(says.to_owned()))
        .await
        .expect_err("unready");
    let error = running.add("web").await.expect_err("refused");
    assert!(error.msg.contains(says), "{error}");
    let error = running
        .call(Command::Status, "", json!({}))
        .await
        .expect_err("unavailable");
    assert!(error.msg.contains(says), "{error}");
    assert_eq!(error.code, Code::NotAvailable);
    assert_eq!(kernel.played().order, [""; 0]);

    running
        .policies
        .list(&[], &[api::namespace("shop")], &[api::pod("shop", "web")]);
    running.until(Result::is_ok).await.expect("ready");
    running.add("web").await.expect("attached");
}

#[tokio::test]
async fn a_policy_that_goes_lets_pods_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = with_policies(dir.path(), &kernel, &["web"]).await;
    let _follow = follow(&running);
    running.add("web").await.expect("attached");
    running
        .policies
        .list(&[], &[api::namespace("shop")], &[api::pod("shop", "web")]);
    until(|| isolation(&kernel) == [Isolation::default()]).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_refuses_is_written_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = with_policies(dir.path(), &kernel, &["web"]).await;
    running.add("web").await.expect("attached");
    let _follow = follow(&running);
    kernel.played().refuse = 3;
    running
        .policies
        .list(&[], &[api::namespace("shop")], &[api::pod("shop", "web")]);
    let free = async {
        while isolation(&kernel) != [Isolation::default()] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), free)
        .await
        .expect("in time");
    assert_eq!(running.network.counters().counts().policy_failures, 3);
}

#[tokio::test]
async fn a_restart_leaves_isolation_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let first = with_policies(dir.path(), &kernel, &["web"]).await;
    first.add("web").await.expect("attached");
    let before = kernel.played().policies.clone();
    drop(first);
    tokio::task::yield_now().await;
    kernel.played().order.clear();
    let second = with_policies(dir.path(), &kernel, &["web"]).await;
    second.network.write_policies().await.expect("written");
    assert_eq!(kernel.played().policies, before);
    assert_eq!(second.network.counters().counts().kernel_writes, 0);
}

#[tokio::test]
async fn an_add_that_the_kernel_refuses_leaves_no_isolation() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = with_policies(dir.path(), &kernel, &["web"]).await;
    running.network.write_policies().await.expect("written");
    kernel.played().refuse = 1;
    running.add("web").await.expect_err("refused");
    assert_eq!(isolation(&kernel), []);
    assert_eq!(kernel.links(), BTreeSet::new());
}

#[tokio::test]
async fn a_check_says_that_a_pods_isolation_is_not_in_force_and_it_is_written_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = with_policies(dir.path(), &kernel, &["web", "other"]).await;
    let _follow = follow(&running);
    let result = running.add("web").await.expect("attached");
    running.add("other").await.expect("attached");
    let check = || running.call(Command::Check, "web", json!({"prevResult": result}));
    check().await.expect("as it was made");

    let whole = kernel.played().policies.clone();
    let (web, open) = {
        let mut played = kernel.played();
        let isolation = played.policies.isolation.iter_mut().next().expect("two pods");
        (*isolation.0, std::mem::take(isolation.1))
    };
    assert!(!open.ingress.is_free());
    let error = check().await.expect_err("the pod is open");
    assert_eq!(error.code, Code::CheckFailed);
    let said = format!("another isolation of {web} than its policies say");
    assert_eq!(error.details, said);
    until(|| kernel.played().policies == whole).await;
    check().await.expect("as it is to be");
}

#[tokio::test]
async fn a_check_writes_what_it_finds_unwritten_and_does_not_complain() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = with_policies(dir.path(), &kernel, &["web"]).await;
    let result = running.add("web").await.expect("attached");
    // Nobody follows here: the change is known and not in the kernel.
    running
        .policies
        .list(&[], &[api::namespace("shop")], &[api::pod("shop", "web")]);
    let check = running.call(Command::Check, "web", json!({"prevResult": result}));
    check.await.expect("as it is to be");
    assert!(isolation(&kernel)[0].ingress.is_free());
}
