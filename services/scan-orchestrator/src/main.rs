//! The scan orchestrator as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    aegis_mesh::main_with("scan-orchestrator", aegis_scan_orchestrator::run)
}
