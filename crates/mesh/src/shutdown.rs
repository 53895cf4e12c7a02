//! Telling everything in a process to come to an end.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of a process that a second signal stopped (128 + SIGINT).
const FORCED: i32 = 130;

/// Says that it is time to stop; clones say the same.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Nothing has to stop yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells this, its clones and its children to stop.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Ends when it is time to stop; at once if it was already.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// Whether it is time to stop.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Stops with this one, and may be stopped alone.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Runs `work` until it ends, or until it is time to stop: then it is dropped, and the
    /// answer is `None`.
    pub async fn until<F: Future>(&self, work: F) -> Option<F::Output> {
        self.0.run_until_cancelled(work).await
    }
}

/// Triggers `shutdown` at the first SIGINT or SIGTERM. The second ends the process at once, with
/// exit code 130. Signals are caught from this call on, before the answer is first polled; an
/// error is that they cannot be. Needs a tokio runtime.
pub fn signals(shutdown: Shutdown) -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut signals = Signals::new()?;
    Ok(async move {
        let first = signals.next().await;
        tracing::info!(signal = first, "stopping; a second signal stops at once");
        shutdown.trigger();
        let second = signals.next().await;
        tracing::warn!(signal = second, "stopped at once");
        std::process::exit(FORCED);
    })
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_stops_with_its_parent_but_not_the_other_way() {
        let parent = Shutdown::new();
        let alone = parent.child();
        alone.trigger();
        assert!(!parent.is_triggered());
        let child = parent.child();
        parent.clone().trigger();
        child.triggered().await;
        assert!(child.is_triggered());
    }

    #[tokio::test]
    async fn until_drops_the_work() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.until(async { 7 }).await, Some(7));
        shutdown.trigger();
        let never = std::future::pending::<()>();
        assert_eq!(shutdown.until(never).await, None);
    }
}
