use clap::Parser;

use super::*;
use crate::args::{Args, Command as Typed};
use supervisor::network::Wish;

fn up(line: &str) -> Up {
    let words = ["ripstop", "up"].into_iter().chain(line.split_whitespace());
    match Args::try_parse_from(words).expect("valid").command {
        Typed::Up(up) => up,
        other => panic!("{other:?}"),
    }
}

fn cluster(wish: &Wish) -> Cluster {
    let programs = Programs {
        ripstop: "/r".into(),
        cni: "/c".into(),
        images: "/i".into(),
        containerd: "/d".into(),
        ctr: "/t".into(),
        runc: "/u".into(),
    };
    let ranges = Ranges::choose(wish, &[], 3).expect("free");
    Cluster::new("local".parse().expect("valid"), 3, ranges, programs).expect("fits")
}

fn dual() -> Wish {
    Wish {
        ip_family: IpFamily::Dual,
        ..Wish::default()
    }
}

#[test]
fn asking_for_what_is_there_is_fine() {
    for line in [
        "",
        "--nodes 3 --ip-family ipv4",
        "--pod-network auto",
        "--node-network 172.30.0.7/24 --pod-cidr 10.244.0.0/16",
        "--service-node-port-range 30000-32767",
    ] {
        assert!(
            check_same(&cluster(&Wish::default()), &up(line)).is_ok(),
            "{line}"
        );
    }
    for line in [
        "",
        "--ip-family dual",
        "--pod-cidr fd00:10:244::/56",
        "--pod-cidr 10.244.0.0/16,fd00:10:244::/56",
    ] {
        assert!(check_same(&cluster(&dual()), &up(line)).is_ok(), "{line}");
    }
}

#[test]
fn ranges_that_say_the_same_are_the_same() {
    let cluster = Cluster {
        non_masquerade: non_masquerade(&up("--non-masquerade fd00:1::/64,192.168.0.0/16")),
        ..cluster(&Wish::default())
    };
    for line in [
        "",
        "--non-masquerade 192.168.0.0/17,192.168.128.0/17,fd00:1::/64",
        "--non-masquerade 192.168.7.0/16 --non-masquerade fd00:1::/64",
    ] {
        assert!(check_same(&cluster, &up(line)).is_ok(), "{line}");
    }
    assert!(check_same(&cluster, &up("--non-masquerade fd00:1::/64")).is_err());
}

#[test]
fn asking_for_something_else_than_what_is_there_is_refused() {
    for line in [
        "--nodes 5",
        "--ip-family ipv6",
        "--ip-family dual",
        "--node-network 172.30.9.0/24",
        "--pod-cidr 10.1.0.0/16",
        "--pod-cidr 10.244.0.0/16,fd00:10:244::/56",
        "--service-cidr 10.2.0.0/16",
        "--non-masquerade 192.168.0.0/16",
        "--pod-network vxlan",
        "--service-node-port-range 30000-32000",
    ] {
        assert!(
            check_same(&cluster(&Wish::default()), &up(line)).is_err(),
            "{line}"
        );
    }
    for line in ["--ip-family ipv4", "--pod-cidr fd00:10:244::/56,10.244.0.0/16"] {
        assert!(check_same(&cluster(&dual()), &up(line)).is_err(), "{line}");
    }
}

#[tokio::test]
async fn the_machines_own_addresses_are_taken() {
    let loopback = "127.0.0.1/8".parse::<ipnet::IpNet>().expect("a range").trunc();
    let taken = taken(&"local".parse().expect("valid")).await.expect("read");
    assert!(
        taken
            .iter()
            .any(|taken| taken.range == loopback && taken.by == "an address of lo"),
        "{taken:?}"
    );
}
