//! How much there is to do.

/// What waits and what runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Tasks that another runner could begin with now.
    pub waiting: i32,
    /// Tasks that run.
    pub running: i32,
}

impl QueueDepth {
    /// What there are to be slots for.
    pub fn tasks(&self) -> i32 {
        self.waiting.saturating_add(self.running)
    }
}
