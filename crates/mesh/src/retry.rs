//! Sending again what may be sent again.

use std::{future::Future, time::Duration};

use backon::{ExponentialBuilder, Retryable};

use crate::{CallContext, Result, clock};

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// The most tries, the first included.
    pub max_tries: usize,
    /// The first pause; each next one is twice as long, and each is jittered.
    pub first_delay: Duration,
    /// The longest pause, also of those that a server asks for.
    pub max_delay: Duration,
    /// After this much pausing in all no further try is begun.
    pub max_total: Duration,
}

impl Default for RetryPolicy {
    /// 5 tries, 100 ms to 5 s apart, within 30 s.
    fn default() -> Self {
        Self {
            max_tries: 5,
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(5),
            max_total: Duration::from_secs(30),
        }
    }
}

/// Runs `op` until it succeeds, fails for good ([`crate::Error::is_retryable`] says no), or the
/// policy or the call's own time is used up; the last error is the answer. A pause is at least
/// what the error's `retry_delay` asks for, bounded by `max_delay`. `op` must be idempotent.
pub async fn retry<T, F, Fut>(policy: RetryPolicy, op: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let left = CallContext::current().and_then(|context| context.remaining());
    let total = left.map_or(policy.max_total, |left| left.min(policy.max_total));
    let start = clock::now();
    let backoff = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(policy.first_delay)
        .with_max_delay(policy.max_delay)
        .with_max_times(policy.max_tries.saturating_sub(1));
    op.retry(backoff)
        .when(|error| error.is_retryable())
        .adjust(|error, pause| {
            let asked = error.retry_delay().unwrap_or_default();
            let pause = pause?
                .max(asked)
                .min(policy.max_delay.max(policy.first_delay));
            // A pause that would outlast the time is not begun.
            (clock::now() - start + pause < total).then_some(pause)
        })
        .notify(|error, pause| {
            tracing::debug!(code = %error.code(), reason = error.reason(), ?pause, "trying again");
        })
        .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{Error, Principal, with_context};

    fn unavailable(after: Duration) -> Error {
        Error::unavailable("DRAINING", "x", after)
    }

    #[tokio::test(start_paused = true)]
    async fn tries_again_only_what_is_retryable() {
        let tries = Cell::new(0);
        let op = || async {
            tries.set(tries.get() + 1);
            match tries.get() {
                3 => Ok(7),
                _ => Err(unavailable(Duration::ZERO)),
            }
        };
        assert_eq!(retry(RetryPolicy::default(), op).await, Ok(7));

        tries.set(0);
        let lost = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(Error::aborted("LEASE_LOST", "x"))
        };
        assert!(retry(RetryPolicy::default(), lost).await.is_err());
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test]
    async fn tries_are_bounded() {
        let policy = RetryPolicy {
            first_delay: Duration::from_millis(1),
            ..RetryPolicy::default()
        };
        let tries = Cell::new(0);
        let op = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(unavailable(Duration::ZERO))
        };
        assert!(retry(policy, op).await.is_err());
        assert_eq!(tries.get(), 5);
    }

    #[tokio::test]
    async fn waits_as_long_as_the_server_asks() {
        let policy = RetryPolicy {
            first_delay: Duration::from_millis(1),
            max_tries: 2,
            ..RetryPolicy::default()
        };
        let start = std::time::Instant::now();
        let op = || async { Err::<(), _>(unavailable(Duration::from_millis(80))) };
        assert!(retry(policy, op).await.is_err());
        assert!(start.elapsed() >= Duration::from_millis(80));
    }

    #[tokio::test]
    async fn never_outlives_the_call() {
        let context = CallContext::new(Principal::local()).within(Duration::from_millis(50));
        let start = std::time::Instant::now();
        let op = || async { Err::<(), _>(unavailable(Duration::from_secs(4))) };
        let result = with_context(context, retry(RetryPolicy::default(), op)).await;
        assert!(result.is_err());
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}
