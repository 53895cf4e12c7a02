//! A runner at work: it leases tasks, has garak run, keeps the lease alive, and hands in what came out.

mod board;
mod catalogue;
mod check;
mod finish;
mod job;
mod keeper;
mod lease_loop;
mod probe;
mod report;
mod runner;
mod scratch;
mod sources;
mod upload;

pub(crate) use catalogue::prepare;
pub(crate) use lease_loop::lease_loop;
pub(crate) use runner::{Runner, RunnerParts, RunnerState};
pub(crate) use scratch::Scratch;

/// Why a run ends before its work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The scan is cancelled.
    Cancelled,
    /// The lease is, or may be, another run's by now: nothing more may be said for it.
    LeaseLost,
    /// The runner is being stopped.
    Drained,
    /// The probe ran longer than the scan allows.
    TimedOut,
}
