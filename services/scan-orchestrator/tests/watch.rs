//! Watches: catalog's stream, kept alive, carried over a break, ended in time.

mod support;

use std::time::Duration;

use aegis_mesh::{Code, Error};
use aegis_proto::{
    internal::catalog::v1::{self as pb, watch_scan_response::Update as From},
    scan::v1::{
        Progress, Scan, ScanEvent, WatchScanRequest, WatchScanResponse, watch_scan_response::Update,
    },
};
use support::{LONG, Orchestrator, Step, local};
use tonic::Streaming;

const SCAN: &str = "0198c0de-0000-7000-8000-000000000000";

fn send(update: From) -> Step {
    Step::Send(Box::new(pb::WatchScanResponse {
        update: Some(update),
    }))
}

fn snapshot() -> Step {
    send(From::Snapshot(Scan {
        scan_id: SCAN.to_owned(),
        ..Scan::default()
    }))
}

fn event(sequence: i64) -> Step {
    send(From::Event(ScanEvent {
        sequence,
        ..ScanEvent::default()
    }))
}

fn broken() -> Step {
    Step::Fail(Error::unavailable("DOWN", "gone", Duration::from_millis(1)))
}

async fn watch(
    mesh: &Orchestrator,
    after_sequence: i64,
) -> Result<Streaming<WatchScanResponse>, Error> {
    let request = WatchScanRequest {
        scan_id: SCAN.to_owned(),
        after_sequence,
    };
    let answer = local(mesh.client().watch_scan(request)).await?;
    Ok(answer.into_inner())
}

/// The next message in short: "snapshot", "event 3", …, "end" or an error's reason.
async fn next(watch: &mut Streaming<WatchScanResponse>) -> String {
    let message = tokio::time::timeout(LONG, watch.message())
        .await
        .expect("in time");
    match message {
        Ok(None) => "end".to_owned(),
        Err(status) => Error::from(status).reason().to_owned(),
        Ok(Some(message)) => match message.update.expect("an update") {
            Update::Snapshot(_) => "snapshot".to_owned(),
            Update::Event(event) => format!("event {}", event.sequence),
            Update::Progress(_) => "progress".to_owned(),
            Update::Heartbeat(beat) => format!("heartbeat {}", beat.last_sequence),
        },
    }
}

async fn all(watch: &mut Streaming<WatchScanResponse>) -> Vec<String> {
    let mut messages = Vec::new();
    loop {
        let message = next(watch).await;
        let is_last =
            message == "end" || message.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        messages.push(message);
        if is_last {
            return messages;
        }
    }
}

async fn with_scripts(scripts: Vec<Vec<Step>>) -> Orchestrator {
    let mesh = Orchestrator::configured(|c| c.heartbeat_seconds = 1).await;
    mesh.seen().scripts = scripts.into();
    mesh
}

#[tokio::test]
async fn everything_is_passed_on_in_order_and_the_end_too() {
    let progress = send(From::Progress(Progress::default()));
    let mesh = with_scripts(vec![vec![snapshot(), event(1), progress, event(2)]]).await;
    let mut watch = watch(&mesh, 0).await.unwrap();
    assert_eq!(
        all(&mut watch).await,
        ["snapshot", "event 1", "progress", "event 2", "end"]
    );
}

#[tokio::test]
async fn silence_is_broken_by_heartbeats_with_the_last_sequence() {
    let mesh = with_scripts(vec![vec![snapshot(), event(7), Step::Hang]]).await;
    let mut watch = watch(&mesh, 6).await.unwrap();
    for expected in ["snapshot", "event 7", "heartbeat 7", "heartbeat 7"] {
        assert_eq!(next(&mut watch).await, expected);
    }
}

#[tokio::test]
async fn a_break_is_made_good_once_without_loss_or_repetition() {
    let first = vec![snapshot(), event(1), event(2), broken()];
    let second = vec![snapshot(), event(2), event(3)];
    let mesh = with_scripts(vec![first, second]).await;
    let mut watch = watch(&mesh, 0).await.unwrap();
    assert_eq!(
        all(&mut watch).await,
        ["snapshot", "event 1", "event 2", "event 3", "end"]
    );
    let seen = mesh.seen();
    let asked: Vec<i64> = seen.watches.iter().map(|(w, _)| w.after_sequence).collect();
    assert_eq!(asked, [0, 2]);
    // The second connection is made for the same principal as the first.
    assert_eq!(seen.watches[0].1, seen.watches[1].1);
}

#[tokio::test]
async fn a_second_break_without_progress_is_the_watchers() {
    let mesh = with_scripts(vec![vec![snapshot(), broken()], vec![broken()]]).await;
    let mut watch = watch(&mesh, 0).await.unwrap();
    assert_eq!(all(&mut watch).await, ["snapshot", "WATCH_INTERRUPTED"]);
}

#[tokio::test]
async fn what_the_catalog_has_against_it_is_passed_on() {
    let mesh = with_scripts(vec![]).await;
    assert_eq!(
        watch(&mesh, 0).await.unwrap_err().reason(),
        "SCAN_NOT_FOUND"
    );
    let corrupt = Step::Fail(Error::data_loss("LOG_CORRUPT", "x"));
    mesh.seen().scripts = vec![vec![snapshot(), corrupt]].into();
    let mut watch = watch(&mesh, 0).await.unwrap();
    assert_eq!(all(&mut watch).await, ["snapshot", "LOG_CORRUPT"]);
}

#[tokio::test]
async fn a_shutdown_ends_watches_at_once_and_says_when_to_come_back() {
    let mesh = with_scripts(vec![vec![snapshot(), Step::Hang]]).await;
    let mut watching = watch(&mesh, 0).await.unwrap();
    assert_eq!(next(&mut watching).await, "snapshot");
    mesh.shutdown.trigger();
    let ended = tokio::time::timeout(LONG, watching.message())
        .await
        .unwrap();
    let error = Error::from(ended.unwrap_err());
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Unavailable, "DRAINING")
    );
    assert!(error.retry_delay().is_some());
    assert_eq!(watch(&mesh, 0).await.unwrap_err().reason(), "DRAINING");
}

#[tokio::test]
async fn a_watcher_that_never_reads_pulls_nothing() {
    // Of a size that counts: tonic sends small messages in batches of 32 KiB.
    let large = |sequence| {
        send(From::Event(ScanEvent {
            sequence,
            task_id: "x".repeat(4096),
            ..ScanEvent::default()
        }))
    };
    let mesh = with_scripts(vec![(1..=10_000).map(large).collect()]).await;
    let mut watching = watch(&mesh, 0).await.unwrap();
    assert_eq!(next(&mut watching).await, "event 1");
    // Other calls are answered while it stands there, and nothing piles up for it.
    for _ in 0..20 {
        let elsewhere = watch(&mesh, 0).await.unwrap_err();
        assert_eq!(elsewhere.reason(), "SCAN_NOT_FOUND");
    }
    let taken = mesh.seen().taken;
    assert!(taken < 100, "{taken}");
    assert_eq!(next(&mut watching).await, "event 2");
}

#[tokio::test]
async fn a_watch_is_checked_before_the_catalog_is_asked() {
    let mesh = with_scripts(vec![]).await;
    let request = WatchScanRequest {
        scan_id: "../x".to_owned(),
        after_sequence: -1,
    };
    let error = local(mesh.client().watch_scan(request)).await.unwrap_err();
    let fields: Vec<&str> = error.fields().iter().map(|f| f.path.as_str()).collect();
    assert_eq!(fields, ["scan_id", "after_sequence"]);
    assert!(mesh.seen().watches.is_empty());
}
