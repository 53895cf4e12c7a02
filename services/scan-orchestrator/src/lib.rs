//! The brain of the mesh: validates, plans, leases, retries and follows scans. Keeps no state.
//!
//! `domain` holds the rules and is pure. `grpc` serves ScanService, PluginService and TaskService
//! with them, and hands each intent to catalog, where it becomes one transaction. `jobs` is what
//! happens without being asked.

mod catalogues;
pub mod config;
mod customs;
pub mod domain;
mod grpc;
mod jobs;
mod service;
mod templates;

pub use config::Config;
pub use service::{Deps, Running, run, start};
