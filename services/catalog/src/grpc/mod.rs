//! The services that the catalog serves: converts, and calls the store.

mod artifacts;
mod catalogues;
mod check;
mod events;
mod history;
mod located;
mod scans;
mod tasks;
mod view;
mod watch;

pub(crate) use artifacts::Artifacts;
pub(crate) use catalogues::Catalogues;
pub(crate) use history::History;
pub(crate) use scans::Scans;
pub(crate) use tasks::Tasks;
