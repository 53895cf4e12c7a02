//! The services that the catalog serves: converts, and calls the store.

mod artifacts;
mod catalogues;
mod check;
mod checks;
mod comparison;
mod custom_probes;
mod events;
mod history;
mod imports;
mod keeping;
mod located;
mod query;
mod queue;
mod scans;
mod statistics;
mod tasks;
mod templates;
mod validation;
mod view;
mod watch;

pub(crate) use artifacts::Artifacts;
pub(crate) use catalogues::Catalogues;
pub(crate) use comparison::Comparisons;
pub(crate) use custom_probes::CustomProbes;
pub(crate) use history::History;
pub(crate) use imports::Imports;
pub(crate) use keeping::Keeping;
pub(crate) use queue::Queue;
pub(crate) use scans::Scans;
pub(crate) use statistics::Statistics;
pub(crate) use tasks::Tasks;
pub(crate) use templates::Templates;
