//! A catalog without its fence, for the chaos suite.

use std::process::ExitCode;

fn main() -> ExitCode {
    aegis_mesh::main_with_commands("catalog", aegis_catalog::command::run)
}
