//! The memory of the mesh: the database and every rule that must hold in one transaction.
//!
//! `domain` holds the rules and is pure. `store` loads rows under their locks, asks the domain
//! and writes back, one transaction per intent, the same on SQLite and PostgreSQL. `grpc` serves
//! HistoryService to users, and to the other services ScanStoreService, TaskQueueService,
//! ArtifactRegistryService and PluginCatalogueService.

pub mod command;
pub mod config;
pub mod domain;
mod grpc;
mod service;
pub mod store;

pub use config::Config;
pub use service::{Deps, Running, run, start};
