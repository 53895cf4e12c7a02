//! The runner with real garak: its tasks between fakes of the services it calls, and its process.

mod binary;
mod custom_probes;
mod drain;
mod limits;
mod storage;
mod support;
mod tasks;
