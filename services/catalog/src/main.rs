//! The catalog as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    aegis_mesh::main_with_commands("catalog", aegis_catalog::command::run)
}
