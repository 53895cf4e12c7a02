//! Who may what: wrong keys and too few permissions fail clearly, and the least policy suffices.

use aegis_artifact::config::MinioConfig;
use aegis_artifact::store::{ObjectStore, S3Store, StoreError};
use aegis_mesh::{Code, Error, Secret};
use aegis_testkit::{Keys, S3Server, policy};

use crate::bed::{Bed, PART, as_user, config, content, key};
use crate::on_each_s3;

on_each_s3!(wrong_keys_are_named_as_such);

async fn wrong_keys_are_named_as_such(bed: Bed) {
    bed.put("default/x", b"x").await.unwrap();
    let right = bed.config();
    let wrong_secret = MinioConfig {
        secret_key: Some(Secret::new("hunter2-hunter2")),
        ..right.clone()
    };
    let wrong_access = MinioConfig {
        access_key: Some(Secret::new("nobody")),
        ..right
    };
    for config in [wrong_secret, wrong_access] {
        let store = S3Store::open(&config).unwrap();
        let shown = format!("{store:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("admin-secret"),
            "{shown}"
        );
        let (x, file, large) = (
            key("default/x"),
            bed.file(b"y"),
            bed.file(&content(2 * PART)),
        );
        let refusals = [
            store.check().await.unwrap_err(),
            store.stat(&x).await.unwrap_err(),
            store.read(&x, 0..1).await.err().unwrap(),
            store.list("", None, 10).await.unwrap_err(),
            store.put(&x, &file).await.unwrap_err(),
            store.put(&x, &large).await.unwrap_err(),
            store.delete(&x).await.unwrap_err(),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, StoreError::Refused(_)), "{refusal}");
            let error = Error::from(refusal);
            assert_eq!(error.code(), Code::Unavailable);
            assert_eq!(error.reason(), "STORAGE_REFUSED");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("MINIO_SECRET_KEY"), "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    assert_eq!(bed.read("default/x", 0..1).await.unwrap(), b"x");
}

/// A bucket that the server's admin made, as a lesser user has it.
async fn lesser(keys: Keys) -> (Bed, S3Store) {
    let server = S3Server::seaweedfs();
    let bucket = keys.access;
    let bed = Bed::s3(&as_user(server, server.admin(), bucket)).await;
    let store = S3Store::open(&as_user(server, keys, bucket)).unwrap();
    (bed, store)
}

#[tokio::test]
async fn without_the_right_to_delete_only_that_fails() {
    let (bed, store) = lesser(policy::NO_DELETE).await;
    let x = key("default/x");
    store.check().await.unwrap();
    store.put(&x, &bed.file(&content(2 * PART))).await.unwrap();
    assert_eq!(store.stat(&x).await.unwrap(), Some(2 * PART));
    let error = store.delete(&x).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    assert!(error.to_string().contains("accessdenied"), "{error}");
    assert_eq!(store.stat(&x).await.unwrap(), Some(2 * PART));
}

#[tokio::test]
async fn without_the_right_to_write_only_that_fails() {
    let (bed, store) = lesser(policy::READ_ONLY).await;
    bed.put("default/x", b"x").await.unwrap();
    store.check().await.unwrap();
    assert_eq!(store.stat(&key("default/x")).await.unwrap(), Some(1));
    for size in [1, 2 * PART] {
        let file = bed.file(&content(size));
        let error = store.put(&key("default/y"), &file).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
    }
    assert_eq!(bed.stat("default/y").await, None);
    assert_eq!(bed.unfinished().await, 0);
}

#[tokio::test]
async fn a_bucket_that_may_not_be_made_is_named() {
    let server = S3Server::seaweedfs();
    let none = MinioConfig {
        create_bucket: false,
        ..config(server)
    };
    let error = S3Store::open(&none).unwrap().check().await.unwrap_err();
    assert!(error.to_string().contains(&none.bucket), "{error}");
    assert!(error.to_string().contains("create_bucket"), "{error}");
    let error = S3Store::open(&none).unwrap().stat(&key("default/x")).await;
    assert_eq!(error.unwrap(), None);
    let not_allowed = as_user(server, policy::LEAST, &none.bucket);
    let error = S3Store::open(&not_allowed)
        .unwrap()
        .check()
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
}
