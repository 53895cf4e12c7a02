//! The artifact service as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    aegis_mesh::main_with("artifact", aegis_artifact::run)
}
