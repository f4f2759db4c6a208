use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use serde_json::json;

use super::*;

const CONTEXT: &str = "ripstop-local";

fn own(server: &str) -> Value {
    json!({
        "clusters": [{"name": CONTEXT, "cluster": {"server": server}}],
        "users": [{"name": CONTEXT, "user": {"client-key-data": "S0VZ"}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
    })
}

/// A file of somebody who uses more than we know of.
const OTHER: &str = "\
apiVersion: v1
kind: Config
clusters:
- name: work
  cluster:
    server: https://work.example:6443
    extensions:
    - name: proxy
      extension: {since: \"2020\"}
contexts:
- name: work
  context: {cluster: work, user: me, namespace: web}
users:
- name: me
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: login, args: [\"--fast\"], interactiveMode: Never}
current-context: work
preferences: {colors: true}
";

fn merged(server: &str) -> Value {
    let old: Value = serde_saphyr::from_str(OTHER).expect("YAML");
    document::merge(old, &own(server), CONTEXT).expect("merged")
}

#[test]
fn the_cluster_comes_beside_the_others_and_is_current() {
    insta::assert_snapshot!(files::yaml(&merged("https://172.30.0.2:6443")));
}

#[test]
fn adding_again_replaces_and_doubles_nothing() {
    let again = document::merge(merged("https://old"), &own("https://new"), CONTEXT).expect("merged");
    assert_eq!(again, merged("https://new"));
}

#[test]
fn what_was_added_can_be_taken_out_again() {
    let mut before: Value = serde_saphyr::from_str(OTHER).expect("YAML");
    let after = document::remove(merged("https://a"), CONTEXT).expect("removed");
    // The context that was current before isn't known any more.
    before["current-context"] = "".into();
    assert_eq!(after, before);
}

#[test]
fn another_current_context_stays() {
    let mut document = merged("https://a");
    document["current-context"] = "work".into();
    let after = document::remove(document, CONTEXT).expect("removed");
    assert_eq!(after["current-context"], "work");
}

#[test]
fn what_is_no_kubeconfig_is_left_alone() {
    assert!(document::merge(json!([1]), &own("a"), CONTEXT).is_err());
    assert!(document::merge(json!({"clusters": "none"}), &own("a"), CONTEXT).is_err());
}

#[test]
fn the_file_of_kubectl_is_chosen() {
    let home = Some(Path::new("/home/me"));
    let chosen = |variable| choose(variable, home).expect("chosen");
    assert_eq!(chosen(None), Path::new("/home/me/.kube/config"));
    assert_eq!(chosen(Some("")), Path::new("/home/me/.kube/config"));
    assert_eq!(chosen(Some(":/etc/a:/etc/b")), Path::new("/etc/a"));
    assert_eq!(choose(None, None), None);
}

#[test]
fn a_new_file_is_private_and_an_old_one_keeps_mode_and_link() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = Target::found(dir.path().join("sub/config"));
    let add = |old| document::merge(old, &own("https://a"), CONTEXT);
    target.change(add).expect("written");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&target.path), 0o600);

    let real = dir.path().join("real");
    fs::write(&real, OTHER).expect("written");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("set");
    let link = Target::found(dir.path().join("link"));
    symlink(&real, &link.path).expect("linked");
    link.change(add).expect("written");
    assert!(link.path.is_symlink());
    assert_eq!(mode(&real), 0o640);
    let names: Vec<_> = fs::read_dir(dir.path())
        .expect("read")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(names.len(), 3, "neither lock nor temporary file stays: {names:?}");
}

#[test]
fn a_file_made_under_sudo_belongs_to_the_user() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = Target {
        path: dir.path().join("home/.kube/config"),
        owner: Some((Uid::from_raw(1234), Gid::from_raw(5678))),
    };
    fs::create_dir(dir.path().join("home")).expect("made");
    target
        .change(|old| document::merge(old, &own("https://a"), CONTEXT))
        .expect("written");
    for path in [target.path.as_path(), target.path.parent().expect("a parent")] {
        let meta = fs::metadata(path).expect("there");
        assert_eq!((meta.uid(), meta.gid()), (1234, 5678), "{}", path.display());
    }
}

#[test]
fn a_damaged_file_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = Target::found(dir.path().join("config"));
    fs::write(&target.path, "clusters: [").expect("written");
    let error = target
        .change(|old| document::merge(old, &own("a"), CONTEXT))
        .expect_err("refused");
    assert!(error.contains("config"), "{error}");
    assert_eq!(fs::read_to_string(&target.path).expect("there"), "clusters: [");
}
