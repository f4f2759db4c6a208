//! Ways into this crate for fuzzing (crate `fuzz-targets`): files that people write, and the command reads.

use std::path::Path;

use clap::Parser;
use model::NamespacedName;
use serde_json::{Value, json};
use supervisor::files;

use crate::args::{Args, Command};
use crate::explain::{Names, Port, World, folder};
use crate::kubeconfig::document;
use crate::up::{config, manifests};
use crate::{policy, trace};

/// How many pods and Services are asked about.
const PLACES: usize = 4;

/// The file of `up --config`: everything that is wrong with it can be told.
pub fn cluster(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    match config::parse(text, Path::new("/")) {
        Ok(wish) => {
            let args = Args::try_parse_from(["ripstop", "up"]).expect("it needs no more words");
            if let Command::Up(up) = args.command {
                let _ = wish.complete(up);
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "what is refused has something wrong");
            for mistake in mistakes {
                mistake.problem(Path::new("cluster.yaml"));
            }
        }
    }
}

/// Manifests on disk: what `up` applies, and what `trace -f` and `policy show -f` tell of them.
pub fn objects(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let _ = manifests::of_text(text);
    let Ok(objects) = folder::of_text(text, "default") else {
        return;
    };
    let world = World::new(objects);
    let names = Names {
        world: &world,
        namespace: "default",
    };
    let pods = world.pods.keys().take(PLACES);
    let pods = pods.map(|pod| format!("{}/pod/{}", pod.namespace, pod.name));
    let services = world.services.keys().take(PLACES);
    let services = services.map(|service| format!("{}/svc/{}", service.namespace, service.name));
    let places: Vec<_> = pods
        .chain(services)
        .filter_map(|text| names.find(&text).ok())
        .collect();
    for to in &places {
        let Ok(transport) = names.transport(to, Some(&Port::Icmp)) else {
            continue;
        };
        let transport = names.transport(to, None).unwrap_or(transport);
        for from in &places {
            trace::told(&world, from, to, transport);
        }
    }
    let pods: Vec<&NamespacedName> = world.pods.keys().take(PLACES).collect();
    for pod in pods {
        let _ = policy::told(&world, pod);
    }
}

/// Somebody's kubeconfig, which a cluster is added to and taken out of again.
pub fn kubeconfig(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let Ok(old) = serde_saphyr::from_str::<Value>(text) else {
        return;
    };
    let named = json!([{"name": "ripstop-a"}]);
    let own = json!({"clusters": named, "contexts": named, "users": named});
    let Ok(with) = document::merge(old.clone(), &own, "ripstop-a") else {
        return;
    };
    let again = document::merge(with.clone(), &own, "ripstop-a");
    assert_eq!(again.as_ref(), Ok(&with), "adding twice is adding once");
    let written: Value = serde_saphyr::from_str(&files::yaml(&with)).expect("what is written can be read");
    assert_eq!(written, with, "what is written is what was meant");
    let without = document::remove(with, "ripstop-a").expect("it is a kubeconfig still");
    let gone = |list: &str| {
        without[list]
            .as_array()
            .is_none_or(|list| !list.contains(&named[0]))
    };
    assert!(
        ["clusters", "contexts", "users"].into_iter().all(gone),
        "it is taken out"
    );
}
