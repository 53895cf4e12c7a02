//! HTTP: what is asked, by whom, and which part answers.

pub mod app;
pub mod artifact;
pub mod content;
pub mod events;
pub mod failure;
pub mod guard;
pub mod held;
mod link;
pub mod range;
pub mod ready;
pub mod stream;

pub use app::{App, Limits};
pub use guard::Guard;
pub(crate) use stream::draining;
