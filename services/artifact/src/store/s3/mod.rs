//! Objects in a bucket of a store that speaks S3, through the `minio` crate.
//!
//! The crate has no deadlines and no second tries, and keeps whole parts in memory; so it is used
//! for single calls only, and what goes around them is here: deadlines and tries in [`calls`],
//! uploads in parts in [`upload`], reads that go on where they broke in [`read`].

mod calls;
mod fault;
mod parts;
mod read;
mod unfinished;
mod upload;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aegis_mesh::ConfigError;
use async_trait::async_trait;
use futures_util::StreamExt;
use http::Method;
use minio::s3::builders::{
    BucketExists, CreateBucket, DeleteObject, GetPresignedObjectUrl, ListObjects, ObjectToDelete,
    StatObject,
};
use minio::s3::creds::{Credentials, Provider};
use minio::s3::multimap_ext::{Multimap, MultimapExt};
use minio::s3::response_traits::HasS3Fields;
use minio::s3::types::{BucketName, ObjectKey as S3Key, S3Api, ToStream};
use minio::s3::{MinioClient, MinioClientBuilder};

use self::calls::repeated;
use self::fault::{Fault, Kind};
pub use self::unfinished::UnfinishedUpload;
use super::{ByteStream, Object, ObjectStore, Result, StoreError};
use crate::config::MinioConfig;
use crate::domain::checksum::Checksum;
use crate::domain::key::ObjectKey;

/// Where an object's SHA-256 is kept beside it, in lower-case hexadecimal digits.
const SHA256_HEADER: &str = "x-amz-meta-sha256";
/// Most keys that S3 lists in one answer.
const LIST_PAGE: usize = 1000;
/// Uploads that nobody finished within this time are not under way any more.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A bucket. Clones share its connections.
#[derive(Clone)]
pub struct S3Store {
    client: MinioClient,
    bucket: BucketName,
    config: Arc<MinioConfig>,
}

/// Credentials that `Debug` does not show, unlike the client's own.
struct Keys(Credentials);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Provider for Keys {
    fn fetch(&self) -> Credentials {
        self.0.clone()
    }
}

impl std::fmt::Debug for S3Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Store")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl S3Store {
    /// A store as it is configured. Does not reach for it yet.
    ///
    /// # Errors
    /// A configuration that cannot be, or a `ca_file` that cannot be read.
    pub fn open(config: &MinioConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let place = config.place()?;
        let keys = Keys(Credentials {
            access_key: place.access_key.expose().to_owned(),
            secret_key: place.secret_key.expose().to_owned(),
            session_token: None,
        });
        let client = MinioClientBuilder::new(place.base)
            .provider(Some(keys))
            .ssl_cert_file(config.ca_file.as_deref())
            .app_info(Some((
                "aegis".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            )))
            .build()
            .map_err(|error| {
                let fault = Fault::from(error);
                ConfigError::invalid(format!("minio.ca_file (MINIO_CA_FILE) is no good: {fault}"))
            })?;
        Ok(Self {
            client,
            bucket: place.bucket,
            config: Arc::new(config.clone()),
        })
    }

    /// The client beneath, for what this does not do, and its bucket.
    pub fn client(&self) -> (MinioClient, BucketName) {
        (self.client.clone(), self.bucket.clone())
    }

    fn timeout(&self) -> Duration {
        self.config.timeout()
    }

    /// Size and kept SHA-256 of an object.
    async fn head(&self, key: &S3Key) -> Result<(u64, Option<String>), Fault> {
        repeated("stat", self.timeout(), || async {
            let answer = StatObject::builder()
                .client(self.client.clone())
                .bucket(self.bucket.clone())
                .object(key.clone())
                .build()
                .send()
                .await?;
            let size = answer
                .size()
                .map_err(|_| Fault::new(Kind::Lasting, "the store tells no size"))?;
            let sha256 = answer.headers().get(SHA256_HEADER);
            let sha256 = sha256.and_then(|value| value.to_str().ok());
            Ok((size, sha256.map(ToOwned::to_owned)))
        })
        .await
    }

    async fn bucket_exists(&self) -> Result<bool, Fault> {
        repeated("a look for the bucket", self.timeout(), || async {
            let answer = BucketExists::builder()
                .client(self.client.clone())
                .bucket(self.bucket.clone())
                .build()
                .send()
                .await?;
            Ok(answer.exists())
        })
        .await
    }

    /// Makes the bucket, private as S3 makes it. Somebody else may be faster.
    async fn create_bucket(&self) -> Result<(), Fault> {
        let made = repeated("making the bucket", self.timeout(), || async {
            CreateBucket::builder()
                .client(self.client.clone())
                .bucket(self.bucket.clone())
                .build()
                .send()
                .await?;
            Ok(())
        })
        .await;
        match made {
            Err(_) if self.bucket_exists().await? => Ok(()),
            done => done,
        }
    }

    async fn list_page(&self, prefix: &str, after: &str) -> Result<ListPage, Fault> {
        repeated("a listing", self.timeout(), || async {
            let request = ListObjects::builder()
                .client(self.client.clone())
                .bucket(self.bucket.clone())
                .prefix(Some(prefix.to_owned()))
                .start_after((!after.is_empty()).then(|| after.to_owned()))
                .recursive(true)
                .max_keys(Some(LIST_PAGE as u16))
                .build();
            let mut pages = request.to_stream().await;
            let Some(page) = pages.next().await else {
                return Ok(ListPage::default());
            };
            let page = page?;
            let objects = page.contents.iter().filter(|entry| !entry.is_prefix);
            Ok(ListPage {
                last: page.contents.last().map(|entry| entry.name.clone()),
                more: page.is_truncated,
                // What is no key was not put here by this store.
                objects: objects
                    .filter_map(|entry| {
                        Some(Object {
                            key: ObjectKey::parse(&entry.name).ok()?,
                            size: entry.size?,
                            modified: entry.last_modified.map(Into::into),
                        })
                    })
                    .collect(),
            })
        })
        .await
    }
}

/// One answer to a listing.
#[derive(Default)]
struct ListPage {
    objects: Vec<Object>,
    last: Option<String>,
    more: bool,
}

/// A key as the client has it. Both are text of 1 to 1024 bytes.
fn s3_key(key: &ObjectKey) -> Result<S3Key, Fault> {
    S3Key::new(key.as_str()).map_err(|_| Fault::new(Kind::Lasting, "not a key that S3 takes"))
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, key: &ObjectKey, file: &Path) -> Result<()> {
        let known = parts::checksum_of(file).await?;
        self.put_known(key, file, &known).await
    }

    async fn put_known(&self, key: &ObjectKey, file: &Path, known: &Checksum) -> Result<()> {
        upload::put(self, &s3_key(key)?, file, known).await
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream> {
        read::open(self, s3_key(key)?, range).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        match self.head(&s3_key(key)?).await {
            Ok((size, _)) => Ok(Some(size)),
            Err(fault) if fault.kind == Kind::Missing => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let key = s3_key(key)?;
        let deleted = repeated("deleting", self.timeout(), || async {
            DeleteObject::builder()
                .client(self.client.clone())
                .bucket(self.bucket.clone())
                .object(ObjectToDelete::from(&key))
                .build()
                .send()
                .await?;
            Ok(())
        })
        .await;
        match deleted {
            Err(fault) if fault.kind != Kind::Missing => Err(fault.into()),
            _ => Ok(()),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Object>> {
        let mut found = Vec::new();
        let mut after = after.unwrap_or_default().to_owned();
        while found.len() < limit {
            let page = self.list_page(prefix, &after).await?;
            found.extend(page.objects);
            match page.last {
                Some(last) if page.more && last != after => after = last,
                _ => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn link(
        &self,
        key: &ObjectKey,
        file_name: &str,
        media_type: &str,
        ttl: Duration,
    ) -> Result<Option<String>> {
        let named = format!("attachment; filename=\"{}\"", plain_name(file_name));
        let mut query = Multimap::new();
        query.add("response-content-disposition", named);
        query.add("response-content-type", media_type);
        let seconds = ttl.as_secs().clamp(1, 7 * 24 * 3600);
        let link = GetPresignedObjectUrl::builder()
            .client(self.client.clone())
            .bucket(self.bucket.clone())
            .object(s3_key(key)?)
            .method(Method::GET)
            .extra_query_params(Some(query))
            .expiry_seconds(Some(u32::try_from(seconds).unwrap_or(u32::MAX)))
            .build()
            .send()
            .await
            .map_err(Fault::from)?;
        Ok(Some(link.url))
    }

    async fn check(&self) -> Result<()> {
        if self.bucket_exists().await? {
            return Ok(());
        }
        let bucket = &self.config.bucket;
        if !self.config.create_bucket {
            let why = format!("there is no bucket {bucket}, and minio.create_bucket is false");
            return Err(StoreError::Refused(why));
        }
        self.create_bucket().await?;
        tracing::info!(%bucket, "the bucket was made");
        Ok(())
    }

    async fn tidy(&self) -> Result<usize> {
        self.abort_older_than(ABANDONED).await
    }
}

/// A file name that can stand in a header between quotes.
fn plain_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ');
    name.chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect()
}
