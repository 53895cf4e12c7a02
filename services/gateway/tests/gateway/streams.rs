//! Watching over HTTP: server-sent events and lines of JSON.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::world::{World, error, eventually, reason};

/// One server-sent event: what follows `id:`, `event:` and `data:`.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: Option<String>,
    name: String,
    data: Value,
}

/// Reads a stream as a browser does (WHATWG HTML, "interpreting an event stream"), less what we do not send.
fn events(text: &str) -> Vec<Event> {
    let line = |block: &str, field: &str| {
        let mut lines = block.lines();
        lines.find_map(|line| {
            line.strip_prefix(field)?
                .strip_prefix(": ")
                .map(str::to_owned)
        })
    };
    let blocks = text.split("\n\n").filter(|block| !block.is_empty());
    let events = blocks.filter_map(|block| {
        let data = line(block, "data")?;
        Some(Event {
            id: line(block, "id"),
            name: line(block, "event").unwrap_or_else(|| "message".into()),
            data: serde_json::from_str(&data).unwrap(),
        })
    });
    events.collect()
}

async fn watch(world: &World, path: &str, last_event_id: Option<&str>) -> String {
    let mut request = world
        .request("GET", path)
        .header("accept", "text/event-stream");
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    response.text().await.unwrap()
}

#[tokio::test]
async fn a_watch_as_events() {
    let world = World::new().await;
    let text = watch(&world, "/v1/scans/id/events", None).await;
    assert!(text.starts_with("retry: 2000\n\n"), "{text}");
    assert!(
        text.contains("\n\n: ping\n\n"),
        "the heartbeat is a comment: {text}"
    );
    let events = events(&text);
    let names: Vec<_> = events
        .iter()
        .map(|event| (event.name.as_str(), event.id.as_deref()))
        .collect();
    // Only what is in the log bears an id.
    assert_eq!(
        names,
        [
            ("scan.snapshot", None),
            ("scan.event", Some("1")),
            ("scan.event", Some("2")),
            ("scan.event", Some("3")),
            ("scan.progress", None),
            ("end", None),
        ]
    );
    assert_eq!(events[0].data["snapshot"]["scanId"], "id");
    assert_eq!(events[1].data["event"]["sequence"], "1");
    assert_eq!(events[5].data, json!({"reason": "ENDED"}));
}

#[tokio::test]
async fn a_watch_resumes_after_the_last_event_seen() {
    for (path, last_event_id, after) in [
        ("/v1/scans/id/events", None, "0"),
        ("/v1/scans/id/events?afterSequence=1", None, "1"),
        ("/v1/scans/id/events", Some("2"), "2"),
        // A browser repeats its URL and adds how far it got.
        ("/v1/scans/id/events?afterSequence=1", Some("2"), "2"),
        ("/v1/scans/id/events?afterSequence=1", Some(""), "1"),
    ] {
        let world = World::new().await;
        let text = watch(&world, path, last_event_id).await;
        assert_eq!(
            world.fake.only_call().request["afterSequence"],
            after,
            "{path} {last_event_id:?}"
        );
        let first: i64 = after.parse().unwrap();
        let ids: Vec<_> = events(&text)
            .into_iter()
            .filter_map(|event| event.id)
            .collect();
        let expected: Vec<_> = (first + 1..=3).map(|id| id.to_string()).collect();
        assert_eq!(ids, expected);
    }
    let world = World::new().await;
    let request = world
        .request("GET", "/v1/scans/id/events")
        .header("accept", "text/event-stream");
    let refused = request.header("last-event-id", "two").send().await.unwrap();
    assert_eq!(reason(&error(refused, 400).await), "INVALID_FIELD");
}

#[tokio::test]
async fn a_watch_as_lines() {
    let world = World::new().await;
    let response = world.get("/v1/scans/id/events?afterSequence=2").await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(lines[0]["result"]["snapshot"]["scanId"], "id");
    assert_eq!(lines[1]["result"]["event"]["sequence"], "3");
    assert_eq!(lines[3]["result"]["heartbeat"]["lastSequence"], "3");
}

#[tokio::test]
async fn a_refused_watch_is_a_status_not_a_stream() {
    let world = World::new().await;
    for path in ["/v1/scans/missing/events", "/v1/scans/missing-late/events"] {
        for accept in ["text/event-stream", "application/x-ndjson"] {
            let refused = world
                .request("GET", path)
                .header("accept", accept)
                .send()
                .await
                .unwrap();
            assert_eq!(reason(&error(refused, 404).await), "SCAN_NOT_FOUND");
        }
    }
}

#[tokio::test]
async fn an_error_in_the_middle_is_the_last_thing_said() {
    let world = World::new().await;
    let text = watch(&world, "/v1/scans/breaks/events", None).await;
    let last = events(&text).pop().unwrap();
    assert_eq!(last.name, "error");
    assert_eq!(last.data["error"]["status"], "UNAVAILABLE");
    let text = world
        .get("/v1/scans/breaks/events")
        .await
        .text()
        .await
        .unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["details"][0]["reason"], "DRAINING");
}

#[tokio::test]
async fn a_stream_without_messages_is_empty() {
    let world = World::new().await;
    let names: Vec<_> = events(&watch(&world, "/v1/scans/empty/events", None).await);
    assert_eq!(names.len(), 1);
    assert_eq!(names[0].name, "end");
    assert_eq!(
        world
            .get("/v1/scans/empty/events")
            .await
            .text()
            .await
            .unwrap(),
        ""
    );
}

#[tokio::test]
async fn a_watch_whose_first_message_does_not_come_is_given_up() {
    let world = World::with(|config| config.unary_deadline_seconds = 1).await;
    error(world.get("/v1/scans/silent/events").await, 504).await;
}

/// The upstream stream is pulled by the connection: nobody reads, nobody produces.
#[tokio::test]
async fn a_reader_that_never_reads_costs_nothing() {
    for accept in ["text/event-stream", "application/x-ndjson"] {
        let world = World::new().await;
        let produced = || world.fake.produced.load(Ordering::SeqCst);
        let mut reader = TcpStream::connect(world.address).await.unwrap();
        let request = format!(
            "GET /v1/scans/endless/events HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n\r\n"
        );
        reader.write_all(request.as_bytes()).await.unwrap();
        eventually("the stream flows", || produced() > 0).await;

        let (mut last, mut since) = (produced(), Instant::now());
        eventually("the stream stops", || {
            if produced() != last {
                (last, since) = (produced(), Instant::now());
            }
            since.elapsed() > Duration::from_millis(500)
        })
        .await;
        // 16 KiB each: what is on the way is in the kernel's socket buffers.
        assert!(produced() < 2000, "{} messages for nobody", produced());
        assert!(!world.fake.dropped.load(Ordering::SeqCst));
        drop(reader);
        eventually("the upstream call ends", || {
            world.fake.dropped.load(Ordering::SeqCst)
        })
        .await;
    }
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_upstream_call() {
    let world = World::new().await;
    let request = world
        .request("GET", "/v1/scans/quiet/events")
        .header("accept", "text/event-stream");
    let response = request.send().await.unwrap();
    let mut body = response.bytes_stream();
    assert!(body.next().await.unwrap().is_ok());
    assert!(!world.fake.dropped.load(Ordering::SeqCst));
    drop(body);
    eventually("the upstream call ends", || {
        world.fake.dropped.load(Ordering::SeqCst)
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_leaves_ends_the_unary_call() {
    let world = World::new().await;
    let mut caller = TcpStream::connect(world.address).await.unwrap();
    let request = b"GET /v1/scans/hangs HTTP/1.1\r\nhost: localhost\r\n\r\n";
    caller.write_all(request).await.unwrap();
    eventually("the call arrives", || !world.fake.calls().is_empty()).await;
    drop(caller);
    eventually("the upstream call ends", || {
        world.fake.dropped.load(Ordering::SeqCst)
    })
    .await;
}

#[tokio::test]
async fn streams_end_with_a_hint_when_the_gateway_stops() {
    for (accept, ending) in [
        (
            "text/event-stream",
            "event: end\ndata: {\"reason\":\"DRAINING\"}\nretry: 2000\n\n",
        ),
        ("application/x-ndjson", "DRAINING"),
    ] {
        let world = World::new().await;
        let request = world
            .request("GET", "/v1/scans/quiet/events")
            .header("accept", accept);
        let mut response = request.send().await.unwrap();
        assert!(response.chunk().await.unwrap().is_some());
        world.shutdown.trigger();
        let rest = response.text().await.unwrap();
        match accept {
            "text/event-stream" => assert_eq!(rest, ending),
            _ => assert!(
                rest.starts_with("{\"error\":") && rest.contains(ending),
                "{rest}"
            ),
        }
        let stopped = tokio::time::timeout(Duration::from_secs(5), world.running.stopped());
        stopped.await.unwrap().unwrap();
    }
}
