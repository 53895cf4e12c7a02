//! The services: they convert, ask the domain, and hand intents to catalog.

mod check;
mod convert;
mod custom_probe;
mod job;
mod plugin;
mod scan;
mod task;
mod template;
mod watch;

use aegis_mesh::Error;
use tonic::Status;

pub(crate) use custom_probe::CustomProbeApi;
pub(crate) use job::JobApi;
pub(crate) use plugin::PluginApi;
pub(crate) use scan::ScanApi;
pub(crate) use task::{TaskApi, TaskPolicy};
pub(crate) use template::TemplateApi;

/// A peer's status as ours: its reason and details stay, its transport metadata does not.
fn relay(status: Status) -> Status {
    Error::from(status).into()
}
