//! The hands of the mesh: runs garak, one probe at a time, and meets the target.
//!
//! A runner dials out and needs no address. It leases tasks, has a warm Python process fork a child
//! for each (`process`), keeps the lease alive while the child runs (`work`), and hands in what it
//! found. What a scan may ask of it is decided by its own allow-list (`domain::allowance`).

pub mod config;
pub mod domain;
mod grpc;
pub mod process;
mod service;
mod work;

pub use config::Config;
pub use service::{Deps, RunnerArgs, Running, run, start};
