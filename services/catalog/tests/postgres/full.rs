//! A disk that is full, really: the tables' own is small, and somebody fills it.

use aegis_proto::internal::task::v1::Lease;

use super::*;

/// What is asked of a catalog here.
struct Catalog {
    scans: ScanStoreServiceClient<MeshChannel>,
    tasks: TaskQueueServiceClient<MeshChannel>,
    history: HistoryServiceClient<MeshChannel>,
    _running: aegis_catalog::Running,
}

impl Catalog {
    async fn start(url: String) -> Self {
        let config = Config {
            database_url: Some(Secret::new(url)),
            ..Config::default()
        };
        let running = aegis_catalog::start(config, Deps::default(), Shutdown::new());
        let running = running.await.unwrap();
        let channel = MeshChannel::local(running.routes());
        Self {
            scans: ScanStoreServiceClient::new(channel.clone()),
            tasks: TaskQueueServiceClient::new(channel.clone()),
            history: HistoryServiceClient::new(channel),
            _running: running,
        }
    }

    async fn create(&self, request: &catalog::CreateScanRequest) -> Result<String, Error> {
        let made = self.scans.clone().create_scan(request.clone()).await?;
        Ok(made.into_inner().scan.unwrap().scan_id)
    }

    /// Why a scan waits.
    async fn waits_for(&self, scan_id: &str) -> String {
        let get = scan::GetScanRequest {
            scan_id: scan_id.to_owned(),
        };
        let scan = self.history.clone().get_scan(get).await.unwrap();
        scan.into_inner().scan.unwrap().waiting_reason
    }

    async fn number_of_scans(&self) -> usize {
        let list = scan::ListScansRequest {
            include_total_size: true,
            ..scan::ListScansRequest::default()
        };
        let listed = self.history.clone().list_scans(list).await.unwrap();
        usize::try_from(listed.into_inner().total_size.unwrap()).unwrap()
    }

    async fn lease(&self) -> Result<Option<Lease>, Error> {
        let leased = self.tasks.clone().lease_task(poll()).await?.into_inner();
        Ok(leased.task.and_then(|task| task.lease))
    }
}

/// A scan that takes some room.
fn large() -> catalog::CreateScanRequest {
    let label = |number| (format!("label-{number}"), "x".repeat(60));
    catalog::CreateScanRequest {
        labels: (0..40).map(label).collect(),
        // Of a target of its own, so that it waits for no other.
        lane: Some(catalog::Lane {
            key: uuid::Uuid::new_v4().to_string(),
            max_in_flight: 64,
        }),
        ..create_once()
    }
}

/// More than what the tables have free.
const MOST: usize = 5_000;
/// Scans that wait: more than can be leased then.
const WAITING: usize = 200;

/// Leases until nothing can be leased: how much was.
async fn until_no_lease(catalog: &Catalog) -> usize {
    for leased in 0..WAITING {
        if let Err(refused) = catalog.lease().await {
            assert_eq!(refused.reason(), "DATABASE_FULL", "{refused}");
            return leased;
        }
    }
    panic!("the disk is not full");
}

/// Makes scans until none can be made: how many were, and the request that was refused.
async fn until_refused(catalog: &Catalog) -> (usize, catalog::CreateScanRequest) {
    for made in 0..MOST {
        let request = large();
        if let Err(refused) = catalog.create(&request).await {
            assert_eq!(refused.reason(), "DATABASE_FULL", "{refused}");
            assert!(refused.is_retryable());
            assert!(refused.message().contains("no room"), "{refused}");
            return (made, request);
        }
    }
    panic!("the disk is not full");
}

/// What was answered as done is there, what is not is refused, and work goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_is_named_and_nothing_is_lost() {
    let server = Postgres::start_with_disk(48).unwrap();
    let disk = server.disk().unwrap();
    let database = server.create_database();
    let place = [
        format!(
            "CREATE TABLESPACE small LOCATION '{}'",
            disk.folder().display()
        ),
        format!("ALTER DATABASE {} SET TABLESPACE small", database.name()),
    ];
    run_sql(&server.url(), &place).await.unwrap();
    let catalog = Catalog::start(database.url()).await;
    let context = CallContext::new(Principal::local());
    with_context(context, async {
        let first = catalog.create(&create_once()).await.unwrap();
        let lease = catalog.lease().await.unwrap().unwrap();
        for _ in 0..WAITING {
            catalog.create(&large()).await.unwrap();
        }
        disk.fill(server.id()).unwrap();
        let leased = until_no_lease(&catalog).await;
        assert_eq!(catalog.waits_for(&first).await, "DATABASE_FULL");
        let (made, refused) = until_refused(&catalog).await;
        assert_eq!(catalog.waits_for(&first).await, "DATABASE_FULL");
        let acknowledged = 1 + WAITING + made;
        assert_eq!(catalog.number_of_scans().await, acknowledged);

        disk.free(server.id()).unwrap();
        let again = catalog.create(&refused).await.unwrap();
        assert_eq!(catalog.create(&refused).await.unwrap(), again);
        assert_eq!(catalog.number_of_scans().await, acknowledged + 1);
        assert_eq!(catalog.waits_for(&first).await, "", "its probe runs");
        // The lease of before is held: nobody else was given its probe.
        let report = catalog::ReportTaskRequest {
            lease: Some(lease.clone()),
            ttl: Some(MINUTE),
            ..catalog::ReportTaskRequest::default()
        };
        catalog.tasks.clone().report_task(report).await.unwrap();
        // As is every other: what is left is leased once, and then there is nothing.
        let mut left = 0;
        while catalog.lease().await.unwrap().is_some_and(|next| {
            assert_ne!(next.task_id, lease.task_id);
            true
        }) {
            left += 1;
        }
        assert_eq!(leased + left, WAITING + made + 1);
    })
    .await;
}
