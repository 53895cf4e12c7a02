//! WatchScan as a stream. Nothing is read ahead: a watcher that never reads costs nothing.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use aegis_mesh::{Error, Result, Shutdown};
use aegis_proto::{
    ids::ScanId,
    internal::catalog::v1::{WatchScanResponse, watch_scan_response::Update as ProtoUpdate},
    scan::v1::Scan,
};
use futures_util::stream::{self, Stream};
use tonic::Status;

use super::{events, view};
use crate::store::{ScanWatch, Update};

/// What WatchScan answers with.
pub(crate) type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchScanResponse, Status>> + Send>>;

struct State {
    id: ScanId,
    ready: VecDeque<ProtoUpdate>,
    watch: ScanWatch,
    shutdown: Shutdown,
}

/// The snapshot, then what the watch tells, until the scan has ended or this process stops.
pub(crate) fn stream(
    id: ScanId,
    snapshot: Scan,
    watch: ScanWatch,
    shutdown: Shutdown,
) -> WatchStream {
    let state = State {
        id,
        ready: VecDeque::from([ProtoUpdate::Snapshot(snapshot)]),
        watch,
        shutdown,
    };
    Box::pin(stream::try_unfold(state, |mut state| async move {
        let update = state.next().await?;
        Ok(update.map(|update| {
            let answer = WatchScanResponse {
                update: Some(update),
            };
            (answer, state)
        }))
    }))
}

impl State {
    async fn next(&mut self) -> Result<Option<ProtoUpdate>> {
        while self.ready.is_empty() {
            let next = self.shutdown.until(self.watch.next()).await;
            match next.ok_or_else(draining)?? {
                None => return Ok(None),
                Some(update) => self.ready.extend(updates(self.id, update)),
            }
        }
        Ok(self.ready.pop_front())
    }
}

fn updates(id: ScanId, update: Update) -> Vec<ProtoUpdate> {
    match update {
        Update::Events(logged) => logged
            .into_iter()
            .map(|logged| ProtoUpdate::Event(events::event(id, logged)))
            .collect(),
        Update::Progress(found) => vec![ProtoUpdate::Progress(view::progress(&found))],
    }
}

fn draining() -> Error {
    Error::unavailable(
        "DRAINING",
        "the catalog is stopping; watch again after the last sequence seen",
        Duration::from_secs(1),
    )
}
