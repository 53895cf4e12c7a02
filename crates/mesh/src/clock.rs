//! Time, injected, so that tests can move it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// This moment on the clock that timers go by: a simulation's, where there is one. Deadlines and
/// leases count from it, so that they and the timers that end them agree.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Where time comes from; cheap to clone.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System(Instant),
    Manual(ManualClock),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock that moves only when told to, and the handle that tells it.
    pub fn manual(unix_ms: i64) -> (Self, ManualClock) {
        let hand = ManualClock(Arc::new(Mutex::new(Hands {
            unix_ms,
            monotonic: Duration::ZERO,
        })));
        (Self(Source::Manual(hand.clone())), hand)
    }

    /// Milliseconds since 1970 in UTC. May jump, as the machine's clock may.
    pub fn now_unix_ms(&self) -> i64 {
        match &self.0 {
            Source::System(_) => system_unix_ms(),
            Source::Manual(hand) => hand.lock().unix_ms,
        }
    }

    /// Time since this clock was made; never goes back.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System(start) => start.elapsed(),
            Source::Manual(hand) => hand.lock().monotonic,
        }
    }
}

fn system_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 reads as 1970; one past the year 292 million as that year.
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// Moves a clock made by [`Clock::manual`].
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    unix_ms: i64,
    monotonic: Duration,
}

impl ManualClock {
    /// Moves both hands forward.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.lock();
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        hands.unix_ms = hands.unix_ms.saturating_add(ms);
        hands.monotonic += by;
    }

    fn lock(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_when_told() {
        let (clock, hand) = Clock::manual(1_000);
        hand.advance(Duration::from_millis(250));
        assert_eq!(clock.clone().now_unix_ms(), 1_250);
        assert_eq!(clock.monotonic(), Duration::from_millis(250));
    }

    #[test]
    fn the_system_clock_is_after_2024() {
        assert!(Clock::system().now_unix_ms() > 1_704_067_200_000);
    }
}
