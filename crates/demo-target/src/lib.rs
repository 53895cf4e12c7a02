//! The demo target: an OpenAI-compatible chat server of ours with known, documented
//! weaknesses, so that the right result of a scan is known.
//!
//! Its answer depends on the prompt alone ([`answer`]), so that two scans can be compared.
//! How it behaves as a server (slow, busy, broken) is chosen by the address that a scan
//! is given ([`Behaviour`]): `http://…/latency/50/v1/` answers after 50 ms.

mod answer;
mod behaviour;
mod server;

pub use answer::answer;
pub use behaviour::Behaviour;
pub use server::{DemoTarget, Stats};
