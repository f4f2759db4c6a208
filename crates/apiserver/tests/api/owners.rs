//! Who owns what: `managedFields`, through every kind of write.

use serde_json::{Value, json};

use crate::applies::{A, WEB, config, entry, managers, web};
use crate::support::{CONFIG_MAPS, DEPLOYMENTS, PODS, Running, deployment};

#[tokio::test]
async fn every_write_keeps_track_of_owners() {
    let raw = Running::start().await.raw();
    let created = raw
        .post(&format!("{DEPLOYMENTS}?fieldManager=maker"), &deployment("web"))
        .await
        .body;
    // As kube-apiserver records it, to the dot.
    assert_eq!(
        entry(&created, "maker")["fieldsV1"],
        json!({ "f:spec": {
            "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
            "f:strategy": {
                "f:rollingUpdate": { ".": {}, "f:maxSurge": {}, "f:maxUnavailable": {} }, "f:type": {},
            },
            "f:template": {
                "f:metadata": { "f:labels": { ".": {}, "f:app": {} } },
                "f:spec": {
                    "f:containers": { "k:{\"name\":\"c\"}": {
                        ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
                        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
                    } },
                    "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                    "f:terminationGracePeriodSeconds": {},
                },
            },
        } })
    );
    let scaled = json!({ "spec": { "replicas": 5 } });
    raw.patch(&format!("{WEB}/scale?fieldManager=scaler"), "merge", &scaled)
        .await;
    let status = json!({ "status": { "replicas": 5, "observedGeneration": 2 } });
    let object = raw
        .patch(&format!("{WEB}/status?fieldManager=controller"), "merge", &status)
        .await
        .body;
    let scaler = entry(&object, "scaler");
    assert_eq!(
        (&scaler["subresource"], &scaler["fieldsV1"]),
        (&json!("scale"), &json!({ "f:spec": { "f:replicas": {} } }))
    );
    assert_eq!(
        entry(&object, "maker")["fieldsV1"]["f:spec"].get("f:replicas"),
        None
    );
    let controller = entry(&object, "controller");
    assert_eq!(
        (&controller["subresource"], &controller["fieldsV1"]),
        (
            &json!("status"),
            &json!({ "f:status": { "f:observedGeneration": {}, "f:replicas": {} } })
        )
    );
    // Written back as it was read, nothing changes: not even the time.
    let again = raw.put(&format!("{WEB}?fieldManager=other"), &object).await.body;
    assert_eq!(again, object);
}

#[tokio::test]
async fn a_conflict_with_a_subresource_says_so() {
    let raw = Running::start().await.raw();
    raw.post(DEPLOYMENTS, &deployment("web")).await;
    raw.patch(
        &format!("{WEB}/scale?fieldManager=hpa"),
        "merge",
        &json!({ "spec": { "replicas": 5 } }),
    )
    .await;
    let refused = raw.apply(WEB, "me", &web(json!({ "replicas": 3 }))).await;
    assert_eq!(
        refused.message(),
        "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    // And the scale can be applied itself.
    let scale = json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": "web" }, "spec": { "replicas": 7 } });
    let refused = raw.apply(&format!("{WEB}/scale"), "me", &scale).await;
    assert_eq!(refused.code, 409);
    let forced = raw.apply(&format!("{WEB}/scale"), "me&force=true", &scale).await;
    assert_eq!(
        (forced.code, &forced.body["spec"]["replicas"]),
        (200, &json!(7)),
        "{}",
        forced.body
    );
    let object = raw.get(WEB).await.body;
    let mine = entry(&object, "me");
    assert_eq!(
        (&mine["operation"], &mine["subresource"], &mine["fieldsV1"]),
        (
            &json!("Apply"),
            &json!("scale"),
            &json!({ "f:spec": { "f:replicas": {} } })
        )
    );
}

#[tokio::test]
async fn a_status_is_applied_through_its_subresource_alone() {
    let raw = Running::start().await.raw();
    raw.post(DEPLOYMENTS, &deployment("web")).await;
    let mut object = web(json!({ "replicas": 9 }));
    object["status"] = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
    let applied = raw.apply(&format!("{WEB}/status"), "controller", &object).await;
    assert_eq!(applied.code, 200, "{}", applied.body);
    assert_eq!(applied.body["spec"]["replicas"], 2);
    let mine = entry(&applied.body, "controller");
    assert_eq!(mine["subresource"], "status");
    assert_eq!(
        mine["fieldsV1"],
        json!({ "f:status": { "f:conditions": { "k:{\"type\":\"Ready\"}": { ".": {}, "f:status": {}, "f:type": {} } } } })
    );
    let main = raw.apply(WEB, "me&force=true", &object).await;
    assert_eq!(
        entry(&main.body, "me")["fieldsV1"],
        json!({ "f:spec": { "f:replicas": {} } })
    );
    object["metadata"]["name"] = "none".into();
    let missing = raw
        .apply(&format!("{DEPLOYMENTS}/none/status"), "me", &object)
        .await;
    assert_eq!(missing.code, 404);
}

#[tokio::test]
async fn managed_fields_can_be_reset_and_tracking_begins_with_the_next_apply() {
    let raw = Running::start().await.raw();
    raw.apply(A, "me", &config(json!({ "k": "1" }))).await;
    for reset in [json!([]), json!([{}])] {
        let patch = json!({ "metadata": { "managedFields": reset } });
        let reset = raw.patch(A, "merge", &patch).await.body;
        assert_eq!(reset["metadata"].get("managedFields"), None);
    }
    let untracked = raw.patch(A, "merge", &json!({ "data": { "l": "1" } })).await.body;
    assert_eq!(untracked["metadata"].get("managedFields"), None);
    let refused = raw.apply(A, "me", &config(json!({ "k": "2" }))).await;
    assert_eq!(
        refused.message(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k"
    );
    let applied = raw.apply(A, "me", &config(json!({ "k": "1" }))).await.body;
    assert_eq!(managers(&applied), ["me:Apply", "before-first-apply:Update"]);
    // What a client knows nothing of, it doesn't take away: here `managedFields` itself.
    let object = json!({ "metadata": { "name": "a" }, "data": { "k": "1" } });
    let put = raw.put(A, &object).await.body;
    assert_eq!(put["data"].get("l"), None);
    assert_eq!(managers(&put), ["me:Apply", "before-first-apply:Update"]);
}

#[tokio::test]
async fn kubectl_takes_over_what_it_applied_on_the_clients_side() {
    let raw = Running::start().await.raw();
    let note = "kubectl.kubernetes.io/last-applied-configuration";
    let last = config(json!({ "k": "1", "l": "1" }));
    let mut object = last.clone();
    object["metadata"]["annotations"] = json!({ note: last.to_string() });
    raw.post(
        &format!("{CONFIG_MAPS}?fieldManager=kubectl-client-side-apply"),
        &object,
    )
    .await;
    // Somebody else may not.
    let refused = raw.apply(A, "other", &config(json!({ "k": "2" }))).await;
    assert_eq!(refused.code, 409);
    // Nor may kubectl take what was changed since.
    raw.patch(A, "merge", &json!({ "data": { "l": "9" } })).await;
    let refused = raw
        .apply(A, "kubectl", &config(json!({ "k": "2", "l": "2" })))
        .await;
    assert_eq!(
        refused.message(),
        "Apply failed with 1 conflict: conflict with \"admin\" using v1: .data.l"
    );
    let applied = raw.apply(A, "kubectl", &config(json!({ "k": "2" }))).await;
    assert_eq!(applied.code, 200, "{}", applied.body);
    let note = applied.body["metadata"]["annotations"][note].as_str().unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(note).unwrap(),
        config(json!({ "k": "2" }))
    );
}

#[tokio::test]
async fn a_secrets_text_and_a_pods_defaults_stay_the_servers() {
    let raw = Running::start().await.raw();
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" }, "stringData": { "k": "v" } });
    let path = "/api/v1/namespaces/default/secrets/s";
    let applied = raw.apply(path, "me", &secret).await.body;
    assert_eq!(applied["data"]["k"], "dg==");
    assert_eq!(
        entry(&applied, "me")["fieldsV1"],
        json!({ "f:stringData": { "f:k": {} } })
    );
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "labels": { "a": "b" } },
        "spec": { "containers": [{ "name": "c", "image": "i:1" }] }, "status": {},
    });
    let applied = raw.apply(&format!("{PODS}/p"), "me", &pod).await.body;
    assert_eq!(applied["spec"]["dnsPolicy"], "ClusterFirst");
    assert_eq!(
        entry(&applied, "me")["fieldsV1"],
        json!({
            "f:metadata": { "f:labels": { "f:a": {} } },
            "f:spec": { "f:containers": { "k:{\"name\":\"c\"}": { ".": {}, "f:image": {}, "f:name": {} } } },
        })
    );
}
