//! The old system's bucket: `{scan_id}/garak.{scan_id}.report.jsonl` and what belongs to it.

use std::sync::Arc;

use aegis_artifact::{
    config::MinioConfig,
    domain::key::ObjectKey,
    store::{ObjectStore, S3Store},
};
use aegis_mesh::{Error, Result, ServiceConfig, config};
use clap::Args;
use futures_util::{Stream, stream};
use uuid::Uuid;

use super::{content::Content, folder::scan_id_of};

const PAGE_OBJECTS: usize = 1000;

/// The bucket of the old system. Its keys come from the environment.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BucketArgs {
    /// The old system's bucket; keys from MINIO_ACCESS_KEY and MINIO_SECRET_KEY, or their _FILE
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
    /// Its S3 server [default: MINIO_ENDPOINT, or http://127.0.0.1:9000]
    #[arg(long, value_name = "URL", requires = "bucket")]
    s3_endpoint: Option<String>,
}

/// A bucket that is only ever read.
#[derive(Clone)]
pub(super) struct OldBucket {
    store: Arc<S3Store>,
    name: String,
}

impl BucketArgs {
    /// The bucket, if one is named.
    ///
    /// # Errors
    /// Keys that are not there, a server that does not answer, no such bucket.
    pub(super) async fn open(&self) -> Result<Option<OldBucket>> {
        let Some(name) = &self.bucket else {
            return Ok(None);
        };
        let config = self.config(name).map_err(|error| {
            let message = format!("the old system's bucket: {error}");
            Error::invalid_argument("IMPORT_BUCKET_UNUSABLE", message)
        })?;
        let store = S3Store::open(&config).map_err(|error| {
            let message = format!("the old system's bucket: {error}");
            Error::invalid_argument("IMPORT_BUCKET_UNUSABLE", message)
        })?;
        let bucket = OldBucket {
            store: Arc::new(store),
            name: name.clone(),
        };
        bucket
            .store
            .check()
            .await
            .map_err(|error| bucket.unusable(&error))?;
        Ok(Some(bucket))
    }

    /// As the artifact service takes it: the same variables, and their `_FILE`.
    fn config(&self, bucket: &str) -> Result<MinioConfig, aegis_mesh::ConfigError> {
        let environment = aegis_mesh::service::environment();
        let ours = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with("MINIO_"));
        let plain = aegis_artifact::Config::plain_variables();
        let read: aegis_artifact::Config = config::load_with("import", plain, None, ours)?;
        let mut minio = read.minio;
        bucket.clone_into(&mut minio.bucket);
        if let Some(endpoint) = &self.s3_endpoint {
            minio.endpoint.clone_from(endpoint);
        }
        // Nothing is made in it, itself included.
        minio.create_bucket = false;
        Ok(minio)
    }
}

impl OldBucket {
    fn unusable(&self, error: &aegis_artifact::store::StoreError) -> Error {
        let message = format!("the old system's bucket {}: {error}", self.name);
        Error::failed_precondition("IMPORT_BUCKET_UNUSABLE", message)
            .hint("look at --bucket, --s3-endpoint, MINIO_ACCESS_KEY and MINIO_SECRET_KEY")
    }

    /// An object, if there is one of this key.
    pub(super) async fn find(&self, key: &str) -> Result<Option<Content>> {
        let Ok(key) = ObjectKey::parse(key) else {
            return Ok(None);
        };
        let size = self
            .store
            .stat(&key)
            .await
            .map_err(|error| self.unusable(&error))?;
        let store = Arc::clone(&self.store);
        Ok(size.map(|_| Content::Object { store, key }))
    }

    /// Where a scan's file lies.
    pub(super) fn key(id: Uuid, end: &str) -> String {
        format!("{id}/garak.{id}.{end}")
    }

    /// The scans whose reports lie in it, page by page.
    pub(super) fn scans(&self) -> impl Stream<Item = Result<Vec<Uuid>>> + use<> {
        let start = Some((self.clone(), None::<String>));
        stream::try_unfold(start, |at| async move {
            let Some((bucket, after)) = at else {
                return Ok(None);
            };
            let page = bucket.store.list("", after.as_deref(), PAGE_OBJECTS).await;
            let page = page.map_err(|error| bucket.unusable(&error))?;
            let ids = page.iter().filter_map(|object| {
                let (folder, name) = object.key.as_str().split_once('/')?;
                scan_id_of(name).filter(|id| id.to_string() == folder)
            });
            let ids = ids.collect();
            let last = page.last().map(|object| object.key.as_str().to_owned());
            let next = last.filter(|_| page.len() == PAGE_OBJECTS);
            Ok(Some((ids, next.map(|last| (bucket, Some(last))))))
        })
    }
}
