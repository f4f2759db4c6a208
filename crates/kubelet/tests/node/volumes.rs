use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DeleteParams, LogParams, Patch, PatchParams};
use serde_json::json;

use crate::lab::on_a_node;

#[test]
fn volumes_of_every_kind_are_mounted_and_go() {
    on_a_node(async |lab| {
        lab.create::<ConfigMap>(
            json!({"metadata": {"name": "settings"}, "data": {"color": "blue", "size": "9"}}),
        )
        .await;
        lab.create::<Secret>(json!({"metadata": {"name": "keys"}, "stringData": {"token": "s3cret"}}))
            .await;
        lab.pod("web", json!({"restartPolicy": "Never",
            "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["db"]}],
            "volumes": [
                {"name": "disk", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "settings", "configMap": {"name": "settings", "items": [{"key": "color", "path": "etc/color"}]}},
                {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
                {"name": "own", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"name": "all", "projected": {"sources": [
                    {"configMap": {"name": "settings"}},
                    {"secret": {"name": "keys"}}]}},
                {"name": "host", "hostPath": {"path": lab.dir.path().join("made"), "type": "DirectoryOrCreate"}}],
            "containers": [{"name": "a", "command": ["sh", "-c",
                "cat /settings/etc/color /keys/token /own/labels; echo; ls /all; \
                 stat -Lc %a /keys/token; cat /one; echo x > /sub/f; echo y > /host/f; \
                 head -c 2000000 /dev/zero > /memory/f 2>/dev/null || echo full; grep db /etc/hosts; ls /disk/inner"],
                "volumeMounts": [
                    {"name": "disk", "mountPath": "/disk"},
                    {"name": "disk", "mountPath": "/sub", "subPath": "inner"},
                    {"name": "memory", "mountPath": "/memory"},
                    {"name": "settings", "mountPath": "/settings", "readOnly": true},
                    {"name": "settings", "mountPath": "/one", "subPath": "etc/color"},
                    {"name": "keys", "mountPath": "/keys"},
                    {"name": "own", "mountPath": "/own"},
                    {"name": "all", "mountPath": "/all"},
                    {"name": "host", "mountPath": "/host"}]}]}))
            .await;
        lab.phase("web", "Succeeded").await;
        let logs = lab.logs("web", &LogParams::default()).await;
        assert_eq!(
            logs,
            "blues3cretapp=\"web\"\ncolor\nsize\ntoken\n400\nbluefull\n192.0.2.1\tdb\nf\n"
        );
        assert_eq!(
            std::fs::read_to_string(lab.dir.path().join("made/f")).unwrap(),
            "y\n"
        );
        lab.delete("web", &DeleteParams::default()).await;
        lab.nothing_left().await;
        // What is the host's own stays.
        assert!(lab.dir.path().join("made/f").exists());
    });
}

#[test]
fn a_changed_config_map_reaches_a_running_pod() {
    on_a_node(async |lab| {
        lab.create::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"color": "blue"}}))
            .await;
        lab.pod("web", json!({"terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "v", "configMap": {"name": "settings"}}],
            "containers": [{"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/etc/v"}],
                "command": ["sh", "-c", "while :; do test \"$(cat /etc/v/color)\" = \"$last\" || { last=$(cat /etc/v/color); echo $last; }; sleep 0.1; done"]}]}))
            .await;
        lab.ready("web").await;
        let maps: Api<ConfigMap> = Api::namespaced(lab.client.clone(), "default");
        let change = json!({"data": {"color": "green"}});
        maps.patch("settings", &PatchParams::default(), &Patch::Merge(change))
            .await
            .unwrap();
        lab.eventually("the change is seen", || async {
            (lab.logs("web", &LogParams::default()).await == "blue\ngreen\n").then_some(())
        })
        .await;
    });
}

#[test]
fn a_volume_that_cannot_be_had_says_why() {
    on_a_node(async |lab| {
        lab.pod("late", json!({"terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "v", "configMap": {"name": "later"}}],
            "containers": [{"name": "a", "command": ["sleep", "1000"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}))
            .await;
        lab.pod(
            "odd",
            json!({
            "volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}],
            "containers": [{"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}),
        )
        .await;
        lab.pod(
            "image",
            json!({
            "volumes": [{"name": "v", "image": {"reference": "localhost/data:1"}}],
            "containers": [{"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}),
        )
        .await;
        assert_eq!(
            lab.event("image", "FailedMount").await,
            "MountVolume.SetUp failed for volume \"v\" : image volumes are not supported on this node"
        );
        assert_eq!(
            lab.event("late", "FailedMount").await,
            "MountVolume.SetUp failed for volume \"v\" : configmap \"later\" not found"
        );
        assert_eq!(
            lab.event("odd", "FailedMount").await,
            "MountVolume.SetUp failed for volume \"v\" : nfs volumes are not supported on this node"
        );
        lab.create::<ConfigMap>(json!({"metadata": {"name": "later"}, "data": {}}))
            .await;
        lab.ready("late").await;
        for name in ["odd", "image"] {
            lab.delete(name, &DeleteParams::default()).await;
        }
    });
}
