//! What every service of the mesh has: configuration, errors, server, channel, principal,
//! telemetry, shutdown.
//!
//! A service is a library with `run(config, deps, shutdown)`; [`service::main_with`] gives it a
//! `main`. It serves through a [`MeshServer`] and calls others through a [`MeshChannel`], which
//! is a network connection or another service's routes in the same process: both ways pass the
//! same layers (deadline, principal, token, trace).

pub mod channel;
pub mod clock;
pub mod config;
pub mod context;
pub mod dependency;
pub mod error;
pub mod failpoint;
pub mod health;
pub mod json;
pub mod network;
pub mod page;
pub mod principal;
pub mod retry;
pub mod secret;
pub mod server;
pub mod service;
pub mod shutdown;
pub mod spawn;
pub mod telemetry;

mod balance;
mod call;
mod connection;
mod deadline;
mod layer;
mod limit;
mod methods;
mod open_files;
mod probe;
mod replica;
mod resend;
mod resolve;

pub use channel::{ClientConfig, LocalSlot, MeshChannel};
pub use clock::{Clock, ManualClock};
pub use config::{ConfigError, PlainVariable};
pub use context::{CallContext, with_context};
pub use error::{Code, Error, Result};
pub use health::Health;
pub use json::error_body;
pub use limit::MessageLimit;
pub use network::{Listener, Network, SystemNetwork};
pub use open_files::raise_open_files;
pub use page::{PageTokens, page_size};
pub use principal::{Principal, principal_of};
pub use retry::{RetryPolicy, retry};
pub use secret::Secret;
pub use server::{MeshServer, ServerConfig};
pub use service::{
    ServiceArgs, ServiceConfig, listen, main_with, main_with_args, main_with_commands,
};
pub use shutdown::Shutdown;
pub use spawn::{TaskGroup, TaskHandle, spawn};
pub use telemetry::{LogFormat, TelemetryConfig, TelemetryGuard};
