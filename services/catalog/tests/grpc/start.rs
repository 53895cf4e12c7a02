//! How a catalog starts and stops: as a process of its own, and where it cannot.

use std::time::Duration;

use aegis_catalog::{Config, Deps};
use aegis_mesh::{Error, MeshChannel, Shutdown, spawn};
use aegis_proto::{
    internal::catalog::v1 as catalog,
    scan::v1::{self as scan, history_service_client::HistoryServiceClient},
};
use tonic::Request;

use crate::{Catalog, as_local, seconds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_runs_as_a_process_of_its_own_over_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut config = Config {
        data_dir: folder.path().to_owned(),
        ..Config::default()
    };
    config.server.listen = address;
    let shutdown = Shutdown::new();
    let running = spawn("catalog", aegis_catalog::run(config, shutdown.clone()));
    let uri = format!("http://{address}");
    let channel = MeshChannel::connect(&aegis_mesh::ClientConfig::at(uri)).unwrap();
    as_local(async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let list = Request::new(scan::ListScansRequest::default());
            match HistoryServiceClient::new(channel.clone())
                .list_scans(list)
                .await
            {
                Ok(page) => break assert!(page.into_inner().scans.is_empty()),
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    shutdown.trigger();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let config = Config {
        data_dir: file.join("below"),
        ..Config::default()
    };
    let started = aegis_catalog::start(config, Deps::default(), Shutdown::new()).await;
    let error = started.expect_err("a file is no folder");
    assert_eq!(error.reason(), "DATA_DIR_UNUSABLE");
    assert!(error.message().contains("below"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("catalog.db"), "x".repeat(10_000)).unwrap();
    let config = Config {
        data_dir: folder.path().to_owned(),
        ..Config::default()
    };
    let started = aegis_catalog::start(config, Deps::default(), Shutdown::new()).await;
    let error = started.expect_err("no database");
    assert_eq!(error.reason(), "DATABASE_UNUSABLE");
    assert!(error.message().contains("catalog.db"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_without_its_password() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let url = format!("postgres://me:hunter2@127.0.0.1:{port}/aegis");
    let config = Config {
        database_url: Some(aegis_mesh::Secret::new(url)),
        database_timeout_seconds: 1,
        ..Config::default()
    };
    let started = aegis_catalog::start(config, Deps::default(), Shutdown::new()).await;
    let error = started.expect_err("nothing listens");
    assert_eq!(error.reason(), "DATABASE_DOWN");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn the_database_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (catalog, _running) = Catalog::start().await;
    let folder = catalog._folder.path().join("not/there/yet");
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.file_name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_watches_and_polls() {
    let (catalog, _running) = Catalog::start().await;
    as_local(async {
        let id = catalog.create(1).await.scan_id;
        let watch = catalog::WatchScanRequest {
            scan_id: id,
            after_sequence: 1,
        };
        let mut stream = catalog
            .scans()
            .watch_scan(watch)
            .await
            .unwrap()
            .into_inner();
        stream.message().await.unwrap();
        let poll = catalog::LeaseTaskRequest {
            runner_id: "runner-2".to_owned(),
            request_id: "1".to_owned(),
            plugin_catalogue: "c".repeat(64),
            slots: 1,
            wait: seconds(30),
            ttl: seconds(60),
            max_running_scans: 0,
        };
        let mut tasks = catalog.tasks();
        let shutdown = async {
            tokio::task::yield_now().await;
            catalog.shutdown.trigger();
        };
        let (ended, polled, ()) = tokio::join!(stream.message(), tasks.lease_task(poll), shutdown);
        let error = Error::from(ended.expect_err("a watch that was cut off"));
        assert_eq!(error.reason(), "DRAINING");
        assert!(error.retry_delay().is_some());
        assert_eq!(polled.unwrap().into_inner().task, None);
    })
    .await;
}
