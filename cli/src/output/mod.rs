//! How answers are shown to a person. `--json` prints what the HTTP API would answer.

pub(crate) mod error;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod waiting;

use aegis_proto::json;
use prost::{Message, Name};

/// Prints a message as JSON.
pub(crate) fn print_json<M: Message + Name>(message: &M) -> anyhow::Result<()> {
    println!(
        "{}",
        serde_json::to_string_pretty(&json::to_json(message)?)?
    );
    Ok(())
}
