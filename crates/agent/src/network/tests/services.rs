//! Services.

use plan::Object;

use super::*;

/// A Service with one endpoint, as the API would tell of it.
fn service(name: &str, address: &str, endpoint: &str) -> [Value; 2] {
    let service = json!({"metadata": {"name": name, "namespace": "shop"},
                         "spec": {"clusterIP": address, "ports": [{"port": 80}]}});
    let slice = json!({
        "metadata": {"name": format!("{name}-1"), "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": [{"addresses": [endpoint]}],
    });
    [service, slice]
}

fn frontends(kernel: &Fake) -> Vec<String> {
    let played = kernel.played();
    let ports = played.objects.values().filter_map(|object| match object {
        Object::Service(port) => Some(port.to_string()),
        _ => None,
    });
    ports.collect()
}

#[tokio::test]
async fn one_services_change_is_written_alone_and_a_nodes_blocks_change_them_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let catalogue = Arc::new(crate::services::Catalogue::default());
    let (network, follow) = (running.network.clone(), catalogue.clone());
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(async move { network.follow_services(follow, stop).await });
    catalogue.list(&[
        service("web", "10.96.0.20", "10.244.1.5"),
        service("api", "10.96.0.21", "10.244.2.5"),
    ]);
    until(|| frontends(&kernel).len() == 2).await;

    kernel.played().services.clear();
    catalogue.put(service("web", "10.96.0.20", "10.244.1.6"));
    until(|| {
        frontends(&kernel)
            .iter()
            .any(|text| text.contains("10.244.1.6:8080 local"))
    })
    .await;
    assert_eq!(kernel.played().services, ["shop/web"]);

    // What is this node's own is another block now, for all Services.
    running.publish(cluster(&["10.244.9.0/24"])).await;
    until(|| !frontends(&kernel).iter().any(|text| text.contains("local"))).await;
    assert_eq!(frontends(&kernel).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_led_to_no_more_where_others_serve() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let b: IpAddr = "172.30.0.12".parse().expect("an address");
    kernel.played().answering.insert(b);
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let catalogue = Arc::new(crate::services::Catalogue::default());
    let (network, follow, token) = (running.network.clone(), catalogue.clone(), stop.clone());
    tokio::spawn(async move { network.follow_services(follow, token).await });
    let (network, snapshots) = (running.network.clone(), running.snapshots.subscribe());
    tokio::spawn(async move { network.listen_to_nodes(snapshots, stop).await });
    let [web, mut slice] = service("web", "10.96.0.20", "10.244.1.5");
    slice["endpoints"] = json!([{"addresses": ["10.244.1.5"], "nodeName": "a"},
                                {"addresses": ["10.244.2.5"], "nodeName": "b"}]);
    catalogue.list(&[[web, slice], service("api", "10.96.0.21", "10.244.1.6")]);
    let leads = async |there: bool| {
        let leads = |text: &String| text.contains("10.244.2.5:8080");
        eventually(|| frontends(&kernel).iter().any(leads) == there).await;
    };
    leads(true).await;
    assert_eq!(kernel.played().asked, [b].into());
    // Only who has answered can fall silent.
    tokio::time::sleep(Duration::from_secs(1)).await;
    kernel.played().services.clear();
    kernel.played().answering.clear();
    leads(false).await;
    assert_eq!(
        kernel.played().services,
        ["shop/web"],
        "nobody else has endpoints there"
    );
    kernel.played().answering.insert(b);
    leads(true).await;

    // Another agent knows before it has asked anybody.
    kernel.played().answering.clear();
    leads(false).await;
    let boot = clock::boot_id().expect("a boot id");
    eventually(|| Notes::open(dir.path(), &boot).silent() == ["b".to_owned()].into()).await;
}

/// Lets time pass until it's so.
async fn eventually(holds: impl Fn() -> bool) {
    let holding = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), holding)
        .await
        .expect("in time");
}

#[tokio::test]
async fn services_that_the_kernel_refused_are_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let kernel = Fake::default();
    let running = ready(dir.path(), &kernel).await;
    let catalogue = Arc::new(crate::services::Catalogue::default());
    let (network, follow) = (running.network.clone(), catalogue.clone());
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    kernel.played().refuse = 2;
    tokio::spawn(async move { network.follow_services(follow, stop).await });
    catalogue.list(&[service("web", "10.96.0.20", "10.244.1.5")]);
    until(|| frontends(&kernel).len() == 1).await;
}
