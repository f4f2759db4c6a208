//! `ripstop supervise`: the process that `up` leaves behind.

use supervisor::{ClusterName, run};

use crate::failure::Failure;

pub(crate) async fn run(name: &ClusterName) -> Result<(), Failure> {
    Ok(run::run(name).await?)
}
