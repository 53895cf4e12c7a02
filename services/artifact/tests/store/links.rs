//! Links to objects: whoever has one gets that object for a while, and nothing else.

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::bed::{Bed, key};
use crate::{on_each_s3, on_stores};

on_stores!(local, [a_directory_gives_none]);
on_each_s3!(
    a_link_gives_the_object_under_its_name,
    a_link_that_was_changed_is_refused,
    a_link_ends,
    without_a_link_nobody_gets_anything,
);

async fn link(bed: &Bed, name: &str, ttl: Duration) -> Option<String> {
    let file_name = "garak.x.report.jsonl";
    let key = key(name);
    let link = bed.store.link(&key, file_name, "application/jsonl", ttl);
    link.await.unwrap()
}

async fn a_directory_gives_none(bed: Bed) {
    bed.put("default/x", b"x").await.unwrap();
    assert_eq!(link(&bed, "default/x", Duration::from_secs(60)).await, None);
}

async fn a_link_gives_the_object_under_its_name(bed: Bed) {
    bed.put("default/x", b"0123456789").await.unwrap();
    let link = link(&bed, "default/x", Duration::from_secs(60))
        .await
        .unwrap();
    let answer = reqwest::get(&link).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        header("content-disposition"),
        "attachment; filename=\"garak.x.report.jsonl\""
    );
    assert_eq!(header("content-type"), "application/jsonl");
    assert_eq!(answer.bytes().await.unwrap(), &b"0123456789"[..]);
    let range = reqwest::Client::new()
        .get(&link)
        .header("range", "bytes=2-4");
    let answer = range.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.bytes().await.unwrap(), &b"234"[..]);
    // What would end the header's quotes does not get there.
    let x = key("default/x");
    let named = bed.store.link(
        &x,
        "a\"; x=\"ü\r\n.html",
        "text/html",
        Duration::from_secs(60),
    );
    let answer = reqwest::get(named.await.unwrap().unwrap()).await.unwrap();
    let disposition = answer.headers()["content-disposition"].to_str().unwrap();
    assert_eq!(disposition, "attachment; filename=\"a__ x_____.html\"");
}

async fn a_link_that_was_changed_is_refused(bed: Bed) {
    bed.put("default/x", b"x").await.unwrap();
    bed.put("default/secret", b"secret").await.unwrap();
    let link = link(&bed, "default/x", Duration::from_secs(60))
        .await
        .unwrap();
    let changes = [
        ("/default/x", "/default/secret"),
        ("X-Amz-Expires=60", "X-Amz-Expires=6000"),
        ("garak.x", "garak.y"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=host;x"),
    ];
    for (from, to) in changes {
        assert!(link.contains(from), "{link} has no {from}");
        let answer = reqwest::get(link.replacen(from, to, 1)).await.unwrap();
        assert!(
            answer.status().is_client_error(),
            "{to}: {}",
            answer.status()
        );
        assert!(!answer.text().await.unwrap().contains("secret\n"));
    }
    let answer = reqwest::Client::new().delete(&link).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(bed.stat("default/x").await, Some(1));
}

async fn a_link_ends(bed: Bed) {
    bed.put("default/x", b"x").await.unwrap();
    let link = link(&bed, "default/x", Duration::from_secs(1))
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = reqwest::get(&link).await.unwrap();
        if answer.status() == StatusCode::FORBIDDEN {
            return;
        }
        assert!(Instant::now() < deadline, "{}", answer.status());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn without_a_link_nobody_gets_anything(bed: Bed) {
    bed.put("default/x", b"x").await.unwrap();
    let link = link(&bed, "default/x", Duration::from_secs(60))
        .await
        .unwrap();
    let (object, _) = link.split_once('?').unwrap();
    let (bucket, _) = object.split_once("/default").unwrap();
    for url in [object, bucket] {
        let answer = reqwest::get(url).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{url}");
    }
}
