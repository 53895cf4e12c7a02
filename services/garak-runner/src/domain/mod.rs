//! The rules of a runner: what it allows, what garak is told, what an ending means, when to stop.
//! Knows no gRPC and no process.

pub mod allowance;
pub mod bounds;
pub mod catalogue;
pub mod custom_probe;
pub mod ending;
pub mod fence;
pub mod garak_config;
pub mod outbox;
pub mod plugin_name;
pub mod probe_work;
pub mod secret;
