//! What only PostgreSQL has: roles, TLS, limits of statements.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use aegis_catalog::{
    Config, Deps,
    store::{self, DatabaseOptions, Location},
};
use aegis_mesh::{
    CallContext, Error, MeshChannel, Principal, Secret, Shutdown, context::with_context,
};
use aegis_proto::{
    ids::{ProjectId, ScanId},
    internal::catalog::v1 as catalog,
    scan::v1::{self as scan, history_service_client::HistoryServiceClient},
};
use aegis_testkit::{Postgres, TestDatabase};
use catalog::{
    scan_store_service_client::ScanStoreServiceClient,
    task_queue_service_client::TaskQueueServiceClient,
};
use sea_orm::{ConnectionTrait, Database, DatabaseBackend, Statement};
use sha2::Digest;

#[path = "postgres/full.rs"]
mod full;

const DAY: Duration = Duration::from_secs(86_400);
const RETENTION: store::Retention = store::Retention {
    deleted_scan: DAY,
    request: DAY,
    upload: DAY,
};
const CATALOGUE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

const MINUTE: prost_types::Duration = prost_types::Duration {
    seconds: 60,
    nanos: 0,
};

async fn run_sql(url: &str, statements: &[String]) -> Result<(), sea_orm::DbErr> {
    let connection = Database::connect(url.to_owned()).await?;
    for statement in statements {
        connection.execute_unprepared(statement).await?;
    }
    connection.close().await
}

/// Owner and service, as docs/database.md has them: its own statements are run.
async fn roles(database: &TestDatabase<'_>) -> (String, String) {
    let owner = format!("owner_{}", database.name());
    let service = format!("service_{}", database.name());
    let text = include_str!("../../../docs/database.md");
    let (_, text) = text.split_once("```sql\n").unwrap();
    let (text, _) = text.split_once("```").unwrap();
    let mut statements = vec![format!(
        "ALTER DATABASE {} OWNER TO postgres",
        database.name()
    )];
    for line in text.lines() {
        // The database is there already.
        if !line.starts_with("CREATE DATABASE") && !line.starts_with("\\c ") {
            let line = line.replace("aegis_owner", &owner);
            statements.push(line.replace("aegis_service", &service));
        }
    }
    assert_eq!(statements.len(), 7);
    run_sql(&database.url(), &statements).await.unwrap();
    (database.url_as(&owner), database.url_as(&service))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_works_as_a_role_that_may_only_read_and_write_rows() {
    let database = Postgres::shared().create_database();
    let (owner, service) = roles(&database).await;
    let as_service = Config {
        database_url: Some(Secret::new(&service)),
        migrate_on_start: false,
        ..Config::default()
    };
    let start = || aegis_catalog::start(as_service.clone(), Deps::default(), Shutdown::new());
    let early = start().await.unwrap_err();
    assert_eq!(early.reason(), "DATABASE_NOT_MIGRATED");
    let options = DatabaseOptions::at(Location::Postgres(owner));
    store::migrate(&options).await.unwrap();
    let running = start().await.unwrap();
    let channel = MeshChannel::local(running.routes());
    with_context(CallContext::new(Principal::local()), whole_life(&channel)).await;
    for ddl in [
        "CREATE TABLE x (y INTEGER)",
        "ALTER TABLE scans ADD COLUMN x INTEGER",
        "DROP TABLE scans",
        "CREATE INDEX x ON scans (state)",
        "TRUNCATE scans",
    ] {
        let refused = run_sql(&service, &[ddl.to_owned()]).await.unwrap_err();
        let refused = refused.to_string();
        let denied = refused.contains("permission denied") || refused.contains("must be owner");
        assert!(denied, "{ddl}: {refused}");
    }
}

/// A scan is made, leased, reported on, finished, cancelled, edited, listed, deleted and restored.
async fn whole_life(channel: &MeshChannel) {
    let mut scans = ScanStoreServiceClient::new(channel.clone());
    let mut tasks = TaskQueueServiceClient::new(channel.clone());
    let mut history = HistoryServiceClient::new(channel.clone());
    let made = scans.create_scan(create()).await.unwrap().into_inner();
    let scan_id = made.scan.unwrap().scan_id;
    let leased = tasks.lease_task(poll()).await.unwrap().into_inner();
    let lease = leased.task.unwrap().lease;
    let finish = catalog::FinishTaskRequest {
        lease,
        outcome: Some(aegis_proto::internal::task::v1::TaskOutcome {
            outcome: aegis_proto::internal::task::v1::Outcome::FailedPermanent.into(),
            reason: "TARGET_ERROR".to_owned(),
            message: "no".to_owned(),
            ..Default::default()
        }),
        ..catalog::FinishTaskRequest::default()
    };
    tasks.finish_task(finish).await.unwrap();
    let update = scan::UpdateScanRequest {
        scan_id: scan_id.clone(),
        labels: Some(scan::ScanLabels {
            labels: [("team".to_owned(), "blue".to_owned())].into(),
        }),
        ..scan::UpdateScanRequest::default()
    };
    history.update_scan(update).await.unwrap();
    let list = scan::ListScansRequest {
        include_total_size: true,
        filter: Some(scan::ScanFilter {
            labels: [("team".to_owned(), "blue".to_owned())].into(),
            ..scan::ScanFilter::default()
        }),
        ..scan::ListScansRequest::default()
    };
    let listed = history.list_scans(list).await.unwrap().into_inner();
    assert_eq!(listed.total_size, Some(1));
    assert_eq!(listed.scans[0].state(), scan::scan::State::Failed);
    let delete = scan::DeleteScanRequest {
        scan_id: scan_id.clone(),
    };
    history.delete_scan(delete).await.unwrap();
    let undelete = scan::UndeleteScanRequest { scan_id };
    history.undelete_scan(undelete).await.unwrap();
}

fn poll() -> catalog::LeaseTaskRequest {
    catalog::LeaseTaskRequest {
        runner_id: "runner-1".to_owned(),
        request_id: uuid::Uuid::new_v4().to_string(),
        plugin_catalogue: CATALOGUE.to_owned(),
        slots: 1,
        ttl: Some(MINUTE),
        ..catalog::LeaseTaskRequest::default()
    }
}

/// A scan that is made once, however often it is asked for.
fn create_once() -> catalog::CreateScanRequest {
    catalog::CreateScanRequest {
        key: Some(catalog::IdempotencyKey {
            method: "aegis.scan.v1.ScanService/CreateScan".to_owned(),
            request_id: uuid::Uuid::new_v4().to_string(),
            request_sha256: "b".repeat(64),
        }),
        ..create()
    }
}

fn create() -> catalog::CreateScanRequest {
    catalog::CreateScanRequest {
        spec: Some(scan::ScanSpec {
            target: Some(scan::Target {
                r#type: "test.Repeat".to_owned(),
                name: "x".to_owned(),
                ..scan::Target::default()
            }),
            ..scan::ScanSpec::default()
        }),
        labels: [("team".to_owned(), "red".to_owned())].into(),
        garak_version: "0.17.1".to_owned(),
        plugin_catalogue: CATALOGUE.to_owned(),
        effective_eval_threshold: 0.5,
        max_in_flight: 8,
        lane: Some(catalog::Lane {
            key: "target".to_owned(),
            max_in_flight: 64,
        }),
        tasks: vec![catalog::NewTask {
            probe: "test.Probe0".to_owned(),
            planned_calls: 50,
            ..catalog::NewTask::default()
        }],
        max_failures: 1,
        ..catalog::CreateScanRequest::default()
    }
}

/// A CA, and a certificate of it for 127.0.0.1 with its key; all PEM.
fn certificates(name: &str) -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, name);
    let root = ca.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(ca, key);
    let own = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&own, &issuer).unwrap();
    (root, server.pem(), own.serialize_pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_checked_against_a_ca_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let (root, certificate, key) = certificates("the right one");
    let (other, ..) = certificates("another one");
    let named = |name: &str, pem: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, pem).unwrap();
        file.display().to_string()
    };
    let (root, other) = (named("root.pem", &root), named("other.pem", &other));
    let server = Postgres::start_with_tls(&certificate, &key).unwrap();
    // Its tools speak TLS without asking who answers.
    let database = server.create_database();
    let answers = async |parameters: &str| {
        let url = format!("{}?{parameters}", database.url());
        let mut options = DatabaseOptions::at(Location::Postgres(url));
        options.timeout = Duration::from_secs(5);
        store::migrate(&options).await
    };
    answers(&format!("sslmode=verify-full&sslrootcert={root}"))
        .await
        .unwrap();
    let refusals = [
        format!("sslmode=verify-full&sslrootcert={other}"),
        "sslmode=verify-full".to_owned(),
        // The server speaks with nobody who has no TLS.
        "sslmode=disable".to_owned(),
    ];
    for parameters in refusals {
        let refused: Error = answers(&parameters).await.unwrap_err();
        assert!(
            ["DATABASE_DOWN", "DATABASE_UNUSABLE"].contains(&refused.reason()),
            "{parameters}: {refused}"
        );
    }
    // The certificate is for 127.0.0.1, and for no other name.
    let elsewhere = database.url().replace("127.0.0.1", "localhost");
    let url = format!("{elsewhere}?sslmode=verify-full&sslrootcert={root}");
    let options = DatabaseOptions::at(Location::Postgres(url));
    assert!(store::answers(&options, false).await.is_err());
}

/// One server, one table that somebody keeps locked: nobody waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_takes_too_long_is_given_up() {
    let database = Postgres::shared().create_database();
    let mut options = DatabaseOptions::at(Location::Postgres(database.url()));
    // Shorter than the wait for the lock, which is another limit.
    options.statement_timeout = Duration::from_millis(300);
    options.timeout = Duration::from_secs(60);
    let store = store::Store::open(&options, RETENTION).await.unwrap();
    let other = Database::connect(database.url()).await.unwrap();
    let holding = sea_orm::TransactionTrait::begin(&other).await.unwrap();
    let lock = "LOCK TABLE scans IN ACCESS EXCLUSIVE MODE";
    holding.execute_unprepared(lock).await.unwrap();
    let project = aegis_proto::ids::ProjectId::default_project();
    let query = aegis_catalog::domain::history::ScanQuery::default();
    let refused = store.list(&project, &query, None, 1).await.unwrap_err();
    assert_eq!(refused.reason(), "DATABASE_BUSY");
    assert!(refused.is_retryable());
    holding.rollback().await.unwrap();
    store.list(&project, &query, None, 1).await.unwrap();
}

/// Calls are dropped at any point: a client that goes, a deadline. The next call gets a connection
/// that is in no transaction of theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_leaves_no_transaction() {
    const LEFT: &str = "SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let database = Postgres::shared().create_database();
    let options = DatabaseOptions::at(Location::Postgres(database.url()));
    let store = store::Store::open(&options, RETENTION).await.unwrap();
    let raw = Database::connect(database.url()).await.unwrap();
    let project = ProjectId::default_project();
    let mut given_up = 0;
    for turns in (0..3_000).step_by(10) {
        let patience = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = store.cancel(&project, ScanId::generate(), "") => {}
            () = patience => given_up += 1,
        }
        let until = Instant::now() + Duration::from_secs(5);
        let left = || raw.query_all_raw(Statement::from_string(DatabaseBackend::Postgres, LEFT));
        while !left().await.unwrap().is_empty() {
            assert!(Instant::now() < until, "one is left after {turns} turns");
        }
    }
    assert!(given_up > 20, "{given_up}");
}

/// Nothing is acknowledged that is not stored, and work goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_comes_back_by_itself() {
    let server = Postgres::start().unwrap();
    let database = server.create_database();
    let config = Config {
        database_url: Some(Secret::new(database.url())),
        database_timeout_seconds: 2,
        ..Config::default()
    };
    let shutdown = Shutdown::new();
    let running = aegis_catalog::start(config, Deps::default(), shutdown)
        .await
        .unwrap();
    let scans = ScanStoreServiceClient::new(MeshChannel::local(running.routes()));
    let request = create_once();
    let ask = async || {
        let context = CallContext::new(Principal::local());
        let mut scans = scans.clone();
        let answer = with_context(context, scans.create_scan(request.clone())).await;
        answer.map(|answer| answer.into_inner().scan.unwrap().scan_id)
    };
    let before = ask().await.unwrap();
    tokio::task::block_in_place(|| server.stop()).unwrap();
    for _ in 0..3 {
        let down = Error::from(ask().await.unwrap_err());
        assert_eq!(down.reason(), "DATABASE_DOWN", "{down}");
        assert!(down.is_retryable());
    }
    let healthy = async |expected: bool| {
        // Looked at every ten seconds.
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while running.health().is_serving() != expected {
            looks.tick().await;
        }
    };
    healthy(false).await;
    tokio::task::block_in_place(|| server.start_again()).unwrap();
    assert_eq!(ask().await.unwrap(), before, "the same request, one scan");
    healthy(true).await;
}

/// As on a standby: what can be read is read, and a write says why it is not taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_takes_no_writes_is_still_read() {
    let database = Postgres::shared().create_database();
    let options = DatabaseOptions::at(Location::Postgres(database.url()));
    store::migrate(&options).await.unwrap();
    let only_read = format!(
        "ALTER DATABASE {} SET default_transaction_read_only = on",
        database.name()
    );
    let config = Config {
        database_url: Some(Secret::new(database.url())),
        migrate_on_start: false,
        ..Config::default()
    };
    let start = || aegis_catalog::start(config.clone(), Deps::default(), Shutdown::new());
    // The first start makes the key of page tokens.
    let first = start().await.unwrap();
    let mut scans = ScanStoreServiceClient::new(MeshChannel::local(first.routes()));
    let context = CallContext::new(Principal::local());
    let made = with_context(context, scans.create_scan(create())).await;
    let scan_id = made.unwrap().into_inner().scan.unwrap().scan_id;
    drop(first);
    run_sql(&database.url(), &[only_read]).await.unwrap();
    let running = start().await.unwrap();
    let channel = MeshChannel::local(running.routes());
    let mut scans = ScanStoreServiceClient::new(channel.clone());
    let mut history = HistoryServiceClient::new(channel);
    let context = CallContext::new(Principal::local());
    with_context(context, async {
        let refused = Error::from(scans.create_scan(create()).await.unwrap_err());
        assert_eq!(refused.reason(), "DATABASE_READ_ONLY", "{refused}");
        assert!(refused.is_retryable());
        let list = scan::ListScansRequest::default();
        let listed = history.list_scans(list).await.unwrap().into_inner();
        assert_eq!(listed.scans.len(), 1);
        let waits_for = async || {
            let get = scan::GetScanRequest {
                scan_id: scan_id.clone(),
            };
            let scan = history.clone().get_scan(get).await.unwrap().into_inner();
            scan.scan.unwrap().waiting_reason
        };
        assert_eq!(waits_for().await, "DATABASE_READ_ONLY");
        // A primary again: new connections may write, and work goes on by itself.
        let name = database.name();
        let again = [
            format!(
                "SET TRANSACTION READ WRITE;
                ALTER DATABASE {name} RESET default_transaction_read_only"
            ),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()"
                .to_owned(),
        ];
        run_sql(&database.url(), &again).await.unwrap();
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while let Err(refused) = scans.create_scan(create()).await {
            assert!(Error::from(refused).is_retryable());
            looks.tick().await;
        }
        assert_eq!(waits_for().await, "NO_MATCHING_RUNNER");
    })
    .await;
}

/// Replicas tell each other what they change, also after their connections were lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_hear_of_each_others_changes() {
    let database = Postgres::shared().create_database();
    let options = DatabaseOptions::at(Location::Postgres(database.url()));
    let here = store::Store::open(&options, RETENTION).await.unwrap();
    let there = store::Store::open(&options, RETENTION).await.unwrap();
    let raw = Database::connect(database.url()).await.unwrap();
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let mut cut = BTreeSet::new();
    for round in 0..2 {
        let listening = loop {
            let listening = listeners(&raw).await;
            // Each time they begin, they hear that anything may have changed.
            let begun = here.changes_heard() > round && there.changes_heard() > round * 2;
            if begun && listening.len() == 2 && listening.is_disjoint(&cut) {
                break listening;
            }
            looks.tick().await;
        };
        let (own, heard) = (here.changes_heard(), there.changes_heard());
        let json = format!("{{\"round\":{round}}}").into_bytes();
        let catalogue = store::PluginCatalogue {
            sha256: hex::encode(sha2::Sha256::digest(&json)),
            garak_version: "0.17.1".to_owned(),
            json,
            allowance: serde_json::json!({}),
        };
        let project = aegis_proto::ids::ProjectId::default_project();
        here.put_catalogue(&project, &catalogue).await.unwrap();
        while there.changes_heard() == heard {
            looks.tick().await;
        }
        assert_eq!(here.changes_heard(), own, "nobody hears himself");
        for pid in &listening {
            let end = format!("SELECT pg_terminate_backend({pid})");
            raw.execute_unprepared(&end).await.unwrap();
        }
        cut = listening;
    }
}

/// The connections that listen.
async fn listeners(raw: &sea_orm::DatabaseConnection) -> BTreeSet<i32> {
    let sql = "SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'idle' AND query LIKE 'LISTEN%'";
    let statement = sea_orm::Statement::from_string(raw.get_database_backend(), sql);
    let rows = raw.query_all_raw(statement).await.unwrap();
    rows.iter()
        .map(|row| row.try_get("", "pid").unwrap())
        .collect()
}
