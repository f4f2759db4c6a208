//! The node's `resolv.conf`.

use std::net::{IpAddr, SocketAddr};

const PORT: u16 = 53;

/// What it says, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The servers.
    pub servers: Vec<SocketAddr>,
    /// The domains that names are completed with.
    pub searches: Vec<String>,
}

impl ResolvConf {
    /// Reads the text; servers that are `own` addresses of this DNS are left out: it would ask
    /// itself.
    pub fn parse(text: &str, own: &[IpAddr]) -> ResolvConf {
        let mut found = ResolvConf::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server: Option<IpAddr> = words.next().and_then(|word| word.parse().ok());
                    let server = server.filter(|server| !own.contains(server));
                    found
                        .servers
                        .extend(server.map(|server| SocketAddr::new(server, PORT)));
                }
                // The last one counts.
                Some("search" | "domain") => {
                    let names = words.map(|word| word.trim_end_matches('.').to_owned());
                    found.searches = names.filter(|name| !name.is_empty()).collect();
                }
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_domains_are_read_and_oneself_is_not_asked() {
        let text = "# made by hand\nnameserver 192.0.2.53\nnameserver 10.96.0.10\nnameserver 2001:db8::53\n\
                    domain old.example\nsearch corp.example. .\noptions edns0\nnameserver here\n";
        let own = ["10.96.0.10".parse().expect("an address")];
        let found = ResolvConf::parse(text, &own);
        assert_eq!(
            format!("{:?}", found.servers),
            "[192.0.2.53:53, [2001:db8::53]:53]"
        );
        assert_eq!(found.searches, ["corp.example"]);
    }
}
