//! What kill -9 costs: until the probe of a dead runner runs again, and until a service that is
//! back serves again.

mod runner;
mod service;

pub(crate) use self::{runner::measure as of_a_runner, service::measure as of_a_service};
