//! One target: how many calls it may have in flight, and whether it answers.

use super::policy::RetryPolicy;

/// A target's lane as a scan's plan names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLane {
    /// Names the target.
    pub key: String,
    /// Calls in flight over all scans of the target, at least 1.
    pub max_in_flight: i32,
}

/// A lane's row. Whoever changes it holds its lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Names the target.
    pub key: String,
    /// Calls in flight over all scans of the target.
    pub max_in_flight: i32,
    /// Calls granted to running tasks.
    pub in_flight: i32,
    /// Probe tasks that wait in this lane.
    pub queued: i32,
    /// Nothing is leased before this; 0 when it is not paused.
    pub paused_until: i64,
    /// Since when the target does not answer well.
    pub backpressure_since: Option<i64>,
    /// Whether it has answered since the lane was last idle.
    pub has_answered: bool,
}

impl Lane {
    /// Calls that a further lease could be granted. A target that pushed back is tried by one run
    /// alone until it answers.
    pub fn room(&self) -> i32 {
        if self.backpressure_since.is_some() && self.in_flight > 0 {
            return 0;
        }
        (self.max_in_flight - self.in_flight).max(0)
    }

    /// Whether nothing may be leased at `now`.
    pub fn is_paused(&self, now: i64) -> bool {
        self.paused_until > now
    }

    /// The target pushed back on a run that it had answered before, or not: nothing is leased for
    /// a while. No longer than necessary when it is given up: then each try ends a scan, and the
    /// others wait for theirs.
    pub fn push_back(
        &mut self,
        now: i64,
        had_answered: bool,
        retry_after_ms: Option<i64>,
        policy: &RetryPolicy,
    ) {
        self.has_answered |= had_answered;
        let since = *self.backpressure_since.get_or_insert(now);
        let silent = match self.is_given_up(now, policy) {
            true => 0,
            false => now - since,
        };
        let until = now + policy.rest(retry_after_ms, silent);
        self.paused_until = self.paused_until.max(until);
    }

    /// Whether the target is not waited for any longer.
    pub fn is_given_up(&self, now: i64, policy: &RetryPolicy) -> bool {
        let longest = match self.has_answered {
            true => policy.max_outage_ms,
            false => policy.max_backpressure_ms,
        };
        now - self.backpressure_since.unwrap_or(now) > longest
    }

    /// The target answered well.
    pub fn answered(&mut self) {
        self.has_answered = true;
        self.backpressure_since = None;
        self.paused_until = 0;
    }

    /// When nothing is left in the lane its past is forgotten: the next scan of
    /// this target may find it well again, days later.
    pub fn forget_if_idle(&mut self) {
        if self.queued == 0 && self.in_flight == 0 {
            self.answered();
            self.has_answered = false;
        }
    }
}
