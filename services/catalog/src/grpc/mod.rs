//! The services that the catalog serves: converts, and calls the store.

mod artifacts;
mod catalogues;
mod check;
mod comparison;
mod events;
mod history;
mod query;
mod scans;
mod statistics;
mod tasks;
mod templates;
mod view;
mod watch;

pub(crate) use artifacts::Artifacts;
pub(crate) use catalogues::Catalogues;
pub(crate) use comparison::Comparisons;
pub(crate) use history::History;
pub(crate) use scans::Scans;
pub(crate) use statistics::Statistics;
pub(crate) use tasks::Tasks;
pub(crate) use templates::Templates;
