//! How long to wait before a retry. The caller brings the numbers.

/// Times of retries, all in milliseconds and not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Before the first retry; doubled for each further failure.
    pub backoff_ms: i64,
    /// The longest.
    pub max_backoff_ms: i64,
    /// How long a lane rests when its target names no time itself.
    pub lane_pause_ms: i64,
    /// A target that pushes back for longer has its tasks given up.
    pub max_backpressure_ms: i64,
    /// The same for one that has answered before.
    pub max_outage_ms: i64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            backoff_ms: 2_000,
            max_backoff_ms: 60_000,
            lane_pause_ms: 5_000,
            max_backpressure_ms: 600_000,
            max_outage_ms: 3_600_000,
        }
    }
}

/// The longest rest that a target may ask for: one hour. A header must not park a lane for days.
pub const MAX_RETRY_AFTER_MS: i64 = 3_600_000;

/// The longest rest of a lane whose target asks for none.
const MAX_REST_MS: i64 = 60_000;

impl RetryPolicy {
    /// Wait before the run after `failures` failures (at least 1). `luck`, 0 to 1, spreads
    /// it over the upper half, so that tasks that failed together do not return together.
    pub fn backoff(&self, failures: i32, luck: f64) -> i64 {
        let doublings = failures.saturating_sub(1).clamp(0, 30);
        let full = self
            .backoff_ms
            .saturating_mul(1_i64 << doublings)
            .min(self.max_backoff_ms);
        full / 2 + (full as f64 / 2.0 * luck.clamp(0.0, 1.0)) as i64
    }

    /// How long a lane rests, given what the target asked for, or else for how long it has not
    /// answered: a quarter of that, so that a long outage costs few tries and a short one little time.
    pub fn rest(&self, retry_after_ms: Option<i64>, silent_ms: i64) -> i64 {
        let own = (silent_ms / 4).min(MAX_REST_MS).max(self.lane_pause_ms);
        retry_after_ms.unwrap_or(own).clamp(0, MAX_RETRY_AFTER_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_limit_and_keeps_at_least_half() {
        let policy = RetryPolicy {
            backoff_ms: 100,
            max_backoff_ms: 1_000,
            ..RetryPolicy::default()
        };
        assert_eq!(policy.backoff(1, 1.0), 100);
        assert_eq!(policy.backoff(1, 0.0), 50);
        assert_eq!(policy.backoff(3, 1.0), 400);
        assert_eq!(policy.backoff(9, 1.0), 1_000);
        assert_eq!(policy.backoff(i32::MAX, 1.0), 1_000);
    }

    #[test]
    fn a_target_cannot_park_its_lane_for_days() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.rest(Some(250), 0), 250);
        assert_eq!(policy.rest(Some(i64::MAX), 0), MAX_RETRY_AFTER_MS);
    }

    #[test]
    fn the_longer_a_target_is_silent_the_rarer_it_is_tried() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.rest(None, 0), policy.lane_pause_ms);
        assert_eq!(policy.rest(None, 120_000), 30_000);
        assert_eq!(policy.rest(None, i64::MAX), MAX_REST_MS);
    }
}
