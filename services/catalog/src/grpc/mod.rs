//! The services that the catalog serves: converts, and calls the store.

mod artifacts;
mod catalogues;
mod check;
mod checks;
mod custom_probes;
mod events;
mod history;
mod scans;
mod tasks;
mod templates;
mod validation;
mod view;
mod watch;

pub(crate) use artifacts::Artifacts;
pub(crate) use catalogues::Catalogues;
pub(crate) use custom_probes::CustomProbes;
pub(crate) use history::History;
pub(crate) use scans::Scans;
pub(crate) use tasks::Tasks;
pub(crate) use templates::Templates;
