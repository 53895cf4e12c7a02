//! The face of the mesh: HTTP/JSON, gRPC and gRPC-Web for everyone outside, on one port.
//!
//! Keeps no state and knows no scan's rules: it finds out who asks, and passes on.
//!
//! * `public` says which methods the outside may call, and who answers them;
//! * `transcode` turns HTTP/JSON into gRPC by the annotations in the contracts, and back;
//! * `grpc` passes gRPC and gRPC-Web on as bytes;
//! * `http` leads a request to what answers it; artifacts' bytes, streams, errors;
//! * `listener` is the connections.

pub mod config;
pub mod grpc;
pub mod http;
pub mod listener;
pub mod public;
mod service;
pub mod transcode;

pub use config::Config;
pub use public::Deps;
pub use service::{Running, run, start};
