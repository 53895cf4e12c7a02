//! The rows as SeaORM knows them; columns are explained in the migration.
#![allow(
    unreachable_pub,
    reason = "the derive macros want public items in these private modules"
)]

pub(crate) mod artifact;
pub(crate) mod idempotency;
pub(crate) mod lane;
pub(crate) mod probe_result;
pub(crate) mod scan;
pub(crate) mod scan_event;
pub(crate) mod statistics_delta;
pub(crate) mod statistics_rollup;
pub(crate) mod task;
pub(crate) mod task_run;
