//! The services that scan-orchestrator serves: converts, and calls `domain` and catalog.

mod catalogues;
mod convert;
mod plugin_service;
mod scan_service;
mod task_service;
mod watch;

pub(crate) use catalogues::Catalogues;
pub(crate) use convert::to_duration;
pub(crate) use plugin_service::PluginApi;
pub(crate) use scan_service::ScanApi;
pub(crate) use task_service::TaskApi;
