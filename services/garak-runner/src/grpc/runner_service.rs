//! RunnerService: for whoever operates this runner.

use std::sync::Arc;

use aegis_proto::internal::runner::v1::{
    DrainRequest, DrainResponse, GetStatusRequest, GetStatusResponse, RunningTask,
    get_status_response::State, runner_service_server::RunnerService,
};
use tonic::{Request, Response, Status, async_trait};

use crate::work::{Runner, RunnerState};

/// The service over a running runner.
pub(crate) struct RunnerApi(Arc<Runner>);

impl RunnerApi {
    pub(crate) fn new(runner: Arc<Runner>) -> Self {
        Self(runner)
    }
}

#[async_trait]
impl RunnerService for RunnerApi {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let runner = &self.0;
        let (state, message) = match runner.state() {
            RunnerState::Warming(message) => (State::Warming, message),
            RunnerState::Ready => (State::Ready, String::new()),
            RunnerState::Full(message) => (State::Full, message),
            RunnerState::Draining => (State::Draining, String::new()),
            RunnerState::Broken(message) => (State::Broken, message),
        };
        let published = runner.published();
        let tasks = runner.board().list().into_iter().map(|task| RunningTask {
            task_id: task.task_id,
            scan_id: task.scan_id,
            epoch: task.epoch,
            process_id: i64::from(task.process_id),
        });
        Ok(Response::new(GetStatusResponse {
            runner_id: runner.id().to_owned(),
            state: state.into(),
            garak_version: published
                .as_ref()
                .map(|p| p.garak_version().to_owned())
                .unwrap_or_default(),
            plugin_catalogue: published.map(|p| p.sha256.clone()).unwrap_or_default(),
            slots: i32::try_from(runner.slots()).unwrap_or(i32::MAX),
            tasks: tasks.collect(),
            message,
        }))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        self.0.drain();
        Ok(Response::new(DrainResponse {}))
    }
}
