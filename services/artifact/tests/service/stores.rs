//! The local store, and the folder of the service.

use std::os::unix::fs::PermissionsExt;

use aegis_artifact::domain::key::ObjectKey;
use aegis_artifact::store::{LocalStore, ObjectStore, StoreError, read_range};
use aegis_artifact::{Deps, start};
use aegis_mesh::Shutdown;
use tempfile::TempDir;

use crate::support::{FakeCatalog, config};

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

fn store() -> (TempDir, LocalStore) {
    let folder = TempDir::new().unwrap();
    let store = LocalStore::open(&folder.path().join("objects")).unwrap();
    (folder, store)
}

async fn put(folder: &TempDir, store: &LocalStore, name: &str, bytes: &[u8]) {
    let file = folder.path().join("upload");
    std::fs::write(&file, bytes).unwrap();
    store.put(&key(name), &file).await.unwrap();
}

#[tokio::test]
async fn an_object_is_there_whole_and_for_its_owner_alone() {
    let (folder, store) = store();
    let bytes: Vec<u8> = (0..600_000u32).map(|n| n as u8).collect();
    put(&folder, &store, "default/scans/a/report.jsonl", &bytes).await;
    let object = key("default/scans/a/report.jsonl");
    assert_eq!(store.stat(&object).await.unwrap(), Some(600_000));
    // Over several chunks, and from within one.
    for range in [0..600_000, 262_143..524_290, 599_999..600_000, 7..7] {
        let read = read_range(&store, &object, range.clone()).await.unwrap();
        assert_eq!(
            read,
            bytes[range.start as usize..range.end as usize],
            "{range:?}"
        );
    }
    let path = folder.path().join("objects/default/scans/a/report.jsonl");
    assert_eq!(
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let folder_of = std::fs::metadata(folder.path().join("objects/default")).unwrap();
    assert_eq!(folder_of.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_range_past_the_end_is_an_error_and_no_short_answer() {
    let (folder, store) = store();
    put(&folder, &store, "default/x", b"0123456789").await;
    let error = read_range(&store, &key("default/x"), 5..11)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::EndsEarly), "{error}");
    let error = read_range(&store, &key("default/y"), 0..1)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::NotFound), "{error}");
}

#[tokio::test]
async fn put_replaces_and_delete_may_be_repeated() {
    let (folder, store) = store();
    put(&folder, &store, "default/x", b"old").await;
    put(&folder, &store, "default/x", b"newer").await;
    assert_eq!(
        read_range(&store, &key("default/x"), 0..5).await.unwrap(),
        b"newer"
    );
    store.delete(&key("default/x")).await.unwrap();
    store.delete(&key("default/x")).await.unwrap();
    assert_eq!(store.stat(&key("default/x")).await.unwrap(), None);
}

#[tokio::test]
async fn objects_are_listed_by_key_in_pages() {
    let (folder, store) = store();
    for name in [
        "default/b",
        "default/a/2",
        "default/a/1",
        "default/a.b",
        "other/x",
    ] {
        put(&folder, &store, name, name.as_bytes()).await;
    }
    let mut listed = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list("default/", after.as_deref(), 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.key.as_str().to_owned());
        for object in page {
            assert_eq!(object.size, object.key.as_str().len() as u64);
            listed.push(object.key.as_str().to_owned());
        }
    }
    assert_eq!(
        listed,
        ["default/a.b", "default/a/1", "default/a/2", "default/b"]
    );
}

#[tokio::test]
async fn two_services_never_share_a_folder() {
    let folder = TempDir::new().unwrap();
    let open = || {
        let deps = Deps::new(FakeCatalog::default().channel());
        start(config(folder.path()), deps, Shutdown::new())
    };
    let first = open().await.unwrap();
    let error = open().await.err().unwrap();
    assert_eq!(error.reason(), "DATA_DIR_IN_USE");
    assert!(first.health().is_serving());
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let config = config(&folder.path().join("file/below"));
    let deps = Deps::new(FakeCatalog::default().channel());
    let error = start(config, deps, Shutdown::new()).await.err().unwrap();
    assert_eq!(error.reason(), "DATA_DIR_UNUSABLE");
    assert!(error.message().contains("file/below"), "{error}");
}
