//! Ways into this crate for fuzzing (crate `fuzz-targets`): what the agent is asked, and the journal that it finds.

use std::path::Path;

/// A question for flows, as the kubelet's `/flows` and the node's socket get it.
pub fn flows(query: &[u8]) {
    if let Ok(query) = str::from_utf8(query) {
        let _ = query.trim_end().parse::<crate::flows::Query>();
    }
}

/// A journal of attachments, damaged or of another boot.
pub fn journal(bytes: &[u8]) {
    crate::ipam::fuzz::replay(bytes, Path::new("attachments.journal"));
}
