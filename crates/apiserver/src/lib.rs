//! The embedded, Kubernetes-compatible API server: generic and table-driven over the store.
//!
//! A request finds its way like this; nothing in it knows a kind by name except the few real special cases
//! (namespaces, Services, pods and their subresources):
//!
//! ```text
//! serve (TLS, HTTP) ─┐
//!                    ├─► server ─► path ─► auth ─► limits ─► resource ─► create · update · delete   ─► store
//! client (in process)┘      │                                  │          apply · managed
//!                           ├─► discovery, openapi             │          list · watch             ◄─ store
//!                           └─► about (health …), metrics      ├─► scale, pods (binding, eviction)
//!                                                              ├─► auth (reviews, tokens)
//!                                                              └─► kubelet (log, exec, attach, portforward)
//! ```
//!
//! What a Service gets (addresses, node ports) is found out by `services` on the way, and written with it.
//! Every write notes who owns which fields (`managed`, by the rules of crate `patch`), and `apply` asks.
//! What a kind is, its decoding, defaults, validation and columns, is the table's business (crate `kinds`), to
//! which `definitions` adds the kinds of CustomResourceDefinitions while the server runs;
//! objects are stored as the bytes that clients get, so reading and watching copy and never serialise. Clients
//! that like protobuf better (Go's do) send and get that instead: crate `protobuf` translates at the edge.

mod about;
mod admission;
mod apply;
mod auth;
mod budget;
mod call;
mod compress;
mod create;
mod definitions;
mod delete;
mod discovery;
mod document;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod input;
mod kubelet;
mod labels;
mod limits;
mod list;
mod managed;
mod metrics;
mod negotiate;
mod object;
mod openapi_documents;
mod path;
mod pods;
mod present;
mod proxy;
mod reply;
mod resource;
mod scale;
mod selector;
mod serve;
mod server;
mod services;
mod snapshot;
mod status;
mod tls;
mod tunnel;
mod update;
mod watch;
mod websocket;

pub use admission::LossToleration;
pub use auth::identity::Identity;
pub use auth::tokens::TokenConfig;
pub use error::Error;
pub use server::{ApiServer, Config};
pub use services::ServiceConfig;
pub use tls::{ClientTls, ServerTls};
