use serde_json::{Value, json};

use super::*;
use crate::network::{IpFamily, Wish};

fn programs() -> Programs {
    let none = PathBuf::new();
    Programs {
        ripstop: none.clone(),
        cni: none.clone(),
        images: none.clone(),
        containerd: none.clone(),
        ctr: none.clone(),
        runc: none,
    }
}

fn cluster(ip_family: IpFamily) -> Cluster {
    let wish = Wish {
        ip_family,
        ..Wish::default()
    };
    let ranges = Ranges::choose(&wish, &[], 2).expect("free");
    Cluster::new("local".parse().expect("valid"), 2, ranges, programs()).expect("fits")
}

/// As builds wrote it that knew IPv4 only.
fn earlier() -> Value {
    json!({
        "name": "local", "version": "0.1.0",
        "nodeNetwork": "172.30.0.0/24", "podCidr": "10.244.0.0/16", "serviceCidr": "10.96.0.0/16",
        "nodes": [{"name": "node-1", "address": "172.30.0.11"}, {"name": "node-2", "address": "172.30.0.12"}],
        "programs": {"ripstop": "", "cni": "", "images": "", "containerd": "", "ctr": "", "runc": ""},
    })
}

fn load(value: &Value) -> Result<Option<Cluster>, Error> {
    let dir = tempfile::tempdir().expect("a folder");
    let paths = Paths {
        data: dir.path().to_owned(),
        run: dir.path().join("run"),
    };
    fs::write(paths.cluster_file(), value.to_string()).expect("written");
    Cluster::load(&paths)
}

#[test]
fn a_cluster_is_read_as_it_was_written() {
    for family in [IpFamily::Ipv4, IpFamily::Ipv6, IpFamily::Dual] {
        let cluster = cluster(family);
        let value = serde_json::to_value(&cluster).expect("plain data becomes JSON");
        assert_eq!(load(&value).expect("read"), Some(cluster));
    }
}

#[test]
fn a_cluster_of_an_earlier_build_comes_back() {
    let back = load(&earlier()).expect("read").expect("it is there");
    assert_eq!(back.nodes, cluster(IpFamily::Ipv4).nodes);
    assert_eq!(back.ranges, cluster(IpFamily::Ipv4).ranges);
}

#[test]
fn the_file_of_a_dual_stack_cluster() {
    let mut cluster = cluster(IpFamily::Dual);
    cluster.version = "VERSION".to_owned();
    let text = serde_json::to_string_pretty(&cluster).expect("plain data becomes JSON");
    insta::assert_snapshot!(text);
}

#[test]
fn a_file_with_half_of_a_family_is_damaged() {
    let whole = serde_json::to_value(cluster(IpFamily::Dual)).expect("plain data becomes JSON");
    let mut no_address = whole.clone();
    no_address["nodes"][1]["addresses"] = json!(["172.30.0.12"]);
    let mut twice = whole.clone();
    twice["ranges"][1] = twice["ranges"][0].clone();
    let mut mixed = whole.clone();
    mixed["ranges"][1]["podCidr"] = json!("10.1.0.0/16");
    let mut none = whole;
    none["ranges"] = json!([]);
    for broken in [no_address, twice, mixed, none] {
        let error = load(&broken).expect_err("damaged");
        assert!(matches!(error, Error::BrokenCluster { .. }), "{error}");
    }
}

#[test]
fn the_api_is_reached_at_an_address_of_each_family() {
    let sockets = |family| {
        let sockets = cluster(family).server_sockets();
        sockets.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(sockets(IpFamily::Ipv4), ["172.30.0.2:6443"]);
    assert_eq!(
        sockets(IpFamily::Dual),
        ["172.30.0.2:6443", "[fd00:172:30::2]:6443"]
    );
    assert_eq!(
        cluster(IpFamily::Ipv6).server_url(),
        "https://[fd00:172:30::2]:6443"
    );
}
