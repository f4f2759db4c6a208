//! What commands that explain know of a cluster, and how they find what people name.
//!
//! ```text
//!   the API, or manifests on disk ─► Objects ─► World: each node's plan and policies ─► trace, policy show
//! ```

mod api;
pub(crate) mod folder;
mod near;
mod objects;
mod place;
mod world;

use std::path::Path;

pub(crate) use objects::Objects;
pub(crate) use place::{Names, Place, Port, What};
pub(crate) use world::{PodView, World};

use crate::args::Source;
use crate::failure::Failure;

/// The cluster that is asked about.
pub(crate) async fn world(source: &Source) -> Result<World, Failure> {
    let objects = match &source.folder {
        Some(folder) => folder::read(Path::new(folder), &source.namespace)?,
        None => api::read(source).await?,
    };
    Ok(World::new(objects))
}

pub(crate) use near::nearest;
