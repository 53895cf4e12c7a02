//! TaskService and ArtifactService with a memory and a will of their own.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use aegis_mesh::Error;
use aegis_proto::internal::{
    artifact::v1::{
        self as art, artifact_service_server::ArtifactService, source_service_server::SourceService,
    },
    task::v1::{self as pb, task_service_server::TaskService},
};
use futures_util::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::eventually;

#[derive(Default)]
pub(crate) struct Fakes {
    pub(crate) published: Mutex<Vec<pb::PublishPluginCatalogueRequest>>,
    pub(crate) queue: Mutex<VecDeque<pb::LeasedTask>>,
    pub(crate) polls: Mutex<Vec<pb::LeaseTaskRequest>>,
    /// Tasks that were leased, and whose answers did not arrive: so many of them are lost.
    pub(crate) lost_answers: AtomicUsize,
    leased: Mutex<BTreeMap<String, pb::LeasedTask>>,
    /// So many polls are answered with UNAVAILABLE first.
    pub(crate) failing_polls: AtomicUsize,
    pub(crate) reports: Mutex<Vec<pb::ReportTaskRequest>>,
    pub(crate) finished: Mutex<Vec<pb::FinishTaskRequest>>,
    /// So many finishes are stored, and then not answered.
    pub(crate) unanswered_finishes: AtomicUsize,
    pub(crate) is_lost: AtomicBool,
    /// No heartbeat is answered.
    pub(crate) is_silent: AtomicBool,
    stop: watch::Sender<bool>,
    uploads: Mutex<BTreeMap<String, Vec<u8>>>,
    /// So many uploads are broken off after their first message.
    pub(crate) broken_uploads: AtomicUsize,
    /// Files of these names are not taken, and with which error.
    pub(crate) refused_uploads: Mutex<BTreeMap<&'static str, Error>>,
    /// How often one was not.
    pub(crate) refusals: AtomicUsize,
    pub(crate) skeleton: Mutex<Vec<u8>>,
    sources: Mutex<BTreeMap<String, Vec<u8>>>,
    /// So many reads of sources are not answered.
    pub(crate) failing_sources: AtomicUsize,
}

impl Fakes {
    pub(crate) fn push(&self, task: pb::LeasedTask) {
        self.queue.lock().unwrap().push_back(task);
    }

    /// Keeps a source and returns its checksum.
    pub(crate) fn keep_source(&self, source: &str) -> String {
        let sha256 = hex::encode(Sha256::digest(source));
        self.keep_source_as(&sha256, source);
        sha256
    }

    /// Keeps a source under a checksum that need not be its own.
    pub(crate) fn keep_source_as(&self, sha256: &str, source: &str) {
        let mut sources = self.sources.lock().unwrap();
        sources.insert(sha256.to_owned(), source.as_bytes().to_vec());
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// The content of an artifact whose upload is complete, and was verified.
    pub(crate) fn artifact(&self, name: &str) -> Vec<u8> {
        self.uploads.lock().unwrap()[name].clone()
    }

    /// What the next task uploads is another's.
    pub(crate) fn forget_uploads(&self) {
        self.uploads.lock().unwrap().clear();
    }

    pub(crate) async fn published(&self) -> pb::PublishPluginCatalogueRequest {
        eventually("a catalogue is published", async || {
            self.published.lock().unwrap().last().cloned()
        })
        .await
    }

    /// The n-th finish, from 0.
    pub(crate) async fn finish(&self, n: usize) -> pb::FinishTaskRequest {
        eventually("a task is finished", async || {
            self.finished.lock().unwrap().get(n).cloned()
        })
        .await
    }

    pub(crate) async fn outcome(&self, n: usize) -> (pb::Outcome, String) {
        let outcome = self.finish(n).await.outcome.unwrap();
        (outcome.outcome(), outcome.reason)
    }

    fn check(&self) -> Result<(), Status> {
        if self.is_lost.load(SeqCst) {
            return Err(Error::aborted("LEASE_LOST", "the lease is lost").into());
        }
        Ok(())
    }
}

fn unavailable() -> Status {
    Error::unavailable("DOWN", "not now", Duration::from_millis(10)).into()
}

fn takes_one(counter: &AtomicUsize) -> bool {
    counter
        .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
        .is_ok()
}

#[async_trait]
impl TaskService for Fakes {
    async fn publish_plugin_catalogue(
        &self,
        request: Request<pb::PublishPluginCatalogueRequest>,
    ) -> Result<Response<pb::PublishPluginCatalogueResponse>, Status> {
        let request = request.into_inner();
        assert_eq!(
            hex::encode(Sha256::digest(&request.catalogue_json)),
            request.sha256
        );
        self.published.lock().unwrap().push(request);
        Ok(Response::new(pb::PublishPluginCatalogueResponse {}))
    }

    async fn lease_task(
        &self,
        request: Request<pb::LeaseTaskRequest>,
    ) -> Result<Response<pb::LeaseTaskResponse>, Status> {
        let request = request.into_inner();
        let wait = request.wait.unwrap();
        assert!(wait.seconds <= 30);
        let id = request.request_id.clone();
        self.polls.lock().unwrap().push(request);
        if takes_one(&self.failing_polls) {
            return Err(unavailable());
        }
        let known = self.leased.lock().unwrap().get(&id).cloned();
        if known.is_some() {
            return Ok(Response::new(pb::LeaseTaskResponse { task: known }));
        }
        for _ in 0..wait.seconds.min(4) * 50 {
            let task = self.queue.lock().unwrap().pop_front();
            if let Some(task) = task {
                self.leased.lock().unwrap().insert(id, task.clone());
                if takes_one(&self.lost_answers) {
                    std::future::pending::<()>().await;
                }
                let task = Some(task);
                return Ok(Response::new(pb::LeaseTaskResponse { task }));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Response::new(pb::LeaseTaskResponse { task: None }))
    }

    async fn report_task(
        &self,
        request: Request<pb::ReportTaskRequest>,
    ) -> Result<Response<pb::ReportTaskResponse>, Status> {
        self.check()?;
        if self.is_silent.load(SeqCst) {
            return Err(unavailable());
        }
        let request = request.into_inner();
        let committed = request.events.last().map_or(0, |e| e.source_sequence);
        let lease = request.lease.clone();
        self.reports.lock().unwrap().push(request);
        Ok(Response::new(pb::ReportTaskResponse {
            lease,
            directive: pb::Directive::Continue.into(),
            committed_source_sequence: committed,
        }))
    }

    async fn await_directive(
        &self,
        _: Request<pb::AwaitDirectiveRequest>,
    ) -> Result<Response<pb::AwaitDirectiveResponse>, Status> {
        let mut stop = self.stop.subscribe();
        let stopped = tokio::time::timeout(Duration::from_secs(2), stop.wait_for(|stop| *stop));
        let directive = match stopped.await {
            Ok(_) => pb::Directive::Stop,
            Err(_) => pb::Directive::Continue,
        };
        self.check()?;
        Ok(Response::new(pb::AwaitDirectiveResponse {
            directive: directive.into(),
        }))
    }

    async fn finish_task(
        &self,
        request: Request<pb::FinishTaskRequest>,
    ) -> Result<Response<pb::FinishTaskResponse>, Status> {
        self.check()?;
        self.finished.lock().unwrap().push(request.into_inner());
        if takes_one(&self.unanswered_finishes) {
            return Err(unavailable());
        }
        Ok(Response::new(pb::FinishTaskResponse {}))
    }
}

#[async_trait]
impl ArtifactService for Fakes {
    type ReadSkeletonStream =
        Pin<Box<dyn Stream<Item = Result<art::ReadSkeletonResponse, Status>> + Send>>;

    async fn start_upload(
        &self,
        request: Request<art::StartUploadRequest>,
    ) -> Result<Response<art::StartUploadResponse>, Status> {
        self.check()?;
        let name = request.into_inner().name;
        if let Some(error) = self.refused_uploads.lock().unwrap().get(name.as_str()) {
            self.refusals.fetch_add(1, SeqCst);
            return Err(error.clone().into());
        }
        let mut uploads = self.uploads.lock().unwrap();
        let persisted = uploads.entry(name.clone()).or_default().len();
        Ok(Response::new(art::StartUploadResponse {
            upload: Some(upload(&name, persisted, false)),
        }))
    }

    async fn write_upload(
        &self,
        request: Request<Streaming<art::WriteUploadRequest>>,
    ) -> Result<Response<art::WriteUploadResponse>, Status> {
        let mut messages = request.into_inner();
        let mut name = String::new();
        while let Some(message) = messages.next().await {
            let message = message?;
            if name.is_empty() {
                name = message.upload_id.trim_start_matches("upload-").to_owned();
                assert!(message.lease.is_some());
            }
            assert_eq!(message.crc32c, Some(crc32c::crc32c(&message.data)));
            let mut uploads = self.uploads.lock().unwrap();
            let content = uploads.get_mut(&name).unwrap();
            if message.write_offset != content.len() as i64 {
                return Err(Error::out_of_range("WRITE_OFFSET", "not there").into());
            }
            content.extend_from_slice(&message.data);
            if takes_one(&self.broken_uploads) {
                content.truncate(content.len() / 2);
                return Err(unavailable());
            }
            if let Some(finish) = message.finish {
                assert_eq!(finish.sha256, hex::encode(Sha256::digest(&content)));
                assert_eq!(finish.size_bytes, content.len() as i64);
                let done = upload(&name, content.len(), true);
                return Ok(Response::new(art::WriteUploadResponse {
                    upload: Some(done),
                }));
            }
        }
        Err(unavailable())
    }

    async fn get_upload(
        &self,
        _: Request<art::GetUploadRequest>,
    ) -> Result<Response<art::GetUploadResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn abort_upload(
        &self,
        _: Request<art::AbortUploadRequest>,
    ) -> Result<Response<art::AbortUploadResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn read_skeleton(
        &self,
        _: Request<art::ReadSkeletonRequest>,
    ) -> Result<Response<Self::ReadSkeletonStream>, Status> {
        let skeleton = self.skeleton.lock().unwrap().clone();
        let parts: Vec<_> = skeleton
            .chunks(1000)
            .map(|part| {
                Ok(art::ReadSkeletonResponse {
                    data: part.to_vec().into(),
                })
            })
            .collect();
        Ok(Response::new(stream::iter(parts).boxed()))
    }

    async fn compose_report(
        &self,
        request: Request<art::ComposeReportRequest>,
    ) -> Result<Response<art::ComposeReportResponse>, Status> {
        assert_eq!(
            request.into_inner().digest_artifact_id,
            "artifact-digest.json"
        );
        Ok(Response::new(art::ComposeReportResponse {
            artifact_ids: vec!["artifact-composed".to_owned()],
        }))
    }
}

#[async_trait]
impl SourceService for Fakes {
    async fn put_source(
        &self,
        _: Request<art::PutSourceRequest>,
    ) -> Result<Response<art::PutSourceResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn get_source(
        &self,
        _: Request<art::GetSourceRequest>,
    ) -> Result<Response<art::GetSourceResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn read_task_source(
        &self,
        request: Request<art::ReadTaskSourceRequest>,
    ) -> Result<Response<art::ReadTaskSourceResponse>, Status> {
        self.check()?;
        let request = request.into_inner();
        assert_eq!(request.lease.unwrap().token, b"token");
        if takes_one(&self.failing_sources) {
            return Err(unavailable());
        }
        let sources = self.sources.lock().unwrap();
        match sources.get(&request.sha256) {
            Some(source) => Ok(Response::new(art::ReadTaskSourceResponse {
                source: source.clone(),
            })),
            None => Err(Error::not_found("source", &request.sha256).into()),
        }
    }
}

fn upload(name: &str, persisted: usize, complete: bool) -> art::Upload {
    art::Upload {
        upload_id: format!("upload-{name}"),
        artifact_id: format!("artifact-{name}"),
        persisted_size: persisted as i64,
        complete,
        expire_time: None,
    }
}
