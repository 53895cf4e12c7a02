//! The garak runner as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    aegis_mesh::main_with_args("garak-runner", aegis_garak_runner::run)
}
