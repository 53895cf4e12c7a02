//! `WatchScan`: catalog's watch, with heartbeats, over one broken connection, ended at shutdown.

use std::{pin::Pin, time::Duration};

use aegis_mesh::{Error, MeshChannel, Shutdown};
use aegis_proto::{
    internal::catalog::v1::{
        self as catalog, scan_store_service_client::ScanStoreServiceClient,
        watch_scan_response::Update as From,
    },
    scan::v1::{
        WatchScanHeartbeat, WatchScanRequest, WatchScanResponse, watch_scan_response::Update,
    },
};
use futures_util::{Stream, stream};
use tonic::{Status, Streaming};

const SILENCE: Duration = Duration::from_secs(15);
const COME_BACK_AFTER: Duration = Duration::from_secs(2);

/// What a watcher gets.
pub(crate) type Watch = Pin<Box<dyn Stream<Item = Result<WatchScanResponse, Status>> + Send>>;

struct State {
    store: ScanStoreServiceClient<MeshChannel>,
    scan_id: String,
    last_sequence: i64,
    upstream: Streaming<catalog::WatchScanResponse>,
    /// One broken connection is made good; the second is the watcher's to handle.
    may_reconnect: bool,
    shutdown: Shutdown,
    over: bool,
}

pub(super) async fn start(
    mut store: ScanStoreServiceClient<MeshChannel>,
    request: WatchScanRequest,
    shutdown: Shutdown,
) -> Result<Watch, Status> {
    let upstream = open(&mut store, &request.scan_id, request.after_sequence).await?;
    let state = State {
        store,
        scan_id: request.scan_id,
        last_sequence: request.after_sequence,
        upstream,
        may_reconnect: true,
        shutdown,
        over: false,
    };
    Ok(Box::pin(stream::unfold(state, |mut state| async move {
        let item = state.next().await?;
        state.over = item.is_err();
        Some((item, state))
    })))
}

async fn open(
    store: &mut ScanStoreServiceClient<MeshChannel>,
    scan_id: &str,
    after_sequence: i64,
) -> Result<Streaming<catalog::WatchScanResponse>, Status> {
    let request = catalog::WatchScanRequest {
        scan_id: scan_id.to_owned(),
        after_sequence,
    };
    Ok(store.watch_scan(request).await?.into_inner())
}

impl State {
    async fn next(&mut self) -> Option<Result<WatchScanResponse, Status>> {
        if self.over {
            return None;
        }
        loop {
            let message = tokio::select! {
                biased;
                () = self.shutdown.triggered() => return Some(Err(draining())),
                message = tokio::time::timeout(SILENCE, self.upstream.message()) => message,
            };
            match message {
                Err(_silence) => return Some(Ok(self.heartbeat())),
                Ok(Ok(None)) => return None,
                Ok(Ok(Some(message))) => {
                    if let Some(update) = self.update(message) {
                        return Some(Ok(WatchScanResponse { update: Some(update) }));
                    }
                }
                Ok(Err(status)) => {
                    if let Err(status) = self.reconnect(status).await {
                        return Some(Err(status));
                    }
                }
            }
        }
    }

    fn update(&mut self, message: catalog::WatchScanResponse) -> Option<Update> {
        Some(match message.update? {
            From::Snapshot(scan) => Update::Snapshot(scan),
            From::Progress(progress) => Update::Progress(progress),
            From::Event(event) => {
                self.last_sequence = event.sequence;
                self.may_reconnect = true;
                Update::Event(event)
            }
        })
    }

    fn heartbeat(&self) -> WatchScanResponse {
        let last_sequence = self.last_sequence;
        WatchScanResponse {
            update: Some(Update::Heartbeat(WatchScanHeartbeat { last_sequence })),
        }
    }

    async fn reconnect(&mut self, status: Status) -> Result<(), Status> {
        if !self.may_reconnect || !Error::from(status.clone()).is_retryable() {
            return Err(status);
        }
        self.may_reconnect = false;
        self.upstream = open(&mut self.store, &self.scan_id, self.last_sequence).await?;
        Ok(())
    }
}

fn draining() -> Status {
    Error::unavailable("DRAINING", "the server is going down", COME_BACK_AFTER)
        .hint("watch again with the last sequence that you saw")
        .into()
}
