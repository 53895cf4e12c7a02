//! QueueService: the numbers, and what cannot be asked.

use aegis_proto::admin::v1::{
    GetQueueRequest, GetQueueResponse, queue_service_client::QueueServiceClient,
};

use super::{Catalog, as_local, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_told_in_numbers() {
    let (catalog, _running) = Catalog::start().await;
    as_local(numbers(&catalog)).await;
}

async fn numbers(catalog: &Catalog) {
    let mut queue = QueueServiceClient::new(catalog.channel.clone());
    let nothing = queue.get_queue(GetQueueRequest::default()).await.unwrap();
    assert_eq!(nothing.into_inner(), GetQueueResponse::default());
    catalog.create(3).await;
    let waits = GetQueueResponse {
        waiting: 2,
        running: 0,
        tasks: 2,
    };
    let two = GetQueueRequest { slots: 2 };
    let told = queue.get_queue(two).await.unwrap().into_inner();
    assert_eq!(told, waits);
    catalog.lease().await.unwrap();
    // It had one slot, and got all calls of its scan.
    let told = queue.get_queue(two).await.unwrap().into_inner();
    assert_eq!((told.waiting, told.running, told.tasks), (0, 1, 1));
    for slots in [-1, 10_001] {
        let refusal = refused(queue.get_queue(GetQueueRequest { slots }).await);
        assert_eq!(refusal.1, ["slots"]);
    }
}
