//! Manifests are applied, by the client and by the server.

use rstest::rstest;
use testkit::WhichKubectl::{self, Installed, Packaged};

use super::{Kubectl, MANIFEST, texts};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_applied_on_the_servers_side(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    let applied = kubectl.run("apply --server-side -f manifest.yaml").await;
    assert_eq!(applied.matches(" serverside-applied").count(), 3, "{applied}");
    kubectl.run("apply --server-side -f manifest.yaml").await;
    // No difference: diff ends with 0.
    kubectl.run("diff --server-side -f manifest.yaml").await;

    kubectl.run("scale deployment web --replicas=5").await;
    let conflict = kubectl.fail("apply --server-side -f manifest.yaml").await;
    assert!(
        conflict.contains(
            "Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas"
        ),
        "{conflict}"
    );
    let differs = kubectl
        .output("diff --server-side --force-conflicts -f manifest.yaml")
        .await;
    let shown = texts(&differs).0;
    assert!(
        differs.status.code() == Some(1)
            && shown.contains("-  replicas: 5")
            && shown.contains("+  replicas: 3"),
        "{shown}"
    );
    kubectl
        .run("apply --server-side --force-conflicts -f manifest.yaml")
        .await;
    // Old clients show who owns what without being asked.
    let all = if kubectl.client.since(21) {
        " --show-managed-fields"
    } else {
        ""
    };
    let owners = kubectl
        .run(&format!(
            "get deployment web{all} -o jsonpath={{.metadata.managedFields[*].manager}}{{.spec.replicas}}"
        ))
        .await;
    assert_eq!(owners, "kubectl3");
    let shown = kubectl.run("get deployment web -o yaml").await;
    assert_eq!(shown.contains("managedFields"), all.is_empty(), "{shown}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_by_the_client_goes_over_to_the_server(
    #[values(Installed, Packaged)] which: WhichKubectl,
) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    kubectl.run("apply -f manifest.yaml").await;
    let changed = MANIFEST
        .replace("colour: red", "colour: blue")
        .replace("replicas: 3", "replicas: 4");
    kubectl.file("changed.yaml", &changed);
    let applied = kubectl.run("apply --server-side -f changed.yaml").await;
    assert_eq!(applied.matches(" serverside-applied").count(), 3, "{applied}");
    let shown = kubectl
        .run("get deployment/web cm/settings -o jsonpath={.items[*].spec.replicas}{.items[*].data.colour}")
        .await;
    assert_eq!(shown, "4blue");
    // And back again: the note of what was applied last has followed.
    let back = kubectl.run("apply -f manifest.yaml").await;
    assert!(back.contains("deployment.apps/web configured"), "{back}");
    let shown = kubectl.run("get cm settings -o jsonpath={.data.colour}").await;
    assert_eq!(shown, "red");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn custom_objects_are_like_any_other(#[values(Installed, Packaged)] which: WhichKubectl) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    kubectl.file("definition.json", &crate::definitions::widgets().to_string());
    kubectl.run("apply -f definition.json").await;
    kubectl
        .run("wait --for=condition=Established crd/widgets.example.com")
        .await;
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 2}\n";
    kubectl.file("widget.yaml", widget);
    assert!(kubectl.run("apply -f widget.yaml").await.contains("created"));
    assert!(kubectl.run("apply -f widget.yaml").await.contains("unchanged"));
    assert!(
        kubectl
            .run("apply --server-side -f widget.yaml")
            .await
            .contains("serverside-applied")
    );
    assert!(kubectl.run("get wd").await.contains("SIZE"));
    assert!(kubectl.run("get all").await.contains("widget.example.com/w"));
    assert!(kubectl.run("describe widget w").await.contains("Colour:  red"));
    assert!(kubectl.run("explain widget --recursive").await.contains("colour"));
    assert!(
        kubectl
            .run("explain widget.spec")
            .await
            .contains("How large it is.")
    );
    assert!(
        kubectl
            .run("api-resources --api-group=example.com")
            .await
            .contains("widgets")
    );
    kubectl.run("scale widget w --replicas=3").await;
    kubectl
        .run(r#"patch widget w --type=merge -p {"spec":{"size":4}}"#)
        .await;
    kubectl.run("label widget w tier=front").await;
    let shown = kubectl
        .run("get widget w -o jsonpath={.spec.size}{.spec.replicas}{.metadata.labels.tier}")
        .await;
    assert_eq!(shown, "43front");
    kubectl.file("wrong.yaml", &widget.replace("size: 2", "size: 2, shape: round"));
    let error = kubectl.fail("create -f wrong.yaml").await;
    assert!(
        error.contains("unknown field \"spec.shape\"") || error.contains("unknown field \"shape\""),
        "{error}"
    );
    kubectl.editor("s/size: 4/size: 5/");
    kubectl.run("edit widget w").await;
    assert_eq!(kubectl.run("get widget w -o jsonpath={.spec.size}").await, "5");
    kubectl.run("delete crd widgets.example.com --wait").await;
    let error = kubectl.fail("get widgets.v1.example.com").await;
    assert!(
        error.contains("the server doesn't have a resource type")
            || error.contains("the server could not find the requested resource"),
        "{error}"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_chart_is_installed_upgraded_and_taken_out_without_a_warning(
    #[values(Installed, Packaged)] which: WhichKubectl,
) {
    let Some(kubectl) = Kubectl::start(which).await else {
        return;
    };
    const FIRST: &str = include_str!("../../../../e2e/fixtures/chart/first.yaml");
    const SECOND: &str = include_str!("../../../../e2e/fixtures/chart/second.yaml");
    kubectl.file("first.yaml", FIRST);
    kubectl.file("second.yaml", SECOND);
    let objects = FIRST.matches("\nkind: ").count();
    // Twice: nothing changes, and nothing is complained of.
    for done in ["created", "unchanged"] {
        let output = kubectl.output("apply -f first.yaml").await;
        let (out, error) = texts(&output);
        assert!(output.status.success() && error.is_empty(), "{out}{error}");
        // A Secret is written with texts and read without: kubectl sees a change where there is none.
        let told = out
            .lines()
            .filter(|line| line.ends_with(done) || line.starts_with("secret/"));
        assert_eq!(told.count(), objects, "{out}");
    }
    assert_eq!(kubectl.output("diff -f first.yaml").await.status.code(), Some(0));
    assert_eq!(kubectl.output("diff -f second.yaml").await.status.code(), Some(1));
    let selector = "-l app.kubernetes.io/instance=shop";
    let list = if kubectl.client.since(26) {
        "allowlist"
    } else {
        "whitelist"
    };
    let pruned = format!("--prune --prune-{list}=networking.k8s.io/v1/Ingress");
    let output = kubectl
        .output(&format!("apply -f second.yaml {selector} {pruned}"))
        .await;
    let (out, error) = texts(&output);
    assert!(output.status.success(), "{out}{error}");
    assert!(out.contains("ingress.networking.k8s.io/shop-web pruned"), "{out}");
    assert!(
        out.contains("horizontalpodautoscaler.autoscaling/shop-web configured"),
        "{out}"
    );
    let shown = kubectl
        .run(&format!(
            "get all,cm,secret,sa,role,rolebinding,pdb,netpol,hpa {selector} -o name"
        ))
        .await;
    // `all` has the autoscaler as well.
    assert_eq!(
        shown.lines().collect::<std::collections::BTreeSet<_>>().len(),
        objects - 1,
        "{shown}"
    );
    kubectl
        .run("apply --server-side --force-conflicts -f second.yaml")
        .await;
    kubectl.run("delete -f second.yaml --wait=false").await;
    for _ in 0..100 {
        if kubectl
            .run(&format!(
                "get all,cm,secret,sa,role,rolebinding,pdb,netpol,hpa {selector} -o name"
            ))
            .await
            .is_empty()
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("some of it is still there");
}
