//! A directory on a disk that is full. (A full S3 store is in `breaking`: its answer is a fake.)
//!
//! Only root can make so small a disk; others have nothing to see here.

use std::path::Path;
use std::process::Command;

use aegis_artifact::store::{LocalStore, ObjectStore, StoreError};
use tempfile::TempDir;

use crate::bed::key;

/// A file system of one megabyte, while this lives.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where that is not allowed.
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(folder.path())
            .output();
        mounted.ok()?.status.success().then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.unwrap().success(), "the small disk stays mounted");
    }
}

#[tokio::test]
async fn a_full_disk_says_so_and_keeps_nothing_of_what_did_not_fit() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("not allowed to mount a small disk: nothing was tested");
        return;
    };
    let store = LocalStore::open(&disk.path().join("objects")).unwrap();
    // The scratch file lies elsewhere, so it must be copied.
    let scratch = TempDir::new().unwrap();
    let file = |size: usize| {
        let path = scratch.path().join(size.to_string());
        std::fs::write(&path, vec![7; size]).unwrap();
        path
    };
    let (x, y) = (key("default/x"), key("default/y"));
    store.put(&x, &file(500_000)).await.unwrap();
    let large = file(900_000);
    for object in [&x, &y] {
        let error = store.put(object, &large).await.unwrap_err();
        assert!(matches!(error, StoreError::Full), "{error}");
    }
    assert_eq!(store.stat(&x).await.unwrap(), Some(500_000));
    assert_eq!(store.stat(&y).await.unwrap(), None);
    assert_eq!(store.list("", None, 10).await.unwrap().len(), 1);
    store.delete(&x).await.unwrap();
    store.put(&y, &large).await.unwrap();
}
