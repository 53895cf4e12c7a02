//! Readiness follows the object store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_mesh::{Health, Shutdown};

use crate::store::ObjectStore;

/// How often a store that works is looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// How soon one that does not is looked at again, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How often what a killed process left in the store is looked for.
const TIDY_PERIOD: Duration = Duration::from_secs(24 * 3600);

/// Looks at the store until `shutdown`: the service is healthy while it can be used. Each change
/// is logged, and why.
pub(crate) async fn watch(store: Arc<dyn ObjectStore>, health: Health, shutdown: Shutdown) {
    let mut failing = FIRST_PAUSE;
    let mut said = String::new();
    let mut tidied: Option<Instant> = None;
    while let Some(checked) = shutdown.until(store.check()).await {
        let pause = match checked {
            Ok(()) => {
                if !health.is_serving() {
                    tracing::info!("the object store can be used");
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
                    tracing::error!(%why, "the object store cannot be used; it is tried again");
                    said = why;
                }
                failing = (failing * 2).min(PERIOD);
                failing
            }
        };
        if health.is_serving() && tidied.is_none_or(|at| at.elapsed() >= TIDY_PERIOD) {
            tidied = Some(Instant::now());
            if shutdown.until(tidy(store.as_ref())).await.is_none() {
                return;
            }
        }
        if shutdown.until(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

async fn tidy(store: &dyn ObjectStore) {
    match store.tidy().await {
        Ok(0) => {}
        Ok(aborted) => tracing::info!(aborted, "uploads that were never completed were aborted"),
        Err(error) => tracing::warn!(%error, "cannot look for uploads that were never completed"),
    }
}
