//! ripstop check: an end-to-end check of a cluster's network.
