//! The warehouse of the mesh: takes reports in, composes them, and reads them by ranges.
//!
//! It has the bytes and nothing else: names, owners and visibility are catalog's, and every call
//! of a runner is checked there against its lease.

pub mod config;
pub mod domain;
mod grpc;
mod service;
pub mod store;
mod tidy;

pub use self::config::Config;
pub use self::service::{Deps, Running, run, start};
