use std::{pin::Pin, sync::atomic::Ordering, time::Duration};

use aegis_mesh::Error;
use aegis_proto::{
    internal::task::v1::{self as task, task_service_server::TaskService},
    scan::v1::{
        CancelScanRequest, CancelScanResponse, CreateScanRequest, CreateScanResponse,
        PauseScanRequest, PauseScanResponse, PlanScanRequest, PlanScanResponse, Progress,
        ResumeScanRequest, ResumeScanResponse, RetryScanRequest, RetryScanResponse, Scan,
        ScanEvent, Waiting, WatchScanHeartbeat, WatchScanRequest, WatchScanResponse,
        scan_event::Kind, scan_service_server::ScanService, watch_scan_response::Update,
    },
};
use futures_util::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};

use super::{Fake, OnDrop};

type Watch = Pin<Box<dyn Stream<Item = Result<WatchScanResponse, Status>> + Send>>;

/// So large that a few dozen fill a socket.
const LARGE: usize = 16 << 10;

#[tonic::async_trait]
impl ScanService for Fake {
    async fn create_scan(
        &self,
        request: Request<CreateScanRequest>,
    ) -> Result<Response<CreateScanResponse>, Status> {
        self.saw("CreateScan", &request);
        Ok(Response::new(CreateScanResponse {
            scan: Some(Scan {
                scan_id: "created".into(),
                ..Scan::default()
            }),
        }))
    }

    async fn plan_scan(
        &self,
        request: Request<PlanScanRequest>,
    ) -> Result<Response<PlanScanResponse>, Status> {
        self.saw("PlanScan", &request);
        Ok(Response::new(Default::default()))
    }

    async fn cancel_scan(
        &self,
        request: Request<CancelScanRequest>,
    ) -> Result<Response<CancelScanResponse>, Status> {
        self.saw("CancelScan", &request);
        Ok(Response::new(Default::default()))
    }

    async fn pause_scan(
        &self,
        request: Request<PauseScanRequest>,
    ) -> Result<Response<PauseScanResponse>, Status> {
        self.saw("PauseScan", &request);
        Ok(Response::new(Default::default()))
    }

    async fn resume_scan(
        &self,
        request: Request<ResumeScanRequest>,
    ) -> Result<Response<ResumeScanResponse>, Status> {
        self.saw("ResumeScan", &request);
        Ok(Response::new(Default::default()))
    }

    async fn retry_scan(
        &self,
        request: Request<RetryScanRequest>,
    ) -> Result<Response<RetryScanResponse>, Status> {
        self.saw("RetryScan", &request);
        Ok(Response::new(Default::default()))
    }

    type WatchScanStream = Watch;

    async fn watch_scan(
        &self,
        request: Request<WatchScanRequest>,
    ) -> Result<Response<Watch>, Status> {
        self.saw("WatchScan", &request);
        let WatchScanRequest {
            scan_id,
            after_sequence,
        } = request.into_inner();
        let snapshot = update(Update::Snapshot(Scan {
            scan_id: scan_id.clone(),
            ..Scan::default()
        }));
        let missing = || Status::from(Error::not_found("scan", "missing"));
        let watch: Watch = match scan_id.as_str() {
            "missing" => return Err(missing()),
            "missing-late" => Box::pin(stream::iter([Err(missing())])),
            "empty" => Box::pin(stream::empty()),
            "silent" => Box::pin(stream::pending()),
            "quiet" => {
                Box::pin(self.guarded(stream::iter([Ok(snapshot)]).chain(stream::pending())))
            }
            "endless" => {
                let produced = self.produced.clone();
                let events = stream::iter(1..).map(move |sequence| {
                    produced.fetch_add(1, Ordering::SeqCst);
                    Ok(event(sequence, LARGE))
                });
                Box::pin(self.guarded(events))
            }
            "breaks" => {
                let error = Error::unavailable("DRAINING", "come back", Duration::from_secs(1));
                Box::pin(stream::iter([Ok(snapshot), Err(error.into())]))
            }
            _ => {
                let events = (after_sequence + 1..=3).map(|sequence| event(sequence, 1));
                let progress = update(Update::Progress(Progress::default()));
                let heartbeat = update(Update::Heartbeat(WatchScanHeartbeat { last_sequence: 3 }));
                let all = [snapshot]
                    .into_iter()
                    .chain(events)
                    .chain([progress, heartbeat]);
                Box::pin(stream::iter(all.map(Ok).collect::<Vec<_>>()))
            }
        };
        Ok(Response::new(watch))
    }
}

impl Fake {
    /// Notes when the stream is dropped before its end.
    fn guarded<S>(&self, stream: S) -> impl Stream<Item = S::Item> + use<S>
    where
        S: Stream,
    {
        let dropped = OnDrop::set(&self.dropped);
        stream.inspect(move |_| {
            let _held = &dropped;
        })
    }
}

fn update(update: Update) -> WatchScanResponse {
    WatchScanResponse {
        update: Some(update),
    }
}

fn event(sequence: i64, size: usize) -> WatchScanResponse {
    update(Update::Event(ScanEvent {
        sequence,
        kind: Some(Kind::Waiting(Waiting {
            reason: "x".repeat(size),
        })),
        ..ScanEvent::default()
    }))
}

/// An internal service, mounted beside the public ones as it really is. Nobody outside may get its answer.
pub(super) struct Internal;

fn reached<T>() -> Result<Response<T>, Status> {
    Err(Status::data_loss(
        "an internal method was reached from outside",
    ))
}

#[tonic::async_trait]
impl TaskService for Internal {
    async fn publish_plugin_catalogue(
        &self,
        _: Request<task::PublishPluginCatalogueRequest>,
    ) -> Result<Response<task::PublishPluginCatalogueResponse>, Status> {
        reached()
    }

    async fn lease_task(
        &self,
        _: Request<task::LeaseTaskRequest>,
    ) -> Result<Response<task::LeaseTaskResponse>, Status> {
        reached()
    }

    async fn report_task(
        &self,
        _: Request<task::ReportTaskRequest>,
    ) -> Result<Response<task::ReportTaskResponse>, Status> {
        reached()
    }

    async fn await_directive(
        &self,
        _: Request<task::AwaitDirectiveRequest>,
    ) -> Result<Response<task::AwaitDirectiveResponse>, Status> {
        reached()
    }

    async fn finish_task(
        &self,
        _: Request<task::FinishTaskRequest>,
    ) -> Result<Response<task::FinishTaskResponse>, Status> {
        reached()
    }
}
