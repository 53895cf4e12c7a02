//! Checks in TaskQueueService: a lease without a scan is one of a check.

use aegis_mesh::Result;
use aegis_proto::{
    ids::{CheckId, Epoch},
    internal::task::v1::{self as proto, leased_task},
};

use super::{check, tasks, validation};
use crate::{
    domain::{
        check::{CheckLease, CheckOutcome},
        refusal::invalid_field,
        task::LeaseProof,
    },
    store::CheckGrant,
};

/// Whose lease it is.
pub(super) enum AnyLease {
    Task(LeaseProof),
    Check(CheckLease),
}

pub(super) fn lease(lease: Option<proto::Lease>) -> Result<AnyLease> {
    match lease {
        Some(lease) if lease.scan_id.is_empty() => Ok(AnyLease::Check(check_lease(lease)?)),
        lease => Ok(AnyLease::Task(check::lease(lease)?)),
    }
}

fn check_lease(lease: proto::Lease) -> Result<CheckLease> {
    let id = lease.task_id.parse::<CheckId>();
    Ok(CheckLease {
        check: id.map_err(|error| invalid_field("lease.task_id", error))?,
        epoch: Epoch(check::within("lease.epoch", lease.epoch, 1..=i64::MAX)?),
        token: lease.token,
    })
}

pub(super) fn leased(grant: CheckGrant, ttl_ms: i64) -> proto::LeasedTask {
    let work = proto::CheckTask {
        name: grant.name,
        sha256: grant.sha256,
        // Policy, which the caller adds.
        timeout: None,
    };
    proto::LeasedTask {
        lease: Some(lease_message(grant.lease, ttl_ms)),
        work: Some(leased_task::Work::Check(work)),
    }
}

pub(super) fn lease_message(lease: CheckLease, ttl_ms: i64) -> proto::Lease {
    proto::Lease {
        task_id: lease.check.to_string(),
        scan_id: String::new(),
        epoch: lease.epoch.0,
        token: lease.token,
        ttl: Some(tasks::ttl(ttl_ms)),
    }
}

pub(super) fn outcome(mut outcome: Option<proto::TaskOutcome>) -> Result<CheckOutcome> {
    let found = outcome
        .as_mut()
        .and_then(|outcome| outcome.validation.take());
    Ok(CheckOutcome {
        outcome: tasks::outcome(outcome)?,
        validation: found.map(validation::checked).transpose()?,
    })
}

/// What a runner said while it tried a source out is taken note of, and not kept.
pub(super) fn last_sequence(events: &[proto::TaskEvent]) -> i64 {
    let sequences = events.iter().map(|event| event.source_sequence);
    sequences.max().unwrap_or_default()
}
