//! Follows a scan to its end, over broken connections.

use std::time::Duration;

use aegis_mesh::{Code, Error, Result};
use aegis_proto::scan::v1::{
    Scan, WatchScanRequest, WatchScanResponse, watch_scan_response::Update,
};

use crate::client::Client;

/// Broken connections in a row, without one message between them, before it gives up.
const PATIENCE: u32 = 10;

/// What a watcher does with what it is told.
pub(crate) trait Watcher {
    /// Everything that the watch says, in order.
    fn update(&mut self, update: &Update) -> Result<()>;
    /// The connection broke; it is made again.
    fn reconnecting(&mut self, error: &Error);
}

/// Follows a scan until it is ended, and returns it as it is then.
///
/// # Errors
/// What the server refuses, and a server that stays unreachable.
pub(crate) async fn follow(
    client: &Client,
    scan_id: &str,
    mut after_sequence: i64,
    watcher: &mut dyn Watcher,
) -> Result<Scan> {
    let mut broken = 0;
    loop {
        let before = after_sequence;
        match watch_once(client, scan_id, &mut after_sequence, watcher).await {
            Ok(()) => break,
            Err(error) if !worth_another_try(&error) || broken >= PATIENCE => return Err(error),
            Err(error) => {
                broken = if after_sequence > before {
                    1
                } else {
                    broken + 1
                };
                watcher.reconnecting(&error);
                tokio::time::sleep(error.retry_delay().unwrap_or(pause(broken))).await;
            }
        }
    }
    client.get_scan(scan_id).await
}

async fn watch_once(
    client: &Client,
    scan_id: &str,
    after_sequence: &mut i64,
    watcher: &mut dyn Watcher,
) -> Result<()> {
    let request = WatchScanRequest {
        scan_id: scan_id.to_owned(),
        after_sequence: *after_sequence,
    };
    let mut stream = client.scans().watch_scan(request).await?.into_inner();
    while let Some(WatchScanResponse { update }) = stream.message().await? {
        let Some(update) = update else { continue };
        watcher.update(&update)?;
        if let Update::Event(event) = &update {
            *after_sequence = event.sequence;
        }
    }
    Ok(())
}

fn worth_another_try(error: &Error) -> bool {
    // A connection that breaks in the middle of a stream comes as UNKNOWN or INTERNAL from h2.
    error.is_retryable() || matches!(error.code(), Code::Unavailable | Code::Internal)
}

fn pause(broken: u32) -> Duration {
    Duration::from_millis(200 * u64::from(broken.min(10)))
}
