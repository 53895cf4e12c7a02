//! One target, and how many calls it may have in flight.

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
    /// Since when the target pushes back without one good run in between.
    pub backpressure_since: Option<i64>,
}

impl Lane {
    /// Calls that a further lease could be granted.
    pub fn room(&self) -> i32 {
        (self.max_in_flight - self.in_flight).max(0)
    }

    /// Whether nothing may be leased at `now`.
    pub fn is_paused(&self, now: i64) -> bool {
        self.paused_until > now
    }

    /// The target pushed back: rest until `until`.
    pub fn push_back(&mut self, now: i64, until: i64) {
        self.backpressure_since.get_or_insert(now);
        self.paused_until = self.paused_until.max(until);
    }

    /// The target answered well.
    pub fn answered(&mut self) {
        self.backpressure_since = None;
        self.paused_until = 0;
    }

    /// When nothing is left in the lane its past is forgotten: the next scan of
    /// this target may find it well again, days later.
    pub fn forget_if_idle(&mut self) {
        if self.queued == 0 && self.in_flight == 0 {
            self.answered();
        }
    }
}
