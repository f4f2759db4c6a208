//! Addresses and host ports: what there is for one pod, and no other.

use cni::Code;

use super::*;

#[tokio::test]
async fn a_port_of_the_node_is_one_pods_until_it_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let port = |number| json!({"runtimeConfig": {"portMappings": [{"hostPort": number, "containerPort": 80, "protocol": "tcp"}]}});
    let mappings = || {
        let played = kernel.played();
        let texts = played.objects.values().filter_map(|object| match object {
            plan::Object::Mapping(mapping) if mapping.map.starts_with("host_ports") => {
                Some(mapping.key.to_string())
            }
            _ => None,
        });
        texts.collect::<Vec<String>>()
    };
    running.add_with("one", port(8080)).await.expect("attached");
    assert_eq!(mappings(), ["tcp . 8080"]);
    let error = running.add_with("two", port(8080)).await.expect_err("taken");
    assert_eq!(error.code, Code::TryAgainLater);
    assert_eq!(
        error.msg,
        "host port 8080/tcp on this node is shop/one's: delete that pod, or give this one another hostPort"
    );
    assert_eq!(running.names(), ["one"]);

    // The same pod again with another port: the old one goes.
    running.add_with("one", port(8081)).await.expect("attached");
    assert_eq!(mappings(), ["tcp . 8081"]);
    running.add_with("two", port(8080)).await.expect("attached");

    // A pod that went without a word has no ports any more.
    kernel.lose_link(&AttachmentId::new("two", "eth0").host_link());
    running.add_with("three", port(8080)).await.expect("attached");
    assert_eq!(running.names(), ["one", "three"]);
    running
        .call(Command::Del, "one", json!({}))
        .await
        .expect("detached");
    assert_eq!(mappings(), ["tcp . 8080"]);
}

#[tokio::test]
async fn what_is_wrong_with_a_runtime_config_refuses_the_pod_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = ready(dir.path(), &Fake::default()).await;
    let slow = json!({"runtimeConfig": {"bandwidth": {"ingressRate": 1}}});
    let error = running.add_with("web", slow).await.expect_err("too slow");
    assert_eq!(error.code, Code::InvalidConfig);
    assert!(running.names().is_empty());
}

#[tokio::test]
async fn a_full_node_says_so_and_looks_for_pods_that_went_without_a_word() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = start(dir.path(), &kernel).await;
    running.publish(cluster(&["10.244.1.0/30"])).await;
    running.add("one").await.expect("attached");
    running.add("two").await.expect("attached");
    let error = running.add("three").await.expect_err("full");
    assert_eq!(error.code, Code::TryAgainLater);
    assert_eq!(
        error.msg,
        "no free address in 10.244.1.0/30: 2 of 2 in use by shop/one, shop/two; \
         delete pods of this node, or give it another block (spec.podCIDRs)"
    );
    assert_eq!(
        running
            .call(Command::Status, "x", json!({}))
            .await
            .expect_err("full")
            .code,
        Code::NotAvailable
    );

    kernel.lose_link(&AttachmentId::new("one", "eth0").host_link());
    running.add("three").await.expect("attached");
    assert_eq!(running.names(), ["three", "two"]);
}
