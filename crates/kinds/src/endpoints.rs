//! Endpoints.

use k8s_openapi::api::core::v1::Endpoints;
use serde_json::Value;

use crate::columns::{self, column};
use crate::json::{int, list, list_mut, set_default_text, text};
use crate::kind::Kind;
use crate::{decode, endpoints_validation};

pub(crate) const KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    categories: &[],
    namespaced: true,
    status: false,
    scale: None,
    generation: false,
    subresources: &[],
    decode: decode::typed::<Endpoints>,
    default: |endpoints| {
        for subset in list_mut(endpoints, "/subsets") {
            for port in list_mut(subset, "/ports") {
                set_default_text(port, "protocol", "TCP");
            }
        }
    },
    validate: endpoints_validation::validate,
    columns: &[
        columns::NAME,
        column(
            "Endpoints",
            "string",
            "The addresses and ports that implement the Service.",
        ),
        columns::AGE,
    ],
    row: |endpoints, now| {
        vec![
            columns::name(endpoints),
            addresses(endpoints).into(),
            columns::age(endpoints, now),
        ]
    },
    fields: &[],
};

/// The first three addresses, and how many more there are.
fn addresses(endpoints: &Value) -> String {
    const SHOWN: usize = 3;
    let mut all = Vec::new();
    for subset in list(endpoints, "/subsets") {
        let ips = || {
            list(subset, "/addresses")
                .iter()
                .map(|address| text(address, "/ip"))
        };
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports {
            let number = int(port, "/port").unwrap_or_default();
            all.extend(ips().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{number}")
                } else {
                    format!("{ip}:{number}")
                }
            }));
        }
    }
    match all.len() {
        0 => "<none>".to_owned(),
        count if count > SHOWN => format!("{} + {} more...", all[..SHOWN].join(","), count - SHOWN),
        _ => all.join(","),
    }
}
