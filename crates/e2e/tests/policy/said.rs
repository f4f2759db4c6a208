//! What `ripstop trace` says of a packet.

use e2e::Cluster;
use serde_json::Value;

/// What becomes of a packet, and which policies say so, as `NAMESPACE/NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// It arrives: no policy is about it, or it's the pod itself or its own node that sends it.
    Nobody,
    /// It arrives: a rule of each of these allows it, the sender's first.
    Allowed(&'static [&'static str]),
    /// It doesn't: these isolate a pod, and no rule of theirs allows it.
    Denied(&'static [&'static str]),
    /// It doesn't, and policies aren't why.
    Refused,
}

impl By {
    pub(crate) fn allows(self) -> bool {
        matches!(self, By::Nobody | By::Allowed(_))
    }

    /// Whether a trace says the same.
    fn is_said_by(self, trace: &Value) -> bool {
        let kind = trace["verdict"]["kind"].as_str().unwrap_or_default();
        let texts = |list: &Value, field: &str| -> Vec<String> {
            let items = list.as_array().into_iter().flatten();
            let named = items.filter_map(|item| item.pointer(field)?.as_str());
            named.map(str::to_owned).collect()
        };
        match (self, kind) {
            (By::Nobody, "delivered") => texts(&trace["decisions"], "/policy").is_empty(),
            (By::Allowed(policies), "delivered") => texts(&trace["decisions"], "/policy") == policies,
            (By::Denied(policies), "denied") => texts(&trace["verdict"]["policies"], "") == policies,
            (By::Refused, "refused") => true,
            _ => false,
        }
    }
}

/// What is asked of `ripstop trace`.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    words: [String; 3],
    pub(crate) by: By,
}

impl Question {
    pub(crate) fn new(from: &str, to: &str, port: &str, by: By) -> Question {
        Question {
            words: [from, to, port].map(str::to_owned),
            by,
        }
    }

    /// Asks; says what is wrong with the answer.
    pub(crate) fn answer(&self, cluster: &Cluster) -> Result<Value, String> {
        let [from, to, port] = &self.words;
        let out = cluster.explain(&["trace", from, to, "--port", port, "-o", "json"]);
        let wrong = |what: &str| {
            format!(
                "{from} → {to} {port}, by {:?}: {what}\n{}{}",
                self.by, out.stdout, out.stderr
            )
        };
        let status = if self.by.allows() { 0 } else { 1 };
        if out.code != Some(status) {
            return Err(wrong(&format!("it ended with {:?}", out.code)));
        }
        let said: Value = serde_json::from_str(&out.stdout).map_err(|error| wrong(&error.to_string()))?;
        if said["allowed"] != self.by.allows() {
            return Err(wrong("it's not what the exit status says"));
        }
        let traces = said["traces"].as_array().cloned().unwrap_or_default();
        match !traces.is_empty() && traces.iter().all(|trace| self.by.is_said_by(trace)) {
            true => Ok(said),
            false => Err(wrong("it says something else")),
        }
    }
}
