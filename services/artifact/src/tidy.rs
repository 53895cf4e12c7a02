//! What a killed process left in the object store is removed once a day.

use std::sync::Arc;
use std::time::Duration;

use aegis_mesh::Shutdown;

use crate::store::ObjectStore;

const PERIOD: Duration = Duration::from_secs(24 * 3600);
/// After a look that failed.
const PAUSE: Duration = Duration::from_secs(600);

/// Looks until `shutdown`, first at once.
pub(crate) async fn tidy(store: Arc<dyn ObjectStore>, shutdown: Shutdown) {
    while let Some(tidied) = shutdown.until(store.tidy()).await {
        let pause = match tidied {
            Ok(0) => PERIOD,
            Ok(aborted) => {
                tracing::info!(aborted, "uploads that were never completed were aborted");
                PERIOD
            }
            Err(error) => {
                tracing::warn!(%error, "cannot look for uploads that were never completed");
                PAUSE
            }
        };
        if shutdown.until(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}
