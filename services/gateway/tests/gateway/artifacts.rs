//! Downloads: the bytes, ranges, conditions and headers.

use reqwest::header::HeaderMap;
use serde_json::json;

use crate::{
    fake::{NEWEST, content},
    world::{World, error, reason},
};

const REPORT: &str = "/v1/scans/id/artifacts/report.jsonl";

fn etag() -> String {
    format!("\"{NEWEST:064x}\"")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_download_is_the_whole_file() {
    let world = World::new().await;
    let response = world.get(REPORT).await;
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let size = content(NEWEST).len().to_string();
    for (name, value) in [
        ("content-type", "application/jsonl"),
        ("content-length", &*size),
        (
            "content-disposition",
            "attachment; filename=\"garak.id.report.jsonl\"",
        ),
        ("etag", &*etag()),
        ("accept-ranges", "bytes"),
        ("cache-control", "no-cache"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(header(&headers, name), value, "{name}");
    }
    assert_eq!(response.bytes().await.unwrap(), content(NEWEST));
}

#[tokio::test]
async fn a_revision_never_changes() {
    let world = World::new().await;
    let response = world.get(&format!("{REPORT}?revision=1")).await;
    assert_eq!(
        header(response.headers(), "cache-control"),
        "private, max-age=31536000, immutable"
    );
    assert_eq!(response.bytes().await.unwrap(), content(1));
    let missing = error(world.get(&format!("{REPORT}?revision=9")).await, 404).await;
    assert_eq!(reason(&missing), "ARTIFACT_NOT_FOUND");
}

#[tokio::test]
async fn who_asks_is_sent_to_the_store_where_it_has_links() {
    let world = World::new().await;
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let url = world.url(&format!("{REPORT}?redirect=true"));
    let response = client.get(url).send().await.unwrap();
    assert_eq!(response.status(), 307);
    let headers = response.headers();
    assert_eq!(
        header(headers, "location"),
        "https://store.example/report.jsonl?signed"
    );
    assert_eq!(header(headers, "cache-control"), "no-store");
    // A directory has no links: the bytes come from here.
    let here = "/v1/scans/directory/artifacts/report.jsonl?redirect=true";
    let response = world.get(here).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.bytes().await.unwrap(), content(NEWEST));
    let missing = "/v1/scans/missing/artifacts/report.jsonl?redirect=true";
    error(world.get(missing).await, 404).await;
    let bad = error(world.get(&format!("{REPORT}?redirect=maybe")).await, 400).await;
    assert_eq!(reason(&bad), "INVALID_FIELD");
}

#[tokio::test]
async fn an_html_report_is_shown_in_a_sandbox() {
    let world = World::new().await;
    let response = world.get("/v1/scans/id/artifacts/report.html").await;
    let headers = response.headers();
    assert_eq!(header(headers, "content-type"), "text/html; charset=utf-8");
    assert_eq!(
        header(headers, "content-disposition"),
        "inline; filename=\"garak.id.report.html\""
    );
    assert_eq!(
        header(headers, "content-security-policy"),
        "sandbox allow-scripts"
    );
    assert_eq!(header(headers, "x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn a_file_name_cannot_break_out_of_its_header() {
    let world = World::new().await;
    let response = world
        .get("/v1/scans/a%22%0d%0ax%3Ay/artifacts/report.jsonl")
        .await;
    let disposition = header(response.headers(), "content-disposition");
    assert_eq!(
        disposition,
        "attachment; filename=\"garak.a___x_y.report.jsonl\""
    );
}

#[tokio::test]
async fn head_says_what_get_would() {
    let world = World::new().await;
    let head = world
        .request("HEAD", REPORT)
        .header("range", "bytes=0-9")
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(
        header(head.headers(), "content-length"),
        content(NEWEST).len().to_string()
    );
    assert_eq!(header(head.headers(), "etag"), etag());
    assert!(head.bytes().await.unwrap().is_empty());
    // A link to the store would be one for GET.
    let url = format!("{REPORT}?redirect=true");
    let head = world.request("HEAD", &url).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(header(head.headers(), "etag"), etag());
}

#[tokio::test]
async fn ranges() {
    let world = World::new().await;
    let all = content(NEWEST);
    let size = all.len();
    for (range, start, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=5-14".to_owned(), 5, 15),
        ("bytes=65530-131080".to_owned(), 65_530, 131_081),
        (format!("bytes={}-", size - 3), size - 3, size),
        ("bytes=-7".to_owned(), size - 7, size),
        (format!("bytes=-{}", size + 1), 0, size),
        ("bytes=10-99999999999".to_owned(), 10, size),
    ] {
        let response = world
            .request("GET", REPORT)
            .header("range", &range)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 206, "{range}");
        let content_range = format!("bytes {start}-{}/{size}", end - 1);
        assert_eq!(header(response.headers(), "content-range"), content_range);
        assert_eq!(
            header(response.headers(), "content-length"),
            (end - start).to_string()
        );
        assert_eq!(header(response.headers(), "etag"), etag());
        assert_eq!(response.bytes().await.unwrap(), all[start..end], "{range}");
    }
}

#[tokio::test]
async fn a_range_reads_the_revision_whose_size_it_was_held_against() {
    let world = World::new().await;
    let response = world
        .request("GET", REPORT)
        .header("range", "bytes=5-14")
        .send()
        .await
        .unwrap();
    response.bytes().await.unwrap();
    let calls = world.fake.calls();
    let last = &calls.last().unwrap().request;
    assert_eq!(last["revision"], json!(NEWEST));
    assert_eq!(
        (&last["readOffset"], &last["readLimit"]),
        (&json!("5"), &json!("10"))
    );
}

#[tokio::test]
async fn ranges_that_are_none_of_ours_give_the_whole() {
    let world = World::new().await;
    for range in ["bytes=0-1,5-6", "lines=0-1", "bytes=9-5", "nonsense"] {
        let response = world
            .request("GET", REPORT)
            .header("range", range)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{range}");
        assert_eq!(response.bytes().await.unwrap().len(), content(NEWEST).len());
    }
}

#[tokio::test]
async fn a_range_beyond_the_end_is_refused() {
    let world = World::new().await;
    let size = content(NEWEST).len();
    let response = world
        .request("GET", REPORT)
        .header("range", format!("bytes={size}-"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        header(response.headers(), "content-range"),
        format!("bytes */{size}")
    );
    let refused = error(response, 416).await;
    assert_eq!(
        (refused["status"].as_str(), reason(&refused)),
        (Some("OUT_OF_RANGE"), "RANGE_NOT_SATISFIABLE")
    );
}

#[tokio::test]
async fn a_range_of_an_older_file_is_the_whole_new_one() {
    let world = World::new().await;
    for (tag, status) in [(etag(), 206), ("\"older\"".to_owned(), 200)] {
        let request = world
            .request("GET", REPORT)
            .header("range", "bytes=0-9")
            .header("if-range", tag);
        assert_eq!(request.send().await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn what_the_reader_has_is_not_sent_again() {
    let world = World::new().await;
    for (tag, status) in [
        (etag(), 304),
        (format!("\"x\", W/{}", etag()), 304),
        ("*".to_owned(), 304),
        ("\"x\"".to_owned(), 200),
    ] {
        let response = world
            .request("GET", REPORT)
            .header("if-none-match", &tag)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{tag}");
        assert_eq!(header(response.headers(), "etag"), etag());
        if status == 304 {
            assert!(response.bytes().await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn a_file_that_breaks_off_does_not_look_whole() {
    let world = World::new().await;
    let response = world.get("/v1/scans/damaged/artifacts/report.jsonl").await;
    assert_eq!(response.status(), 200);
    assert!(
        response.bytes().await.is_err(),
        "the connection is cut before the promised length"
    );
}

#[tokio::test]
async fn a_file_that_is_not_there() {
    let world = World::new().await;
    let missing = error(
        world.get("/v1/scans/missing/artifacts/report.jsonl").await,
        404,
    )
    .await;
    assert_eq!(reason(&missing), "ARTIFACT_NOT_FOUND");
}
