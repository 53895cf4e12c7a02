use aegis_proto::admin::v1::{
    GetQueueRequest, GetQueueResponse, queue_service_server::QueueService,
};
use tonic::{Request, Response, Status};

use super::Fake;

#[tonic::async_trait]
impl QueueService for Fake {
    async fn get_queue(
        &self,
        request: Request<GetQueueRequest>,
    ) -> Result<Response<GetQueueResponse>, Status> {
        self.saw("GetQueue", &request);
        Ok(Response::new(Default::default()))
    }
}
