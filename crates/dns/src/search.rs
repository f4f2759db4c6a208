//! Search completion: what a pod's resolver would ask next, asked for it.
//!
//! With `ndots:5` a resolver asks for `example.com.NAMESPACE.svc.cluster.local` first, and for
//! `example.com` itself only after four answers of "no such name". Who asks is known by its
//! address, and with it the list that its resolver goes through: the first question is answered
//! with what the whole list comes to, as an alias for the name that was found.
//!
//! That holds only for a question that ends in the first domain of the list of whoever asks. What
//! hostNetwork pods ask, and pods that aren't known yet, is answered as it stands.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::Name;

use crate::name;
use crate::record::Key;

/// The domains of a pod's resolver, in order.
pub type List = Arc<[Name]>;

/// The pods of this node by address.
#[derive(Debug, Default)]
pub struct Searches {
    /// And whose it is now: a new pod's address may be known before the old one's end.
    lists: HashMap<IpAddr, (Key, List)>,
    /// By the pod's namespace and name: what it had.
    addresses: HashMap<Key, Vec<IpAddr>>,
    /// Most pods of a namespace have the same.
    shared: HashMap<Vec<String>, List>,
}

impl Searches {
    /// A pod has these addresses and this list.
    pub fn put(&mut self, pod: Key, addresses: Vec<IpAddr>, list: Vec<String>) {
        self.remove(&pod);
        let list = self.shared.entry(list).or_insert_with_key(|texts| {
            let names = texts.iter().filter_map(|text| name::parse(text));
            names.map(|name| name.to_lowercase()).collect()
        });
        let list = Arc::clone(list);
        for address in &addresses {
            self.lists.insert(*address, (pod.clone(), Arc::clone(&list)));
        }
        self.addresses.insert(pod, addresses);
    }

    /// A pod is gone, or has no list.
    pub fn remove(&mut self, pod: &Key) {
        for address in self.addresses.remove(pod).into_iter().flatten() {
            if self.lists.get(&address).is_some_and(|(owner, _)| owner == pod) {
                self.lists.remove(&address);
            }
        }
        self.shared.retain(|_, list| Arc::strong_count(list) > 1);
    }

    /// The pods that are known.
    pub fn pods(&self) -> impl Iterator<Item = &Key> {
        self.addresses.keys()
    }

    /// The list of whoever has that address.
    pub fn of(&self, address: IpAddr) -> Option<List> {
        self.lists.get(&address).map(|(_, list)| Arc::clone(list))
    }
}

/// The names that a resolver with that list would ask for after `asked`, in the order in which
/// they are tried here; empty if `asked` isn't what it asks first.
///
/// A name that ends in the cluster's domain already is tried as it is before domains outside:
/// cluster names must not wait for others' servers.
pub fn candidates(asked: &Name, list: &[Name], domain: &Name) -> Vec<Name> {
    let Some((first, rest)) = list.split_first() else {
        return Vec::new();
    };
    let own = asked.num_labels().saturating_sub(first.num_labels());
    if own == 0 || !first.zone_of(asked) {
        return Vec::new();
    }
    let base = Name::from_labels(asked.iter().take(usize::from(own)));
    let Ok(base) = base else { return Vec::new() };
    let (inside, outside): (Vec<&Name>, Vec<&Name>) = rest.iter().partition(|name| domain.zone_of(name));
    let with = |suffix: &Name| base.clone().append_domain(suffix).ok();
    // Nobody means a top-level domain by a single label; asking for it would only tell others of it.
    let bare = (own > 1).then(|| base.clone());
    let mut names: Vec<Name> = inside.into_iter().filter_map(&with).collect();
    if domain.zone_of(&base) {
        names.extend(bare);
        names.extend(outside.into_iter().filter_map(&with));
    } else {
        names.extend(outside.into_iter().filter_map(&with));
        names.extend(bare);
    }
    names
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn names(texts: &[&str]) -> Vec<Name> {
        texts
            .iter()
            .map(|text| name::parse(text).expect("a name"))
            .collect()
    }

    const LIST: [&str; 4] = ["a.svc.c.l", "svc.c.l", "c.l", "corp.example"];

    #[rstest]
    #[case::outside("example.com.a.svc.c.l", &["example.com.svc.c.l", "example.com.c.l", "example.com.corp.example", "example.com"])]
    #[case::other_namespace("web.b.a.svc.c.l", &["web.b.svc.c.l", "web.b.c.l", "web.b.corp.example", "web.b"])]
    #[case::whole("web.b.svc.c.l.a.svc.c.l", &["web.b.svc.c.l.svc.c.l", "web.b.svc.c.l.c.l", "web.b.svc.c.l", "web.b.svc.c.l.corp.example"])]
    #[case::single("web.a.svc.c.l", &["web.svc.c.l", "web.c.l", "web.corp.example"])]
    #[case::not_first("example.com.svc.c.l", &[])]
    #[case::the_domain_itself("a.svc.c.l", &[])]
    #[case::plain("example.com", &[])]
    fn what_a_resolver_asks_next(#[case] asked: &str, #[case] expected: &[&str]) {
        let asked = name::parse(asked).expect("a name");
        let domain = name::parse("c.l").expect("a name");
        assert_eq!(candidates(&asked, &names(&LIST), &domain), names(expected));
    }

    #[test]
    fn an_address_is_the_last_pods_that_had_it() {
        let mut searches = Searches::default();
        let (ip, other): (IpAddr, IpAddr) =
            ("10.0.0.1".parse().expect("one"), "10.0.0.2".parse().expect("one"));
        let pod = |name: &str| ("a".to_owned(), name.to_owned());
        searches.put(pod("x"), vec![ip], vec!["a.svc.c.l".to_owned()]);
        searches.put(pod("x"), vec![other], vec!["a.svc.c.l".to_owned()]);
        assert_eq!(searches.of(ip), None);
        assert_eq!(searches.of(other).as_deref(), Some(&names(&["a.svc.c.l"])[..]));
        searches.put(pod("y"), vec![other], vec!["b.svc.c.l".to_owned()]);
        searches.remove(&pod("x"));
        assert_eq!(searches.of(other).as_deref(), Some(&names(&["b.svc.c.l"])[..]));
        searches.remove(&pod("y"));
        assert_eq!(searches.of(other), None);
        assert!(searches.shared.is_empty());
    }
}
