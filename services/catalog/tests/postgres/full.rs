//! A disk that is full, really: the tables' own is small, and somebody fills it.

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

    async fn number_of_scans(&self) -> i64 {
        let list = scan::ListScansRequest {
            include_total_size: true,
            ..scan::ListScansRequest::default()
        };
        let listed = self.history.clone().list_scans(list).await.unwrap();
        listed.into_inner().total_size.unwrap()
    }

    async fn lease(&self) -> Result<aegis_proto::internal::task::v1::Lease, Error> {
        let leased = self.tasks.clone().lease_task(poll()).await?.into_inner();
        Ok(leased.task.unwrap().lease.unwrap())
    }
}

/// A scan that takes some room.
fn large() -> catalog::CreateScanRequest {
    let label = |number| (format!("label-{number}"), "x".repeat(60));
    catalog::CreateScanRequest {
        labels: (0..40).map(label).collect(),
        ..create_once()
    }
}

/// Makes scans until none can be made: how many were, and the request that was refused.
async fn until_refused(catalog: &Catalog) -> (i64, catalog::CreateScanRequest) {
    /// More than what the tables have free.
    const MOST: i64 = 5_000;
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
        let lease = catalog.lease().await.unwrap();
        disk.fill(server.id()).unwrap();
        let (made, refused) = until_refused(&catalog).await;
        assert_eq!(catalog.waits_for(&first).await, "DATABASE_FULL");
        assert_eq!(catalog.number_of_scans().await, 1 + made);

        disk.free(server.id()).unwrap();
        let again = catalog.create(&refused).await.unwrap();
        assert_eq!(catalog.create(&refused).await.unwrap(), again);
        assert_eq!(catalog.number_of_scans().await, 1 + made + 1);
        assert_eq!(catalog.waits_for(&first).await, "", "its probe runs");
        // The lease of before is held: nobody else was given its probe.
        let report = catalog::ReportTaskRequest {
            lease: Some(lease.clone()),
            ttl: Some(MINUTE),
            ..catalog::ReportTaskRequest::default()
        };
        catalog.tasks.clone().report_task(report).await.unwrap();
        let next = catalog.lease().await.unwrap();
        assert_ne!(next.task_id, lease.task_id);
    })
    .await;
}
