//! One call: with a deadline, and again when that may help.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use super::fault::{Fault, Kind};

/// How often a call is tried, the first time included.
pub(super) const TRIES: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The pauses between tries: from 100 ms on each twice as long as the one before, with jitter.
pub(super) fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_max_times(TRIES - 1)
}

/// Waits for one try, `within` at most.
pub(super) async fn limited<T>(
    what: &'static str,
    within: Duration,
    one: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(within, one).await {
        Ok(done) => done,
        Err(_) => {
            let what = format!("no end of {what} within {} s", within.as_secs());
            Err(Fault::new(Kind::Passing, what))
        }
    }
}

/// Runs `one` up to three times, each time for `within` at most. It must be one that may be
/// repeated: the store may have done it although no answer came.
pub(super) async fn repeated<T, Fut>(
    what: &'static str,
    within: Duration,
    mut one: impl FnMut() -> Fut,
) -> Result<T, Fault>
where
    Fut: Future<Output = Result<T, Fault>>,
{
    (|| limited(what, within, one()))
        .retry(pauses())
        .when(Fault::is_passing)
        .notify(|fault, pause| {
            tracing::info!(what, %fault, ?pause, "the object store is asked again");
        })
        .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn tried(kind: Kind) -> usize {
        let tries = Cell::new(0);
        let failed = repeated("a test", Duration::from_secs(1), || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(Fault::new(kind, "x"))
        });
        assert_eq!(failed.await.unwrap_err().kind, kind);
        tries.get()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_tried_again() {
        assert_eq!(tried(Kind::Passing).await, 3);
        for kind in [Kind::Missing, Kind::Refused, Kind::Full, Kind::Lasting] {
            assert_eq!(tried(kind).await, 1, "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends() {
        let begun = tokio::time::Instant::now();
        let never = || std::future::pending::<Result<(), Fault>>();
        let fault = repeated("a test", Duration::from_secs(5), never).await;
        assert!(fault.unwrap_err().is_passing());
        let took = begun.elapsed().as_secs();
        assert!((15..22).contains(&took), "{took}");
    }
}
