//! What is asked of `/flows`.

use std::str::FromStr;

use model::FlowFilter;

/// A query: `follow=true&last=20&namespace=shop&pod=web&port=80&dropped=true`, all of it optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// Which ones.
    pub(crate) filter: FlowFilter,
    /// Whether those that come are wanted, too.
    pub(crate) follow: bool,
    /// How many of the last ones are wanted; all that are kept if it isn't said.
    pub(crate) last: Option<usize>,
}

impl FromStr for Query {
    type Err = String;

    fn from_str(text: &str) -> Result<Query, String> {
        let mut query = Query::default();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            let wrong = |what: &str| format!("{key}={value} is no {what}");
            match &*key {
                "follow" => query.follow = value.parse().map_err(|_| wrong("truth: write true or false"))?,
                "dropped" => {
                    query.filter.dropped = value.parse().map_err(|_| wrong("truth: write true or false"))?;
                }
                "last" => query.last = Some(value.parse().map_err(|_| wrong("number"))?),
                "port" => query.filter.port = Some(value.parse().map_err(|_| wrong("port"))?),
                "namespace" => query.filter.namespace = Some(value.into_owned()),
                "pod" => query.filter.pod = Some(value.into_owned()),
                _ => {
                    return Err(format!(
                        "there is no parameter {key}: follow, last, namespace, pod, port and dropped are known"
                    ));
                }
            }
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_optional_and_mistakes_are_named() {
        assert_eq!("".parse(), Ok(Query::default()));
        let query: Query = "follow=true&last=20&namespace=a%2Db&pod=web&port=80&dropped=true"
            .parse()
            .expect("a query");
        assert_eq!(query.filter.namespace.as_deref(), Some("a-b"));
        assert_eq!(
            (query.follow, query.last, query.filter.port),
            (true, Some(20), Some(80))
        );
        assert!(query.filter.dropped);
        for (text, says) in [
            ("port=99999", "port=99999 is no port"),
            ("folow=true", "there is no parameter folow"),
            ("follow=yes", "write true or false"),
        ] {
            let error = text.parse::<Query>().expect_err("wrong");
            assert!(error.contains(says), "{error}");
        }
    }
}
