//! Pods whose sockets see Services' addresses.

use super::*;

#[tokio::test]
async fn pods_that_are_left_out_are_told_whether_they_or_their_annotations_come_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let network = running.network.clone();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(async move { network.follow_opt_outs(stop).await });
    let link = |container: &str| AttachmentId::new(container, "eth0").host_link();
    let links = |containers: &[&str]| containers.iter().map(|name| link(name)).collect();
    let holds = |wanted: &std::collections::BTreeSet<String>| kernel.played().untranslated == *wanted;
    running.add("one").await.expect("attached");
    running.add("two").await.expect("attached");

    // Nothing is known of annotations, and what the kernel holds stays.
    let before = links(&["another's"]);
    kernel.played().untranslated.clone_from(&before);
    running.add("three").await.expect("attached");
    assert!(holds(&before));

    kernel.played().refuse = 2;
    let opt_outs = running.network.opt_outs();
    opt_outs.list(&[("shop", "one", "false"), ("shop", "four", "false")], &[]);
    let wanted = links(&["one"]);
    until(|| holds(&wanted)).await;
    // ADD has told it when it returns.
    running.add("four").await.expect("attached");
    assert!(holds(&links(&["one", "four"])));
    opt_outs.list(&[("shop", "one", "true")], &[("shop", "false")]);
    let wanted = links(&["two", "three", "four"]);
    until(|| holds(&wanted)).await;
}
