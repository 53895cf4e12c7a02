//! What jobs call, with what it was asked and what it is to say.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aegis_mesh::{
    CallContext, Error, MeshChannel, MeshServer, Principal, ServerConfig, Shutdown, sized,
    with_context,
};
use aegis_proto::{
    admin::v1::{JobRun, RunJobRequest, job_service_client::JobServiceClient},
    internal::{
        artifact::v1::{
            self as objects, object_service_server::ObjectService,
            object_service_server::ObjectServiceServer,
        },
        catalog::v1::{
            self as pb, store_keeping_service_server::StoreKeepingService,
            store_keeping_service_server::StoreKeepingServiceServer,
        },
    },
};
use aegis_scan_orchestrator::{Config, Deps, start};
use tonic::{Request, Response, Status, service::Routes};

type Reply<T> = Result<Response<T>, Status>;

/// What they were asked, and what they are to say.
#[derive(Default)]
pub(crate) struct Seen {
    /// In order, of both.
    pub(crate) calls: Vec<String>,
    pub(crate) swept: Vec<pb::SweepRequest>,
    pub(crate) ended: Vec<pb::EndJobRequest>,
    /// Another replica has every job.
    pub(crate) running: bool,
    /// Jobs are due.
    pub(crate) due: bool,
    /// A sweep hangs.
    pub(crate) hang: bool,
    pub(crate) garbage: Vec<pb::GarbageObject>,
    pub(crate) listed: Vec<objects::ListedObject>,
    pub(crate) orphans: Vec<pb::Orphan>,
    pub(crate) committed: Vec<pb::CommittedObject>,
    pub(crate) faults: Vec<objects::ObjectFault>,
    pub(crate) store_error: Option<Error>,
    /// Objects that the store does not delete.
    pub(crate) undeletable: Vec<String>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<Seen>>);

impl Fake {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("not poisoned")
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.seen().calls.clone()
    }

    pub(crate) fn routes(&self) -> Routes {
        let config = ServerConfig::on_port(0);
        MeshServer::builder("fake", &config)
            .descriptors(aegis_proto::FILE_DESCRIPTOR_SET)
            .add_service(sized!(
                StoreKeepingServiceServer::new(self.clone()),
                &config
            ))
            .add_service(sized!(ObjectServiceServer::new(self.clone()), &config))
            .into_routes()
            .expect("routes")
    }
}

#[tonic::async_trait]
impl StoreKeepingService for Fake {
    async fn list_job_states(
        &self,
        _: Request<pb::ListJobStatesRequest>,
    ) -> Reply<pb::ListJobStatesResponse> {
        let ended = self.seen().ended.clone();
        let jobs = ended.into_iter().map(|end| pb::JobState {
            name: end.name,
            last_run: end.run,
            ..pb::JobState::default()
        });
        let jobs = jobs.collect();
        Ok(Response::new(pb::ListJobStatesResponse { jobs }))
    }

    async fn claim_job(
        &self,
        request: Request<pb::ClaimJobRequest>,
    ) -> Reply<pb::ClaimJobResponse> {
        let (mut seen, request) = (self.seen(), request.into_inner());
        let due = !request.when_due || (seen.due && request.name == "purge");
        if due {
            seen.calls.push(format!("claim {}", request.name));
        }
        Ok(Response::new(pb::ClaimJobResponse {
            claimed: due && !seen.running,
            running: seen.running,
            wait: Some(prost_types::Duration {
                seconds: 3_600,
                nanos: 0,
            }),
            position: "there".to_owned(),
        }))
    }

    async fn renew_job(&self, _: Request<pb::RenewJobRequest>) -> Reply<pb::RenewJobResponse> {
        Ok(Response::new(pb::RenewJobResponse {}))
    }

    async fn end_job(&self, request: Request<pb::EndJobRequest>) -> Reply<pb::EndJobResponse> {
        let (mut seen, request) = (self.seen(), request.into_inner());
        seen.calls.push(format!("end {}", request.name));
        seen.ended.push(request);
        Ok(Response::new(pb::EndJobResponse {}))
    }

    async fn sweep(&self, request: Request<pb::SweepRequest>) -> Reply<pb::SweepResponse> {
        let request = request.into_inner();
        let hang = {
            let mut seen = self.seen();
            seen.calls.push(request.kind().as_str_name().to_owned());
            seen.swept.push(request.clone());
            seen.hang
        };
        if hang {
            std::future::pending::<()>().await;
        }
        // Two steps each.
        let next = if request.after.is_empty() { "2" } else { "" };
        Ok(Response::new(pb::SweepResponse {
            next: next.to_owned(),
            counts: [("marked".to_owned(), 1)].into(),
            details: vec!["mark x".to_owned(); 60],
        }))
    }

    async fn list_garbage(
        &self,
        _: Request<pb::ListGarbageRequest>,
    ) -> Reply<pb::ListGarbageResponse> {
        let objects = self.seen().garbage.clone();
        Ok(Response::new(pb::ListGarbageResponse {
            objects,
            next: String::new(),
        }))
    }

    async fn forget_garbage(
        &self,
        request: Request<pb::ForgetGarbageRequest>,
    ) -> Reply<pb::ForgetGarbageResponse> {
        let keys = request.into_inner().object_keys.join(" ");
        self.seen().calls.push(format!("forget {keys}"));
        Ok(Response::new(pb::ForgetGarbageResponse { forgotten: 1 }))
    }

    async fn find_orphans(
        &self,
        _: Request<pb::FindOrphansRequest>,
    ) -> Reply<pb::FindOrphansResponse> {
        let orphans = self.seen().orphans.clone();
        Ok(Response::new(pb::FindOrphansResponse { orphans }))
    }

    async fn list_committed(
        &self,
        request: Request<pb::ListCommittedRequest>,
    ) -> Reply<pb::ListCommittedResponse> {
        let after = request.into_inner().after;
        let objects = match after.as_str() {
            "end" => Vec::new(),
            _ => self.seen().committed.clone(),
        };
        Ok(Response::new(pb::ListCommittedResponse {
            objects,
            last: "end".to_owned(),
            more: false,
        }))
    }
}

#[tonic::async_trait]
impl ObjectService for Fake {
    async fn delete_objects(
        &self,
        request: Request<objects::DeleteObjectsRequest>,
    ) -> Reply<objects::DeleteObjectsResponse> {
        let keys = request.into_inner().object_keys.join(" ");
        let mut seen = self.seen();
        seen.calls.push(format!("delete {keys}"));
        match &seen.store_error {
            Some(error) => Err(error.clone().into()),
            None => Ok(Response::new(objects::DeleteObjectsResponse {
                failed_keys: seen.undeletable.clone(),
            })),
        }
    }

    async fn list_objects(
        &self,
        _: Request<objects::ListObjectsRequest>,
    ) -> Reply<objects::ListObjectsResponse> {
        let objects = self.seen().listed.clone();
        Ok(Response::new(objects::ListObjectsResponse {
            objects,
            more: false,
        }))
    }

    async fn check_objects(
        &self,
        request: Request<objects::CheckObjectsRequest>,
    ) -> Reply<objects::CheckObjectsResponse> {
        let read = request.into_inner().read;
        let mut seen = self.seen();
        seen.calls.push(format!("check {read}"));
        let faults = seen.faults.iter().copied_if(read);
        Ok(Response::new(objects::CheckObjectsResponse { faults }))
    }
}

/// Those that only reading finds are found only then.
trait CopiedIf {
    fn copied_if(self, read: bool) -> Vec<objects::ObjectFault>;
}

impl<'a, I: Iterator<Item = &'a objects::ObjectFault>> CopiedIf for I {
    fn copied_if(self, read: bool) -> Vec<objects::ObjectFault> {
        let found =
            |fault: &&objects::ObjectFault| read || fault.kind() != objects::FaultKind::Sha256;
        self.filter(found).cloned().collect()
    }
}

pub(crate) struct Jobs {
    pub(crate) fake: Fake,
    pub(crate) running: aegis_scan_orchestrator::Running,
    pub(crate) shutdown: Shutdown,
}

impl Jobs {
    pub(crate) async fn start(
        change: impl FnOnce(&mut Config),
        prepare: impl FnOnce(&mut Seen),
    ) -> Self {
        let fake = Fake::default();
        prepare(&mut fake.seen());
        let mut config = Config::default();
        change(&mut config);
        let shutdown = Shutdown::new();
        let channel = || MeshChannel::local(fake.routes());
        let deps = Deps::new(channel(), channel());
        let running = start(config, deps, shutdown.clone()).await.expect("starts");
        Self {
            fake,
            running,
            shutdown,
        }
    }

    pub(crate) fn client(&self) -> JobServiceClient<MeshChannel> {
        JobServiceClient::new(MeshChannel::local(self.running.routes()))
    }

    pub(crate) async fn run(&self, name: &str, dry_run: bool) -> Result<JobRun, Error> {
        let request = RunJobRequest {
            name: name.to_owned(),
            dry_run,
        };
        let mut client = self.client();
        let context = CallContext::new(Principal::local());
        let answer = with_context(context, client.run_job(request)).await?;
        Ok(answer.into_inner().run.expect("a run"))
    }

    /// Waits until such a call was made.
    pub(crate) async fn called(&self, what: &str) {
        let waiting = async {
            while !self.fake.calls().iter().any(|call| call == what) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        waited.unwrap_or_else(|_| panic!("not in time: {what}"));
    }
}

pub(crate) fn number(run: &JobRun, what: &str) -> f64 {
    let fields = &run.result.as_ref().expect("a result").fields;
    match fields.get(what).and_then(|value| value.kind.as_ref()) {
        Some(prost_types::value::Kind::NumberValue(number)) => *number,
        _ => 0.0,
    }
}

pub(crate) fn garbage(key: &str) -> pb::GarbageObject {
    pb::GarbageObject {
        object_key: key.to_owned(),
        size_bytes: 7,
    }
}
