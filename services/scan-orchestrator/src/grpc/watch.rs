//! A watch of one scan: catalog's stream, kept alive and honest. It breathes every few seconds, it
//! survives one break of its upstream without losing or repeating an event, and it ends at once
//! when this process is to stop.

use std::{pin::Pin, time::Duration};

use aegis_mesh::{CallContext, Code, Error, MeshChannel, Result, Shutdown, with_context};
use aegis_proto::{
    internal::catalog::v1::{
        self as store, scan_store_service_client::ScanStoreServiceClient,
        watch_scan_response::Update as Upstream,
    },
    scan::v1::{
        WatchScanHeartbeat, WatchScanRequest, WatchScanResponse, watch_scan_response::Update,
    },
};
use futures_util::{Stream, stream};
use tokio::time::sleep;
use tonic::{Status, Streaming};

/// How soon a watcher may come back.
const COME_BACK: Duration = Duration::from_secs(1);

/// What a watcher gets. It is pulled: a watcher that never reads holds one message here, not a
/// growing queue.
pub(crate) type WatchStream =
    Pin<Box<dyn Stream<Item = std::result::Result<WatchScanResponse, Status>> + Send>>;

pub(super) struct Watcher {
    store: ScanStoreServiceClient<MeshChannel>,
    upstream: Streaming<store::WatchScanResponse>,
    scan_id: String,
    /// The last event that was passed on.
    last_sequence: i64,
    has_snapshot: bool,
    may_reconnect: bool,
    context: CallContext,
    heartbeat: Duration,
    shutdown: Shutdown,
}

impl Watcher {
    /// Connects; what catalog has against it is the answer of the call.
    pub(super) async fn begin(
        store: ScanStoreServiceClient<MeshChannel>,
        request: WatchScanRequest,
        context: CallContext,
        heartbeat: Duration,
        shutdown: Shutdown,
    ) -> Result<Self> {
        if shutdown.is_triggered() {
            return Err(draining());
        }
        let upstream = connect(
            &store,
            &context,
            request.scan_id.clone(),
            request.after_sequence,
        )
        .await?;
        Ok(Self {
            store,
            upstream,
            scan_id: request.scan_id,
            last_sequence: request.after_sequence,
            has_snapshot: false,
            may_reconnect: true,
            context,
            heartbeat,
            shutdown,
        })
    }

    pub(super) fn into_stream(self) -> WatchStream {
        Box::pin(stream::unfold(Some(self), |watcher| async {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(Some(update)) => Some((Ok(response(update)), Some(watcher))),
                Ok(None) => None,
                Err(error) => Some((Err(error.into()), None)),
            }
        }))
    }

    async fn next(&mut self) -> Result<Option<Update>> {
        loop {
            let item = tokio::select! {
                biased;
                () = self.shutdown.triggered() => return Err(draining()),
                item = self.upstream.message() => item,
                () = sleep(self.heartbeat) => return Ok(Some(self.heartbeat())),
            };
            match item {
                Ok(None) => return Ok(None),
                Ok(Some(message)) => {
                    if let Some(update) = self.pass(message.update) {
                        return Ok(Some(update));
                    }
                }
                Err(status) => self.reconnect(status.into()).await?,
            }
        }
    }

    fn heartbeat(&self) -> Update {
        Update::Heartbeat(WatchScanHeartbeat {
            last_sequence: self.last_sequence,
        })
    }

    /// What the watcher has not had yet.
    fn pass(&mut self, update: Option<Upstream>) -> Option<Update> {
        match update? {
            // A new upstream begins with a snapshot again; a watch has one, first.
            Upstream::Snapshot(_) if self.has_snapshot => None,
            Upstream::Snapshot(scan) => {
                self.has_snapshot = true;
                Some(Update::Snapshot(scan))
            }
            Upstream::Event(event) if event.sequence <= self.last_sequence => None,
            Upstream::Event(event) => {
                self.last_sequence = event.sequence;
                self.may_reconnect = true;
                Some(Update::Event(event))
            }
            Upstream::Progress(progress) => Some(Update::Progress(progress)),
        }
    }

    async fn reconnect(&mut self, broken: Error) -> Result<()> {
        if !is_break(&broken) {
            return Err(broken);
        }
        tracing::info!(scan_id = %self.scan_id, reason = broken.reason(), "a watch lost its upstream");
        if !std::mem::take(&mut self.may_reconnect) {
            return Err(interrupted());
        }
        let connecting = connect(
            &self.store,
            &self.context,
            self.scan_id.clone(),
            self.last_sequence,
        );
        let connected = self.shutdown.until(connecting).await.ok_or_else(draining)?;
        self.upstream = connected.map_err(|error| match is_break(&error) {
            true => interrupted(),
            false => error,
        })?;
        Ok(())
    }
}

async fn connect(
    store: &ScanStoreServiceClient<MeshChannel>,
    context: &CallContext,
    scan_id: String,
    after_sequence: i64,
) -> Result<Streaming<store::WatchScanResponse>> {
    let request = store::WatchScanRequest {
        scan_id,
        after_sequence,
    };
    let mut store = store.clone();
    let answer = with_context(context.clone(), store.watch_scan(request)).await?;
    Ok(answer.into_inner())
}

/// Whether the connection is at fault, and not the watch.
fn is_break(error: &Error) -> bool {
    matches!(
        error.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
    )
}

fn draining() -> Error {
    Error::unavailable("DRAINING", "the service is stopping", COME_BACK)
        .hint("watch again after the last sequence seen")
}

fn interrupted() -> Error {
    Error::unavailable(
        "WATCH_INTERRUPTED",
        "the watch lost its upstream",
        COME_BACK,
    )
    .hint("watch again after the last sequence seen")
}

fn response(update: Update) -> WatchScanResponse {
    WatchScanResponse {
        update: Some(update),
    }
}
