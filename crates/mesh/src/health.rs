//! `grpc.health.v1`, starting NOT_SERVING: tonic-health's own reporter starts `""` as SERVING,
//! which would let traffic in before the first migration ran.

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{self, HealthServer},
};

use crate::Error;

/// The name whose health is that of the process alone: SERVING as long as it answers, whatever the
/// services' health follows. For probes that end a process: a restart helps no database.
pub const LIVENESS: &str = "liveness";

/// Whether the server takes calls; clones share it. All services of one server rise and fall
/// together, and `""` with them.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<State>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    NotServing,
    Serving,
    /// The server stops: watches end.
    Ended,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State::NotServing))
    }

    /// Lets traffic in.
    pub fn set_serving(&self) {
        self.set(State::Serving);
    }

    /// Keeps traffic away.
    pub fn set_not_serving(&self) {
        self.set(State::NotServing);
    }

    /// Whether traffic is let in.
    pub fn is_serving(&self) -> bool {
        *self.0.borrow() == State::Serving
    }

    /// For good: nothing serves after this, and watches end.
    pub(crate) fn end(&self) {
        self.set(State::Ended);
    }

    fn set(&self, state: State) {
        self.0.send_if_modified(|now| {
            let changes = *now != state && *now != State::Ended;
            if changes {
                *now = state;
            }
            changes
        });
    }

    pub(crate) fn service(
        &self,
        names: impl IntoIterator<Item = &'static str>,
    ) -> HealthServer<impl health_server::Health> {
        let names = Arc::new(names.into_iter().chain([""]).collect());
        let health = self.clone();
        HealthServer::new(Service { names, health })
    }
}

struct Service {
    names: Arc<BTreeSet<&'static str>>,
    health: Health,
}

impl Service {
    /// How to answer to the name that is asked for.
    fn asked(&self, request: &Request<HealthCheckRequest>) -> Result<Asked, Error> {
        match request.get_ref().service.as_str() {
            LIVENESS => Ok(Asked::Process),
            name if self.names.contains(name) => Ok(Asked::Services),
            name => Err(Error::not_found("service", name)),
        }
    }
}

/// Whose health is asked for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Process,
    Services,
}

fn response(asked: Asked, state: State) -> HealthCheckResponse {
    let status = match (asked, state) {
        (Asked::Process, _) | (Asked::Services, State::Serving) => ServingStatus::Serving,
        (Asked::Services, State::NotServing | State::Ended) => ServingStatus::NotServing,
    };
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl health_server::Health for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let asked = self.asked(&request)?;
        Ok(Response::new(response(asked, *self.health.0.borrow())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let asked = self.asked(&request)?;
        let mut states = self.health.0.subscribe();
        // The first answer is the state as it is.
        states.mark_changed();
        let states = stream::unfold(Some(states), move |states| async move {
            let mut states = states?;
            states.changed().await.ok()?;
            let state = *states.borrow_and_update();
            let goes_on = state != State::Ended;
            Some((Ok(response(asked, state)), goes_on.then_some(states)))
        });
        Ok(Response::new(Box::pin(states)))
    }
}
