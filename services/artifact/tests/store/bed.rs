//! Stores to test, each with a bucket or folder of its own.

use std::path::PathBuf;
use std::sync::Arc;

use aegis_artifact::config::MinioConfig;
use aegis_artifact::domain::key::ObjectKey;
use aegis_artifact::store::{LocalStore, ObjectStore, Result, S3Store, read_range};
use aegis_mesh::Secret;
use aegis_testkit::{Keys, Proxy, S3Server, policy};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

/// The least that S3 takes, so that few bytes make many parts.
pub(crate) const PART: u64 = 5 << 20;

/// A store, and scratch for files that go into it.
pub(crate) struct Bed {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The same, when it is S3.
    pub(crate) s3: Option<S3Store>,
    /// Whether it lists by the bytes of keys.
    pub(crate) by_key: bool,
    folder: TempDir,
    config: MinioConfig,
    /// Held by tests that share a bucket.
    _turn: Option<MutexGuard<'static, ()>>,
}

/// The bucket of the least user is one for all.
static TURN: Mutex<()> = Mutex::const_new(());

impl Bed {
    pub(crate) async fn local() -> Self {
        let folder = TempDir::new().unwrap();
        let store = LocalStore::open(&folder.path().join("objects")).unwrap();
        Self {
            store: Arc::new(store),
            s3: None,
            by_key: true,
            folder,
            config: MinioConfig::default(),
            _turn: None,
        }
    }

    pub(crate) async fn seaweedfs() -> Self {
        let config = config(S3Server::seaweedfs());
        Self {
            by_key: false,
            ..Self::s3(&config).await
        }
    }

    pub(crate) async fn juicefs() -> Self {
        Self::s3(&config(S3Server::juicefs())).await
    }

    /// With its bucket made.
    pub(crate) async fn s3(config: &MinioConfig) -> Self {
        let store = S3Store::open(config).unwrap();
        store.check().await.unwrap();
        Self {
            store: Arc::new(store.clone()),
            s3: Some(store),
            by_key: true,
            folder: TempDir::new().unwrap(),
            config: config.clone(),
            _turn: None,
        }
    }

    /// SeaweedFS, as a user who has no more than the documented policy.
    pub(crate) async fn least() -> Self {
        let turn = TURN.lock().await;
        let server = S3Server::seaweedfs();
        let bucket = policy::LEAST.access;
        Self::s3(&as_user(server, server.admin(), bucket)).await;
        let bed = Self::s3(&as_user(server, policy::LEAST, bucket)).await;
        for left in bed.store.list("", None, 10_000).await.unwrap() {
            bed.store.delete(&left.key).await.unwrap();
        }
        Self {
            by_key: false,
            _turn: Some(turn),
            ..bed
        }
    }

    /// How its bucket is reached.
    pub(crate) fn config(&self) -> MinioConfig {
        self.config.clone()
    }

    /// A new scratch file.
    pub(crate) fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(Uuid::new_v4().to_string());
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) async fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.store.put(&key(name), &self.file(bytes)).await
    }

    pub(crate) async fn read(&self, name: &str, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        read_range(self.store.as_ref(), &key(name), range).await
    }

    pub(crate) async fn stat(&self, name: &str) -> Option<u64> {
        self.store.stat(&key(name)).await.unwrap()
    }

    /// Multipart uploads that were neither completed nor aborted.
    pub(crate) async fn unfinished(&self) -> usize {
        match &self.s3 {
            Some(s3) => s3.unfinished("").await.unwrap().len(),
            None => 0,
        }
    }
}

/// How a server is reached, with a bucket that nobody else has.
pub(crate) fn config(server: &S3Server) -> MinioConfig {
    as_user(server, server.admin(), &format!("t-{}", Uuid::new_v4()))
}

/// The same for another user and a bucket by name.
pub(crate) fn as_user(server: &S3Server, keys: Keys, bucket: &str) -> MinioConfig {
    MinioConfig {
        endpoint: server.endpoint(),
        access_key: Some(Secret::new(keys.access)),
        secret_key: Some(Secret::new(keys.secret)),
        bucket: bucket.to_owned(),
        part_bytes: PART,
        ..MinioConfig::default()
    }
}

/// The same by way of a proxy.
pub(crate) fn through(proxy: &Proxy, config: &MinioConfig) -> MinioConfig {
    MinioConfig {
        endpoint: proxy.endpoint(),
        timeout_seconds: 20,
        ..config.clone()
    }
}

pub(crate) fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

/// Bytes of which no two parts are alike.
pub(crate) fn content(size: u64) -> Vec<u8> {
    let words = (0..size.div_ceil(8)).flat_map(|n| (n ^ (size << 32)).to_le_bytes());
    words.take(size as usize).collect()
}

/// Each case on each store, and as the user with the least rights.
#[macro_export]
macro_rules! on_each_store {
    ($($case:ident),+ $(,)?) => {
        $crate::on_stores!(local, [$($case),+]);
        $crate::on_stores!(seaweedfs, [$($case),+]);
        $crate::on_stores!(juicefs, [$($case),+]);
        $crate::on_stores!(least, [$($case),+]);
    };
}

/// Each case on each S3 server.
#[macro_export]
macro_rules! on_each_s3 {
    ($($case:ident),+ $(,)?) => {
        $crate::on_stores!(seaweedfs, [$($case),+]);
        $crate::on_stores!(juicefs, [$($case),+]);
    };
}

/// Each case on one store.
#[macro_export]
macro_rules! on_stores {
    ($store:ident, [$($case:ident),+]) => {
        mod $store {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case($crate::bed::Bed::$store().await).await;
                }
            )+
        }
    };
}
