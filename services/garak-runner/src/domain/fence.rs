//! When a runner stops itself because it may have lost its lease.

use std::time::{Duration, Instant};

/// When it closes with the feature `unfenced`, which only the chaos suite's own binary has: a
/// runner that does not stop itself is stopped by the catalog's fence, or does harm.
const NEVER: Duration = Duration::from_secs(86_400);

#[cfg(all(feature = "unfenced", not(debug_assertions)))]
compile_error!("the feature `unfenced` is for the chaos suite's debug build alone");

/// Counts a lease's time to live on this machine's monotonic clock.
///
/// Each answer counts from the moment its question was *sent*: the server's clock for the lease
/// cannot have started earlier.
#[derive(Debug, Clone, Copy)]
pub struct Fence {
    ttl: Duration,
    asked: Instant,
}

impl Fence {
    /// The fence of a lease whose answer says `ttl` to a question sent at `asked`.
    pub fn new(ttl: Duration, asked: Instant) -> Self {
        Self { ttl, asked }
    }

    /// A good answer to a question sent at `asked`, saying `ttl`. An older answer changes nothing.
    pub fn renewed(&mut self, ttl: Duration, asked: Instant) {
        if asked >= self.asked {
            *self = Self { ttl, asked };
        }
    }

    /// When the question was sent that was answered well last.
    pub fn asked(&self) -> Instant {
        self.asked
    }

    /// From then on nothing may be done for the task any more: three quarters of the lease.
    pub fn closes_at(&self) -> Instant {
        if cfg!(feature = "unfenced") {
            return self.asked + NEVER;
        }
        self.asked + self.ttl * 3 / 4
    }

    /// How often the lease is renewed: a third of it.
    pub fn heartbeat(&self) -> Duration {
        self.ttl / 3
    }
}

#[cfg(all(test, not(feature = "unfenced")))]
mod tests {
    use super::*;

    #[test]
    fn the_fence_closes_at_three_quarters_of_the_lease_after_the_last_good_question() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let ttl = Duration::from_secs(60);
        let mut fence = Fence::new(ttl, start);
        assert_eq!(fence.closes_at(), at(45));
        assert_eq!(fence.heartbeat(), Duration::from_secs(20));
        fence.renewed(ttl, at(20));
        assert_eq!(fence.closes_at(), at(65));
        fence.renewed(ttl, at(10)); // answers may overtake each other
        assert_eq!(fence.closes_at(), at(65));
    }
}
