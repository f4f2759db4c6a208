//! `ripstop check`.

use crate::args::Check;
use crate::failure::Failure;

pub(crate) async fn run(args: Check) -> Result<(), Failure> {
    let _ = args;
    Err(Failure::new("check", ""))
}
