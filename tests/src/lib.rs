//! What crosses services: the fixtures of the end-to-end suite. Everything is real:
//! the release's own binaries, real garak, real processes; only the target is ours.

pub mod client;
pub mod cluster;
pub mod data;
pub mod mesh;
pub mod process;
pub mod usage;
