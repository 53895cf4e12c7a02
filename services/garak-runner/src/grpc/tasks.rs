//! The orchestrator's TaskService, as a runner uses it.

use std::time::{Duration, Instant};

use aegis_mesh::{Error, MeshChannel, Result, clock};
use aegis_proto::internal::task::v1::{self as pb, task_service_client::TaskServiceClient};

use super::{
    call,
    convert::{self, pb_event, pb_outcome, pb_progress},
};
use crate::domain::{
    allowance::Allowance,
    custom_probe::{CheckWork, CustomModule},
    ending::Ending,
    outbox::{RunEvent, RunProgress},
    probe_work::{ProbeWork, Refusal},
};

/// How long a long poll is held; the contract allows 30 s.
/// How long an answer may be held back.
pub(crate) const HOLD: Duration = Duration::from_secs(20);
const LONG_POLL: Duration = Duration::from_secs(30);
const SHORT_CALL: Duration = Duration::from_secs(10);
const PUBLISH: Duration = Duration::from_secs(30);
/// Most events in one report.
pub(crate) const EVENTS_PER_REPORT: usize = 100;

/// The right to write for one run of one task.
#[derive(Clone)]
pub(crate) struct Lease(pb::Lease);

impl Lease {
    pub(crate) fn task_id(&self) -> &str {
        &self.0.task_id
    }

    pub(crate) fn scan_id(&self) -> &str {
        &self.0.scan_id
    }

    pub(crate) fn epoch(&self) -> i64 {
        self.0.epoch
    }

    pub(super) fn message(&self) -> pb::Lease {
        self.0.clone()
    }
}

/// A lease that was just granted.
pub(crate) struct Leased {
    pub(crate) lease: Lease,
    pub(crate) ttl: Duration,
    /// When it was asked for.
    pub(crate) asked: Instant,
    pub(crate) work: Result<Work, Refusal>,
}

/// What a lease asks for.
pub(crate) enum Work {
    Probe(Box<ProbeWork>),
    Report(Vec<CustomModule>),
    Check(CheckWork),
}

/// One poll for work. Its repeat has the same `request_id`.
#[derive(Clone)]
pub(crate) struct Poll {
    pub(crate) runner_id: String,
    pub(crate) request_id: String,
    pub(crate) plugin_catalogue: String,
    pub(crate) slots: u32,
    /// How long it may wait for a task.
    pub(crate) hold: Duration,
}

/// What the orchestrator wants of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directive {
    Continue,
    Stop,
}

/// The answer to a heartbeat.
pub(crate) struct Renewal {
    pub(crate) ttl: Duration,
    pub(crate) directive: Directive,
    pub(crate) committed_sequence: i64,
}

#[derive(Clone)]
pub(crate) struct TaskClient(TaskServiceClient<MeshChannel>);

impl TaskClient {
    pub(crate) fn new(channel: MeshChannel) -> Self {
        Self(TaskServiceClient::new(channel))
    }

    pub(crate) async fn publish(
        &self,
        garak_version: &str,
        catalogue_json: &[u8],
        sha256: &str,
        allowance: &Allowance,
    ) -> Result<()> {
        let request = pb::PublishPluginCatalogueRequest {
            garak_version: garak_version.to_owned(),
            catalogue_json: catalogue_json.to_vec(),
            sha256: sha256.to_owned(),
            allowance: Some(pb_allowance(allowance)),
        };
        let mut client = self.0.clone();
        let rpc = client.publish_plugin_catalogue(request);
        call("publish-plugin-catalogue", PUBLISH, rpc).await?;
        Ok(())
    }

    /// Asks for a task; the answer may be held until there is one.
    pub(crate) async fn lease(&self, poll: &Poll) -> Result<Option<Leased>> {
        let asked = clock::now();
        let request = pb::LeaseTaskRequest {
            runner_id: poll.runner_id.clone(),
            request_id: poll.request_id.clone(),
            plugin_catalogue: poll.plugin_catalogue.clone(),
            slots: i32::try_from(poll.slots).unwrap_or(i32::MAX),
            wait: convert::pb_duration(poll.hold),
            ..pb::LeaseTaskRequest::default()
        };
        let mut client = self.0.clone();
        let answer = call("lease-task", LONG_POLL, client.lease_task(request)).await?;
        answer.task.map(|task| leased(task, asked)).transpose()
    }

    pub(crate) async fn report(
        &self,
        lease: &Lease,
        progress: RunProgress,
        events: Vec<(i64, RunEvent)>,
    ) -> Result<Renewal> {
        let request = pb::ReportTaskRequest {
            lease: Some(lease.message()),
            progress: Some(pb_progress(progress)),
            events: events.into_iter().map(pb_event).collect(),
        };
        let mut client = self.0.clone();
        let answer = call("report-task", SHORT_CALL, client.report_task(request)).await?;
        Ok(Renewal {
            directive: directive(answer.directive()),
            committed_sequence: answer.committed_source_sequence,
            ttl: ttl(answer.lease.as_ref())?,
        })
    }

    /// Holds the poll until the directive is no longer "continue", or its time is over.
    pub(crate) async fn await_directive(&self, lease: &Lease) -> Result<Directive> {
        let request = pb::AwaitDirectiveRequest {
            lease: Some(lease.message()),
            wait: convert::pb_duration(HOLD),
        };
        let mut client = self.0.clone();
        let answer = call(
            "await-directive",
            LONG_POLL,
            client.await_directive(request),
        )
        .await?;
        Ok(directive(answer.directive()))
    }

    pub(crate) async fn finish(
        &self,
        lease: &Lease,
        ending: &Ending,
        progress: RunProgress,
    ) -> Result<()> {
        let request = pb::FinishTaskRequest {
            lease: Some(lease.message()),
            outcome: Some(pb_outcome(ending)),
            progress: Some(pb_progress(progress)),
        };
        let mut client = self.0.clone();
        call("finish-task", SHORT_CALL, client.finish_task(request)).await?;
        Ok(())
    }
}

fn leased(task: pb::LeasedTask, asked: Instant) -> Result<Leased> {
    let lease = task
        .lease
        .ok_or_else(|| Error::internal("a leased task came without its lease"))?;
    let work = match task.work {
        Some(pb::leased_task::Work::Probe(probe)) => {
            convert::probe_work(probe).map(|work| Work::Probe(Box::new(work)))
        }
        Some(pb::leased_task::Work::Report(report)) => {
            convert::custom_modules(&report.custom_probes).map(Work::Report)
        }
        Some(pb::leased_task::Work::Check(check)) => convert::check_work(check).map(Work::Check),
        None => Err(Refusal::new(
            "UNKNOWN_WORK",
            "this runner does not know this kind of task",
        )),
    };
    Ok(Leased {
        ttl: ttl(Some(&lease))?,
        lease: Lease(lease),
        asked,
        work,
    })
}

fn ttl(lease: Option<&pb::Lease>) -> Result<Duration> {
    convert::duration(lease.and_then(|lease| lease.ttl))
        .ok_or_else(|| Error::internal("a lease came without its time to live"))
}

fn directive(directive: pb::Directive) -> Directive {
    match directive {
        pb::Directive::Stop => Directive::Stop,
        pb::Directive::Continue | pb::Directive::Unspecified => Directive::Continue,
    }
}

fn pb_allowance(allowance: &Allowance) -> pb::Allowance {
    let generators = allowance.generators.iter().map(|g| pb::AllowedGenerator {
        name: g.name.clone(),
        option_keys: g.options.iter().cloned().collect(),
    });
    pb::Allowance {
        generators: generators.collect(),
        secrets: allowance.secrets.iter().cloned().collect(),
    }
}
