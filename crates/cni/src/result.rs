//! Results of ADD, in the shape that each version wants.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Code, Error};
use crate::version::Version;

/// What an ADD did, free of any version's shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddResult {
    /// Links that were made, host's and container's.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<Ip>,
    /// Routes in the container.
    pub routes: Vec<Route>,
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address; empty if it has none or nobody asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its largest packet (printed from 1.1.0 on).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Path of its network namespace; none for the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// Which of the interfaces has it, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// The address with its prefix length.
    pub address: IpNet,
    /// Its gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// A route in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub dst: IpNet,
    /// Through whom; none means the attachment's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
}

impl AddResult {
    /// What the plugin prints when it is the first of its chain.
    pub fn render(&self, version: Version) -> Value {
        let interfaces: Vec<Value> = self.interfaces.iter().map(|link| link.render(version)).collect();
        let ips: Vec<Value> = self.ips.iter().map(|ip| ip.render(version, 0)).collect();
        let mut out = json!({ "cniVersion": version, "interfaces": interfaces, "ips": ips });
        if !self.routes.is_empty() {
            out["routes"] = json!(self.routes);
        }
        out["dns"] = json!({});
        out
    }

    /// What the plugin prints when others came before it: their result with ours added, and
    /// everything else of theirs untouched.
    pub fn render_after(&self, version: Version, previous: Option<&Value>) -> Result<Value, Error> {
        let ours = self.render(version);
        let Some(previous) = previous.filter(|value| !value.is_null()) else {
            return Ok(ours);
        };
        let mut merged = previous.clone();
        let Some(fields) = merged.as_object_mut() else {
            return Err(Error::new(
                Code::InvalidConfig,
                "prevResult in the network configuration isn't an object",
            ));
        };
        let offset = list(fields, "interfaces")?.len();
        for link in &self.interfaces {
            list(fields, "interfaces")?.push(link.render(version));
        }
        for ip in &self.ips {
            list(fields, "ips")?.push(ip.render(version, offset));
        }
        for route in &self.routes {
            list(fields, "routes")?.push(json!(route));
        }
        fields.insert("cniVersion".to_owned(), json!(version));
        Ok(merged)
    }

    /// Reads a `prevResult` as far as CHECK needs it: fields that aren't known here are passed over.
    pub fn parse(value: &Value) -> Result<AddResult, Error> {
        #[derive(Deserialize)]
        struct Loose {
            #[serde(default)]
            interfaces: Vec<Interface>,
            #[serde(default)]
            ips: Vec<Ip>,
            #[serde(default)]
            routes: Vec<Route>,
        }
        let loose = Loose::deserialize(value).map_err(|error| {
            Error::new(
                Code::InvalidConfig,
                format!("prevResult in the network configuration can't be read: {error}"),
            )
        })?;
        Ok(AddResult {
            interfaces: loose.interfaces,
            ips: loose.ips,
            routes: loose.routes,
        })
    }
}

fn list<'a>(fields: &'a mut serde_json::Map<String, Value>, key: &str) -> Result<&'a mut Vec<Value>, Error> {
    let value = fields.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            format!("prevResult.{key} in the network configuration isn't a list"),
        )
    })
}

impl Interface {
    fn render(&self, version: Version) -> Value {
        let mut out = json!(self);
        if version < Version::V1_1_0
            && let Some(fields) = out.as_object_mut()
        {
            fields.remove("mtu");
        }
        out
    }
}

impl Ip {
    fn render(&self, version: Version, offset: usize) -> Value {
        let mut out = json!(self);
        if let Some(interface) = self.interface {
            out["interface"] = json!(interface + offset);
        }
        if version < Version::V1_0_0 {
            out["version"] = json!(if self.address.addr().is_ipv4() { "4" } else { "6" });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn dual() -> AddResult {
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        AddResult {
            interfaces: vec![
                Interface {
                    name: "rs0".into(),
                    mac: "aa:00:00:00:00:01".into(),
                    mtu: Some(1500),
                    sandbox: None,
                },
                Interface {
                    name: "eth0".into(),
                    mac: "aa:00:00:00:00:02".into(),
                    mtu: Some(1500),
                    sandbox: Some("/run/netns/p".into()),
                },
            ],
            ips: vec![
                Ip {
                    interface: Some(1),
                    address: net("10.244.1.2/32"),
                    gateway: Some([169, 254, 1, 1].into()),
                },
                Ip {
                    interface: Some(1),
                    address: net("fd00:10:244:1::2/128"),
                    gateway: None,
                },
            ],
            routes: vec![
                Route {
                    dst: net("0.0.0.0/0"),
                    gw: Some([169, 254, 1, 1].into()),
                },
                Route {
                    dst: net("::/0"),
                    gw: None,
                },
            ],
        }
    }

    #[rstest]
    #[case(Version::V0_3_1)]
    #[case(Version::V0_4_0)]
    #[case(Version::V1_0_0)]
    #[case(Version::V1_1_0)]
    fn a_dual_stack_result_prints_in_each_versions_shape(#[case] version: Version) {
        let text = serde_json::to_string_pretty(&dual().render(version)).expect("JSON");
        insta::assert_snapshot!(format!("dual_{version}"), text);
    }

    #[rstest]
    #[case(Version::V0_4_0)]
    #[case(Version::V1_0_0)]
    #[case(Version::V1_1_0)]
    fn what_add_prints_check_can_read(#[case] version: Version) {
        let read = AddResult::parse(&dual().render(version)).expect("our own result");
        assert_eq!(read.ips, dual().ips);
        assert_eq!(read.routes, dual().routes);
    }

    #[test]
    fn an_earlier_plugins_result_is_kept_and_ours_follows() {
        let previous = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "net0", "socketPath": "/vhost"}],
            "ips": [{"address": "192.0.2.1/24", "interface": 0}],
            "routes": [{"dst": "198.51.100.0/24", "table": 7}],
            "dns": {"nameservers": ["192.0.2.53"]},
        });
        let merged = dual()
            .render_after(Version::V1_1_0, Some(&previous))
            .expect("merges");
        assert_eq!(merged["interfaces"][0], previous["interfaces"][0]);
        assert_eq!(merged["interfaces"][2]["name"], "eth0");
        assert_eq!(merged["ips"][0], previous["ips"][0]);
        assert_eq!(merged["ips"][1]["interface"], 2);
        assert_eq!(merged["routes"][0]["table"], 7);
        assert_eq!(merged["dns"], previous["dns"]);
    }

    #[test]
    fn an_empty_previous_result_changes_nothing() {
        let alone = dual().render(Version::V1_0_0);
        assert_eq!(dual().render_after(Version::V1_0_0, None), Ok(alone.clone()));
        assert_eq!(
            dual().render_after(Version::V1_0_0, Some(&Value::Null)),
            Ok(alone)
        );
    }

    #[rstest]
    #[case(json!("text"))]
    #[case(json!({"ips": {}}))]
    fn a_malformed_previous_result_is_refused(#[case] previous: Value) {
        let error = dual()
            .render_after(Version::V1_0_0, Some(&previous))
            .expect_err("refused");
        assert_eq!(error.code, Code::InvalidConfig);
    }
}
