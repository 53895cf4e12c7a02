//! The RPC logic of gateway, orchestrator and runner over a simulated network: partitions, held
//! and reordered messages, lost answers. Each scenario runs once for each of many seeds, in
//! virtual time.
//!
//! Real are the gateway's pass-through, the whole orchestrator, the runner's lease, heartbeat and
//! finish, and the mesh's servers and channels between them. Two things are stand-ins, because
//! they live on threads and processes that no simulated clock moves: the catalog (`catalog`) and
//! the runner's garak (`garak`). What is drawn by chance inside of the services, such as jitter,
//! is not the seed's: a failed seed shows what kind of run to look for, and mostly fails again.

mod catalog;
mod fault;
mod garak;
mod gateway;
mod net;
mod orchestrator;
mod runner;
mod world;
