//! What people set: the ConfigMap `ripstop-dns` in `kube-system`.
//!
//! ```yaml
//! data:
//!   upstreams: |                # in place of the node's resolv.conf
//!     - 192.0.2.53
//!     - "[2001:db8::53]:5353"
//!   stubDomains: |              # other servers for some domains
//!     corp.example: [10.1.2.3, "10.1.2.4:5353"]
//!   hosts: |                    # names of your own, as in /etc/hosts
//!     192.0.2.80  registry.corp.example git.corp.example
//!   searchCompletion: "false"   # true unless it says so
//!   cacheSeconds: "300"         # the longest that an answer of others is kept
//!   staleSeconds: "86400"       # the longest that it is used when nobody answers
//! ```
//!
//! A key that can't be understood keeps the value that was in force, and is complained of; the
//! others count.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::Name;

use crate::name;

/// Where names are asked for whose servers listen at the usual place.
const PORT: u16 = 53;
/// As many servers as one question is sent to at most.
const MOST_SERVERS: usize = 16;

/// What is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The servers for everything else; none: those of the node's `resolv.conf`.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// Servers for some domains.
    pub stubs: Vec<(Name, Vec<SocketAddr>)>,
    /// Names with addresses of their own, in lower case.
    pub hosts: HashMap<Name, Vec<IpAddr>>,
    /// Whether search lists are gone through here.
    pub search_completion: bool,
    /// The longest that an answer of others is kept.
    pub keep: Duration,
    /// The longest that it is used after that when nobody answers.
    pub stale: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        const HOUR: u64 = 60 * 60;
        Settings {
            upstreams: None,
            stubs: Vec::new(),
            hosts: HashMap::new(),
            search_completion: true,
            keep: Duration::from_secs(HOUR),
            stale: Duration::from_secs(24 * HOUR),
        }
    }
}

/// What makes a key's value no setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// It isn't known.
    #[error("there is no setting {0:?}: there are {known}", known = KEYS.join(", "))]
    Unknown(String),
    /// It has another form.
    #[error("{key} isn't {form}: {why}")]
    Form {
        /// Which.
        key: &'static str,
        /// What it should be.
        form: &'static str,
        /// What it is.
        why: String,
    },
    /// No server has that address.
    #[error(
        "{key}: {text:?} isn't an address of a server, as in 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353"
    )]
    Server {
        /// Where.
        key: &'static str,
        /// What it says.
        text: String,
    },
    /// It would ask itself.
    #[error("{key}: {address} is this very DNS, which would ask itself")]
    Itself {
        /// Where.
        key: &'static str,
        /// The address.
        address: IpAddr,
    },
    /// No servers, or too many.
    #[error("{key}: give between 1 and {MOST_SERVERS} servers, not {count}")]
    Count {
        /// Where.
        key: &'static str,
        /// How many there are.
        count: usize,
    },
    /// It isn't a name.
    #[error("{key}: {text:?} isn't a name")]
    Name {
        /// Where.
        key: &'static str,
        /// What it says.
        text: String,
    },
    /// It is the cluster's.
    #[error("{key}: {name} is in the cluster's own domain, whose names are made of its Services")]
    Inside {
        /// Where.
        key: &'static str,
        /// The name.
        name: String,
    },
}

const UPSTREAMS: &str = "upstreams";
const STUB_DOMAINS: &str = "stubDomains";
const HOSTS: &str = "hosts";
const SEARCH_COMPLETION: &str = "searchCompletion";
const CACHE_SECONDS: &str = "cacheSeconds";
const STALE_SECONDS: &str = "staleSeconds";
const KEYS: [&str; 6] = [
    UPSTREAMS,
    STUB_DOMAINS,
    HOSTS,
    SEARCH_COMPLETION,
    CACHE_SECONDS,
    STALE_SECONDS,
];

/// What settings are checked against.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The cluster's domain.
    pub domain: Name,
    /// The addresses of this DNS.
    pub own: Vec<IpAddr>,
}

/// Reads what people wrote. `before` is what was in force.
pub fn read(
    data: &BTreeMap<String, String>,
    before: &Settings,
    around: &Surroundings,
) -> (Settings, Vec<Mistake>) {
    let mut settings = Settings::default();
    let mut mistakes = Vec::new();
    for key in data.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        mistakes.push(Mistake::Unknown(key.clone()));
    }
    let mut take = |key: &'static str, set: &mut dyn FnMut(&str) -> Result<(), Mistake>| {
        let text = data.get(key).filter(|text| !text.trim().is_empty());
        match text.map(|text| set(text)) {
            None | Some(Ok(())) => true,
            Some(Err(mistake)) => {
                mistakes.push(mistake);
                false
            }
        }
    };
    if !take(UPSTREAMS, &mut |text| {
        settings.upstreams = Some(servers(UPSTREAMS, &list(UPSTREAMS, text)?, around)?);
        Ok(())
    }) {
        settings.upstreams.clone_from(&before.upstreams);
    }
    if !take(STUB_DOMAINS, &mut |text| {
        stubs(text, around).map(|stubs| settings.stubs = stubs)
    }) {
        settings.stubs.clone_from(&before.stubs);
    }
    if !take(HOSTS, &mut |text| {
        hosts(text, around).map(|hosts| settings.hosts = hosts)
    }) {
        settings.hosts.clone_from(&before.hosts);
    }
    if !take(SEARCH_COMPLETION, &mut |text| {
        settings.search_completion = value(SEARCH_COMPLETION, "true or false", text)?;
        Ok(())
    }) {
        settings.search_completion = before.search_completion;
    }
    if !take(CACHE_SECONDS, &mut |text| {
        seconds(CACHE_SECONDS, text).map(|time| settings.keep = time)
    }) {
        settings.keep = before.keep;
    }
    if !take(STALE_SECONDS, &mut |text| {
        seconds(STALE_SECONDS, text).map(|time| settings.stale = time)
    }) {
        settings.stale = before.stale;
    }
    (settings, mistakes)
}

/// The rest shows the place in the text.
fn first_line(error: &serde_saphyr::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn value<T: std::str::FromStr>(key: &'static str, form: &'static str, text: &str) -> Result<T, Mistake> {
    text.trim().parse().map_err(|_| Mistake::Form {
        key,
        form,
        why: format!("it is {text:?}"),
    })
}

fn seconds(key: &'static str, text: &str) -> Result<Duration, Mistake> {
    value::<u32>(key, "a number of seconds", text).map(|seconds| Duration::from_secs(seconds.into()))
}

fn list(key: &'static str, text: &str) -> Result<Vec<String>, Mistake> {
    serde_saphyr::from_str(text).map_err(|error| Mistake::Form {
        key,
        form: "a list of servers",
        why: first_line(&error),
    })
}

fn servers(key: &'static str, texts: &[String], around: &Surroundings) -> Result<Vec<SocketAddr>, Mistake> {
    let mut servers = Vec::new();
    for text in texts {
        let server = server(text).ok_or_else(|| Mistake::Server {
            key,
            text: text.clone(),
        })?;
        if around.own.contains(&server.ip()) {
            return Err(Mistake::Itself {
                key,
                address: server.ip(),
            });
        }
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    match servers.len() {
        1..=MOST_SERVERS => Ok(servers),
        count => Err(Mistake::Count { key, count }),
    }
}

fn server(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let alone = text
        .parse::<IpAddr>()
        .ok()
        .map(|address| SocketAddr::new(address, PORT));
    alone
        .or_else(|| text.parse().ok())
        .filter(|server| server.port() != 0 && !server.ip().is_unspecified() && !server.ip().is_multicast())
}

fn stubs(text: &str, around: &Surroundings) -> Result<Vec<(Name, Vec<SocketAddr>)>, Mistake> {
    let key = STUB_DOMAINS;
    let map: BTreeMap<String, Vec<String>> = serde_saphyr::from_str(text).map_err(|error| Mistake::Form {
        key,
        form: "a map from domains to lists of servers",
        why: first_line(&error),
    })?;
    let mut stubs = Vec::new();
    for (domain, texts) in map {
        let name = outside(key, &domain, around)?;
        stubs.push((name, servers(key, &texts, around)?));
    }
    // The longest one that fits is found first.
    stubs.sort_by_key(|(name, _)| std::cmp::Reverse(name.num_labels()));
    Ok(stubs)
}

fn hosts(text: &str, around: &Surroundings) -> Result<HashMap<Name, Vec<IpAddr>>, Mistake> {
    let mut hosts: HashMap<Name, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        let form = |why: String| Mistake::Form {
            key: HOSTS,
            form: "lines of an address and names",
            why,
        };
        let address: IpAddr = first
            .parse()
            .map_err(|_| form(format!("{first:?} isn't an address")))?;
        let mut names = words.peekable();
        if names.peek().is_none() {
            return Err(form(format!("{address} has no names")));
        }
        for text in names {
            let addresses = hosts.entry(outside(HOSTS, text, around)?).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Ok(hosts)
}

/// A name that isn't the cluster's, in lower case.
fn outside(key: &'static str, text: &str, around: &Surroundings) -> Result<Name, Mistake> {
    let name = name::parse(text).filter(|name| !name.is_root());
    let name = name
        .ok_or_else(|| Mistake::Name {
            key,
            text: text.to_owned(),
        })?
        .to_lowercase();
    if around.domain.zone_of(&name) {
        return Err(Mistake::Inside {
            key,
            name: name.to_ascii(),
        });
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
