//! Readiness follows what a service cannot work without: its database, its object store.

use std::{fmt::Display, future::Future, time::Duration};

use tokio::time::sleep;

use crate::{Health, Shutdown};

/// How often a dependency that works is looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// How soon one that does not is looked at again, at first; the pause doubles up to the period.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Looks at a dependency until `shutdown`: the service is healthy while `check` succeeds. Each change
/// is logged, and why; so `check` bounds its own time, and names no secret.
pub async fn follow<C, E>(
    dependency: &'static str,
    check: impl Fn() -> C,
    health: Health,
    shutdown: Shutdown,
) where
    C: Future<Output = Result<(), E>>,
    E: Display,
{
    let mut failing = FIRST_PAUSE;
    let mut said = String::new();
    while let Some(checked) = shutdown.until(check()).await {
        let pause = match checked {
            Ok(()) => {
                if !health.is_serving() {
                    tracing::info!(dependency, "can be used");
                }
                health.set_serving();
                said.clear();
                failing = FIRST_PAUSE;
                PERIOD
            }
            Err(error) => {
                health.set_not_serving();
                let why = error.to_string();
                if why != said {
                    tracing::error!(dependency, %why, "cannot be used; it is tried again");
                    said = why;
                }
                failing = (failing * 2).min(PERIOD);
                failing
            }
        };
        if shutdown.until(sleep(pause)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;
    use crate::spawn;

    #[tokio::test(start_paused = true)]
    async fn health_follows_the_dependency_and_ends_with_the_service() {
        let works = Arc::new(AtomicBool::new(false));
        let (health, shutdown) = (Health::new(), Shutdown::new());
        let look = {
            let works = Arc::clone(&works);
            move || {
                let works = works.load(Ordering::Relaxed);
                async move { works.then_some(()).ok_or("nobody is there") }
            }
        };
        let watch = follow("database", look, health.clone(), shutdown.clone());
        let watch = spawn("watch", watch);
        for expected in [false, true, false, true] {
            works.store(expected, Ordering::Relaxed);
            sleep(PERIOD * 2).await;
            assert_eq!(health.is_serving(), expected);
        }
        shutdown.trigger();
        watch.await.unwrap();
    }
}
