use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

fn sans() -> Vec<String> {
    [
        "kubernetes.default.svc",
        "localhost",
        "172.30.0.2",
        "fd00:172:30::2",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn server() -> Subject {
    Subject::new("kube-apiserver")
}

fn authority() -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    (dir, authority)
}

#[test]
fn a_second_start_loads_the_same_authority() {
    let (dir, first) = authority();
    let again = Authority::load_or_create(dir.path()).unwrap();
    assert_eq!(first.cert_pem(), again.cert_pem());
    let pair = again.issue_server(&server(), &sans()).unwrap();
    assert!(first.still_good(&pair, &server(), &sans(), Usage::Server, SystemTime::now()));
}

#[test]
fn files_are_private() {
    let (dir, authority) = authority();
    let admin = Subject::in_group("kubernetes-admin", "system:masters");
    let pki = dir.path().join("pki");
    authority.ensure_client(&pki, "admin", &admin).unwrap();
    for file in ["ca.crt", "ca.key", "pki/admin.crt", "pki/admin.key"] {
        let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(&pki).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(
        fs::read_dir(&pki).unwrap().count(),
        2,
        "no temporary file is left"
    );
}

#[test]
fn a_good_pair_is_kept_and_any_difference_renews_it() {
    let (dir, authority) = authority();
    let ensure = |subject: &Subject, sans: &[String]| {
        authority
            .ensure_server(dir.path(), "server", subject, sans)
            .unwrap()
    };
    let first = ensure(&server(), &sans());
    let mut reordered = sans();
    reordered.reverse();
    reordered[0] = "FD00:172:30:0::2".to_owned();
    assert_eq!(
        first,
        ensure(&server(), &reordered),
        "order and spelling do not matter"
    );
    let fewer = ensure(&server(), &sans()[1..]);
    assert_ne!(first, fewer);
    let other = ensure(&Subject::new("another"), &sans()[1..]);
    assert_ne!(fewer, other);
    let client = authority
        .ensure_client(dir.path(), "server", &Subject::new("another"))
        .unwrap();
    assert_ne!(other, client);
}

#[test]
fn a_pair_near_its_end_is_renewed() {
    let (_dir, authority) = authority();
    let pair = authority.issue_server(&server(), &sans()).unwrap();
    let good = |days: u32| {
        let now = SystemTime::now() + DAY * days;
        authority.still_good(&pair, &server(), &sans(), Usage::Server, now)
    };
    assert!(good(0));
    assert!(good(334));
    assert!(!good(336));
    assert!(!good(400));
}

#[test]
fn halves_that_do_not_belong_together_count_as_absent() {
    let (dir, authority) = authority();
    let first = authority
        .ensure_server(dir.path(), "server", &server(), &sans())
        .unwrap();
    let stray = authority.issue_server(&server(), &sans()).unwrap();
    fs::write(dir.path().join("server.key"), &stray.key).unwrap();
    let second = authority
        .ensure_server(dir.path(), "server", &server(), &sans())
        .unwrap();
    assert_ne!(first, second);
    fs::write(dir.path().join("server.crt"), b"\xff\xfe rubbish").unwrap();
    let third = authority
        .ensure_server(dir.path(), "server", &server(), &sans())
        .unwrap();
    assert_ne!(second, third);
}

#[test]
fn a_pair_of_another_authority_is_renewed() {
    let (dir, ours) = authority();
    let (_other_dir, theirs) = authority();
    let theirs = theirs
        .ensure_server(dir.path(), "server", &server(), &sans())
        .unwrap();
    let fresh = ours
        .ensure_server(dir.path(), "server", &server(), &sans())
        .unwrap();
    assert_ne!(theirs, fresh);
}

#[test]
fn a_lost_authority_certificate_is_signed_anew_for_the_same_key() {
    let (dir, first) = authority();
    let pair = first.issue_server(&server(), &sans()).unwrap();
    fs::remove_file(dir.path().join("ca.crt")).unwrap();
    let again = Authority::load_or_create(dir.path()).unwrap();
    assert_ne!(first.cert_pem(), again.cert_pem());
    assert!(again.still_good(&pair, &server(), &sans(), Usage::Server, SystemTime::now()));
}

#[test]
fn a_damaged_authority_is_an_error_and_never_replaced() {
    let (dir, _) = authority();
    let (other_dir, _other) = authority();
    let key = fs::read(dir.path().join("ca.key")).unwrap();

    fs::remove_file(dir.path().join("ca.key")).unwrap();
    let error = Authority::load_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, Error::MissingAuthorityKey { .. }), "{error}");

    fs::copy(other_dir.path().join("ca.key"), dir.path().join("ca.key")).unwrap();
    let error = Authority::load_or_create(dir.path()).unwrap_err().to_string();
    assert!(error.contains("key of another certificate"), "{error}");

    fs::write(dir.path().join("ca.key"), key).unwrap();
    fs::write(dir.path().join("ca.crt"), "rubbish").unwrap();
    let error = Authority::load_or_create(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("ca.crt is not a usable certificate authority"),
        "{error}"
    );
}

#[test]
fn an_expired_authority_says_so() {
    let (dir, _) = authority();
    let pair = KeyPairPem::read(dir.path(), "ca").unwrap().unwrap();
    let key = KeyPair::from_pem(&pair.key).unwrap();
    let later = SystemTime::now() + AUTHORITY_LIFETIME + DAY;
    let reason = check_authority(&pair.cert, &key, later).unwrap_err();
    assert!(reason.contains("and not now"), "{reason}");
}

#[test]
fn names_that_no_certificate_can_carry_are_refused() {
    let (_dir, authority) = authority();
    for name in ["", "a b", "-x", "münchen", "a..b", "10.0.0.0/8"] {
        let error = authority.issue_server(&server(), &[name.to_owned()]).unwrap_err();
        assert!(matches!(error, Error::BadName { .. }), "{name}: {error}");
    }
    authority
        .issue_server(&server(), &["*.example".to_owned()])
        .unwrap();
}

#[test]
fn serial_numbers_differ() {
    let (_dir, authority) = authority();
    let serial = || {
        let pair = authority.issue_client(&Subject::new("x")).unwrap();
        let pem = inspect::pem(&pair.cert).unwrap();
        inspect::certificate(&pem).unwrap().raw_serial().to_vec()
    };
    let (one, two) = (serial(), serial());
    assert_eq!(one.len(), 16);
    assert_ne!(one, two);
}

/// An independent implementation judges chain, purpose and names.
#[test]
fn openssl_accepts_the_chain_the_purposes_and_the_names() {
    let (dir, authority) = authority();
    let node = Subject::in_group("system:node:node-1", "system:nodes");
    authority
        .ensure_server(dir.path(), "server", &server(), &sans())
        .unwrap();
    authority.ensure_client(dir.path(), "node", &node).unwrap();
    let verify = |args: &[&str]| {
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-CAfile", "ca.crt"])
            .args(args)
            .current_dir(dir.path())
            .output()
            .expect("openssl is installed");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    };
    for name in [
        "-verify_hostname=localhost",
        "-verify_ip=172.30.0.2",
        "-verify_ip=fd00:172:30::2",
    ] {
        let (flag, value) = name.split_once('=').unwrap();
        let (ok, text) = verify(&["-purpose", "sslserver", flag, value, "server.crt"]);
        assert!(ok, "{name}: {text}");
    }
    let (ok, text) = verify(&["-purpose", "sslclient", "node.crt"]);
    assert!(ok, "{text}");
    assert!(!verify(&["-purpose", "sslserver", "node.crt"]).0);
    assert!(!verify(&["-verify_hostname", "elsewhere", "server.crt"]).0);
}
