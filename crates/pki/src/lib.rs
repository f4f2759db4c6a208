//! The cluster's certificate authority: generated once, issues server and client certificates.
