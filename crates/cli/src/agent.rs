//! `ripstop agent`: a node's agent.

use std::path::Path;

use agent::AgentConfig;

use crate::failure::Failure;
use crate::server::until_signalled;

pub(crate) async fn run(config: &Path) -> Result<(), Failure> {
    let config = AgentConfig::read(config)?;
    Ok(agent::run(config, until_signalled()?).await?)
}
