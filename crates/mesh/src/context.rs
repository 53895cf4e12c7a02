//! What a call carries beside its message: for whom it is, and until when. A handler runs within
//! its call's context, and the calls that it makes inherit it.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use crate::{clock, principal::Principal};

/// For whom, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallContext {
    /// For whom.
    pub principal: Principal,
    /// Until when; `None` for a stream or job without end. The trace is not here: it travels
    /// with the current `tracing` span.
    pub deadline: Option<Instant>,
}

tokio::task_local! {
    static CURRENT: CallContext;
}

impl CallContext {
    /// A context without deadline.
    pub fn new(principal: Principal) -> Self {
        let deadline = None;
        Self {
            principal,
            deadline,
        }
    }

    /// The context of one run of a background job: the subject is `job:<name>` in the default
    /// project, and the run has `budget` in all.
    pub fn for_job(name: &str, budget: Duration) -> Self {
        Self::new(Principal::job(name)).within(budget)
    }

    /// The same, ending after `budget` at the latest.
    pub fn within(mut self, budget: Duration) -> Self {
        let then = clock::now().checked_add(budget);
        self.deadline = [self.deadline, then].into_iter().flatten().min();
        self
    }

    /// The context that the caller runs in, if any.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// What is left of the time, zero if it is over; `None` without a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        let left = |d: Instant| d.saturating_duration_since(clock::now());
        self.deadline.map(left)
    }

    /// Runs `f` within this context.
    pub(crate) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self.clone(), f)
    }
}

/// Runs `work` within `context`: calls that it makes through a [`crate::MeshChannel`] carry the
/// principal and what is left of the time.
pub async fn with_context<F: Future>(context: CallContext, work: F) -> F::Output {
    CURRENT.scope(context, work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_sees_its_context_and_nothing_after_it() {
        let context = CallContext::for_job("reaper", Duration::from_secs(60));
        let seen = with_context(context.clone(), async { CallContext::current() }).await;
        assert_eq!(seen, Some(context.clone()));
        assert_eq!(CallContext::current(), None);
        assert_eq!(context.principal.subject, "job:reaper");
    }

    #[test]
    fn a_budget_only_ever_shrinks() {
        let context = CallContext::for_job("x", Duration::from_secs(1));
        let wider = context.clone().within(Duration::from_secs(60));
        assert_eq!(wider.deadline, context.deadline);
        let over = context.within(Duration::ZERO);
        assert_eq!(over.remaining(), Some(Duration::ZERO));
    }
}
