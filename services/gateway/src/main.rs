//! The gateway as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    aegis_mesh::main_with("gateway", aegis_gateway::run)
}
