//! A garak runner that never stops itself, for the chaos suite.

use std::process::ExitCode;

fn main() -> ExitCode {
    aegis_mesh::main_with_args("garak-runner", aegis_garak_runner::run)
}
