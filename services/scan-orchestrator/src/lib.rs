//! The brain of the mesh: validates, plans, leases, retries and follows scans. Keeps no state:
//! whatever a restart could lose is catalog's.

pub mod config;
pub mod domain;
mod grpc;
mod jobs;
mod service;

pub use config::Config;
pub use service::{Deps, Running, run, start};
