//! What a manifest asks for, seen from inside.

use std::time::Duration;

use e2e::{Cluster, eventually};

use crate::{sh, wait};

pub(crate) fn environment(cluster: &Cluster) {
    wait(cluster, "condition=Ready", "env");
    let pod = cluster.get(&["pod", "env"]);
    let text = sh(cluster, "env", "main", "env");
    let field = |pointer: &str| pod.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default();
    let ip = field("/status/podIP");
    for (name, value) in [
        ("CFG_color", "blue"),
        ("CFG_size", "9"),
        ("token", "s3cret"),
        ("NAME", "env"),
        ("NAMESPACE", "default"),
        ("POD_UID", field("/metadata/uid")),
        ("TIER", "back"),
        ("NOTE", "hello"),
        ("NODE", field("/spec/nodeName")),
        ("ACCOUNT", "default"),
        ("POD_IP", ip),
        ("POD_IPS", ip),
        ("HOST_IP", field("/status/hostIP")),
        ("CPU_MILLIS", "500"),
        ("MEMORY_MI", "16"),
        ("COLOR", "blue"),
        ("TOKEN", "s3cret"),
        ("GREETING", "hello blue $(NOBODY)"),
    ] {
        let line = format!("{name}={value}");
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
    assert!(!text.contains("NONE="), "{text}");
    let said = cluster.kubectl(&["logs", "env"]).ok();
    assert_eq!(said, "hello blue $(NOBODY) $(GREETING)\n");
    assert_eq!(field("/status/qosClass"), "Burstable");
    let limit =
        "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
    assert_eq!(sh(cluster, "env", "main", limit).trim(), (64 << 20).to_string());
    let quota = "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us";
    assert!(sh(cluster, "env", "main", quota).starts_with("50000"));
    // Of what is short of memory the one goes first that asked for nothing.
    let adjusted = |pod: &str, container: &str| {
        let text = sh(cluster, pod, container, "cat /proc/1/oom_score_adj");
        text.trim().parse::<i32>().expect("a number")
    };
    let asked = adjusted("env", "main");
    assert!((3..=999).contains(&asked), "{asked}");
    wait(cluster, "condition=Ready", "security");
    assert_eq!(adjusted("security", "bound"), 1000);
}

pub(crate) fn volumes(cluster: &Cluster) {
    wait(cluster, "condition=Ready", "volumes");
    let see = |script: &str| sh(cluster, "volumes", "main", script);
    assert_eq!(
        see("cat /settings/deep/color /frozen /keys/token"),
        "blueblues3cret"
    );
    assert_eq!(
        see("stat -Lc %a /settings/deep/color /keys/token /all/name"),
        "440\n400\n444\n"
    );
    assert_eq!(
        see("cat /own/cpu /all/from/size /all/token /all/name"),
        "2509s3cretvolumes"
    );
    assert_eq!(see("cat /own/labels"), "app=\"volumes\"\nphase=\"one\"");
    assert_eq!(see("ls /absent | wc -l").trim(), "0");
    assert_eq!(see("stat -fc %T /memory"), "tmpfs\n");
    assert_eq!(
        see("head -c 4000000 /dev/zero > /memory/f 2>/dev/null || echo full"),
        "full\n"
    );
    let shared = "echo x > /part/a; echo y > /named/b; cat /disk/inner/a /disk/volumes/b; touch /locked/c 2>/dev/null || echo locked";
    assert_eq!(see(shared), "x\ny\nlocked\n");
    assert_eq!(see("echo z > /made/d; echo gone > /sink; cat /made/d"), "z\n");
    let token = see("cut -d. -f2 /all/token-for-vault | tr _- /+ | base64 -d 2>/dev/null; true");
    for part in [
        "\"aud\":[\"vault\"]",
        "\"name\":\"volumes\"",
        "system:serviceaccount:default:default",
    ] {
        assert!(token.contains(part), "no {part} in {token}");
    }
    updates(cluster);
}

/// What changes in the API changes in the files of a running container, at once and together; what was
/// mounted as a part of a volume doesn't.
fn updates(cluster: &Cluster) {
    let see = |script: &str| sh(cluster, "volumes", "main", script);
    let before = see("readlink /settings/..data");
    cluster
        .kubectl(&[
            "patch",
            "configmap",
            "settings",
            "-p",
            r#"{"data":{"color":"green","size":"10"}}"#,
        ])
        .ok();
    cluster
        .kubectl(&["label", "pod", "volumes", "phase=two", "--overwrite"])
        .ok();
    eventually(Duration::from_secs(20), || {
        let now = see("cat /settings/deep/color /all/from/size; grep phase /own/labels");
        (now.trim() == "green10phase=\"two\"").then_some(()).ok_or(now)
    });
    assert_ne!(see("readlink /settings/..data"), before);
    assert_eq!(see("cat /frozen"), "blue");
}

pub(crate) fn security(cluster: &Cluster) {
    wait(cluster, "condition=Ready", "security");
    let status = |container: &str, field: &str| {
        let text = sh(
            cluster,
            "security",
            container,
            &format!("grep {field}: /proc/self/status"),
        );
        text.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    let see = |container: &str, script: &str| sh(cluster, "security", container, script);
    assert_eq!(see("bound", "id -u; id -g"), "1000\n3000\n");
    let groups = see("bound", "id -G");
    let mut groups: Vec<&str> = groups.split_whitespace().collect();
    groups.sort_unstable();
    assert_eq!(groups, ["2000", "3000", "4000"]);
    assert_eq!(
        see("bound", "touch /x 2>/dev/null || echo read-only"),
        "read-only\n"
    );
    // The volume is the group's, and so is what is made in it; the secret is readable to it.
    assert_eq!(
        see("bound", "touch /data/f; stat -c %g /data/f; cat /keys/token"),
        "2000\ns3cret"
    );
    assert_eq!(status("bound", "CapEff"), "0000000000000000");
    assert_eq!(
        (status("bound", "NoNewPrivs"), status("bound", "Seccomp")),
        ("1".into(), "2".into())
    );
    assert_eq!(see("other", "id -u"), "0\n");
    assert_eq!(status("other", "Seccomp"), "0");
    let caps = u64::from_str_radix(&status("other", "CapEff"), 16).expect("a number");
    assert_eq!(
        (caps >> 12 & 1, caps >> 5 & 1),
        (1, 0),
        "NET_ADMIN and not KILL: {caps:x}"
    );
    let all = u64::from_str_radix(&status("mighty", "CapEff"), 16).expect("a number");
    assert!(all.count_ones() > caps.count_ones() + 10, "{all:x}");
    let hidden = "grep -c ' /proc/sys ' /proc/mounts; true";
    assert_eq!(
        (see("bound", hidden), see("mighty", hidden)),
        ("1\n".into(), "0\n".into())
    );
}

pub(crate) fn host(cluster: &Cluster) {
    for pod in ["host", "named"] {
        wait(cluster, "condition=Ready", pod);
    }
    let pod = cluster.get(&["pod", "host"]);
    let address = pod["status"]["hostIP"].as_str().expect("an address");
    assert_eq!(pod["status"]["podIP"], address);
    let links = sh(cluster, "host", "main", "ip -o address; cat /etc/resolv.conf");
    assert!(
        links.contains(address) && links.contains("svc.cluster.local"),
        "{links}"
    );
    let others = sh(cluster, "host", "main", "ls -d /proc/[0-9]* | wc -l");
    assert!(others.trim().parse::<u32>().expect("a number") > 20, "{others}");

    let own = std::fs::read_link("/proc/self/ns/ipc").expect("a namespace");
    let seen = sh(cluster, "host", "main", "readlink /proc/self/ns/ipc");
    assert_eq!(seen.trim(), own.to_string_lossy());

    let see = |script: &str| sh(cluster, "named", "beside", script);
    assert_eq!(see("cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "81\n");
    assert_ne!(see("readlink /proc/self/ns/ipc"), seen);
    assert_eq!(see("hostname"), "ann.crew.default.svc.cluster.local\n");
    let hosts = see("cat /etc/hosts");
    assert!(hosts.contains("192.0.2.7\tdb\tdb.example"), "{hosts}");
    assert!(
        hosts.contains("\tann.crew.default.svc.cluster.local\tann"),
        "{hosts}"
    );
    let resolv = see("cat /etc/resolv.conf");
    assert!(
        resolv.contains("example.test") && resolv.contains("ndots:3"),
        "{resolv}"
    );
    // Each sees the other's processes, and the pause process that is their parent.
    let processes = see("cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    for part in ["/pause", "toolbox serve", "sleep 1001"] {
        assert!(processes.contains(part), "no {part} in {processes}");
    }
    let own = cluster.get(&["pod", "named"])["status"]["podIP"]
        .as_str()
        .map(str::to_owned);
    eventually(Duration::from_secs(20), || {
        let found = cluster
            .exec("env", &["nslookup", "ann.crew.default.svc.cluster.local"])
            .stdout;
        found
            .contains(own.as_deref().unwrap_or("none"))
            .then_some(())
            .ok_or(found)
    });
}
