//! QueueService: how much there is to do.

use aegis_mesh::principal_of;
use aegis_proto::admin::v1::{self as proto, queue_service_server::QueueService};
use tonic::{Request, Response, Status};

use super::check;
use crate::store::Store;

/// Most slots of all runners together.
const MAX_SLOTS: i32 = 10_000;

/// QueueService on a store.
pub(crate) struct Queue {
    pub(crate) store: Store,
}

#[tonic::async_trait]
impl QueueService for Queue {
    async fn get_queue(
        &self,
        request: Request<proto::GetQueueRequest>,
    ) -> Result<Response<proto::GetQueueResponse>, Status> {
        let project = principal_of(&request)?.project;
        let slots = check::within("slots", request.get_ref().slots, 0..=MAX_SLOTS)?;
        let depth = self.store.queue_depth(&project, slots).await?;
        Ok(Response::new(proto::GetQueueResponse {
            waiting: depth.waiting,
            running: depth.running,
            tasks: depth.tasks(),
        }))
    }
}
