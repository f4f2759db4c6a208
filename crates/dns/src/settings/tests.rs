use rstest::rstest;

use super::*;

fn around() -> Surroundings {
    Surroundings {
        domain: name::parse("cluster.local").expect("a name"),
        own: vec!["10.96.0.10".parse().expect("an address")],
    }
}

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn everything_that_can_be_set() {
    let data = data(&[
        ("upstreams", "- 192.0.2.53\n- \"[2001:db8::53]:5353\"\n"),
        (
            "stubDomains",
            "{\"corp.example\": [\"10.1.2.3\"], \"a.corp.example\": [\"10.1.2.4:54\"]}",
        ),
        (
            "hosts",
            "# ours\n192.0.2.80 Registry.corp.example git.corp.example # both\n2001:db8::80 registry.corp.example\n",
        ),
        ("searchCompletion", "false"),
        ("cacheSeconds", "300\n"),
        ("staleSeconds", "0"),
    ]);
    let (settings, mistakes) = read(&data, &Settings::default(), &around());
    assert_eq!(mistakes, []);
    let upstreams = settings.upstreams.expect("set");
    assert_eq!(format!("{upstreams:?}"), "[192.0.2.53:53, [2001:db8::53]:5353]");
    let stubs: Vec<String> = settings.stubs.iter().map(|(name, _)| name.to_ascii()).collect();
    assert_eq!(stubs, ["a.corp.example.", "corp.example."]);
    let name = name::parse("registry.corp.example").expect("a name");
    assert_eq!(settings.hosts[&name].len(), 2);
    assert!(!settings.search_completion);
    assert_eq!((settings.keep.as_secs(), settings.stale.as_secs()), (300, 0));
}

#[test]
fn nothing_set_is_the_default() {
    assert_eq!(
        read(&data(&[("hosts", " \n")]), &Settings::default(), &around()),
        (Settings::default(), Vec::new())
    );
}

#[rstest]
#[case(
    "forward",
    "x",
    "there is no setting \"forward\": there are upstreams, stubDomains"
)]
#[case("upstreams", "192.0.2.53", "upstreams isn't a list of servers")]
#[case("upstreams", "[]", "give between 1 and 16 servers, not 0")]
#[case("upstreams", "[dns.example]", "\"dns.example\" isn't an address of a server")]
#[case("upstreams", "[\"192.0.2.53:0\"]", "isn't an address of a server")]
#[case("upstreams", "[10.96.0.10]", "10.96.0.10 is this very DNS")]
#[case(
    "stubDomains",
    "[a]",
    "stubDomains isn't a map from domains to lists of servers"
)]
#[case("stubDomains", "{a..b: [192.0.2.1]}", "\"a..b\" isn't a name")]
#[case(
    "stubDomains",
    "{x.svc.cluster.local: [192.0.2.1]}",
    "x.svc.cluster.local. is in the cluster's own domain"
)]
#[case("hosts", "registry 192.0.2.1", "\"registry\" isn't an address")]
#[case("hosts", "192.0.2.1", "192.0.2.1 has no names")]
#[case("searchCompletion", "no", "searchCompletion isn't true or false")]
#[case("cacheSeconds", "-1", "cacheSeconds isn't a number of seconds")]
fn a_mistake_is_named_and_the_rest_counts(#[case] key: &str, #[case] text: &str, #[case] message: &str) {
    let before = Settings {
        keep: Duration::from_secs(7),
        ..Settings::default()
    };
    let (settings, mistakes) = read(&data(&[(key, text), ("staleSeconds", "5")]), &before, &around());
    let [mistake] = mistakes.as_slice() else {
        panic!("{mistakes:?}")
    };
    assert!(mistake.to_string().contains(message), "{mistake}");
    assert_eq!(settings.stale, Duration::from_secs(5));
    if key == "cacheSeconds" {
        assert_eq!(settings.keep, before.keep, "what was in force stays");
    }
}
