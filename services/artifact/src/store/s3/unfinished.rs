//! Multipart uploads that nobody completes: their parts take room and are not listed as objects.
//!
//! Each is aborted by whoever began it: when a part fails, and by a task of its own when the
//! upload's future is dropped. What a process leaves that was killed in between is aborted a day
//! later, by any replica.

use std::time::Duration;

use aegis_mesh::spawn;
use bytes::Buf;
use http::Method;
use minio::s3::error::{Error as ClientError, ValidationErr};
use minio::s3::multimap_ext::{Multimap, MultimapExt};
use minio::s3::types::{ObjectKey as S3Key, S3Request};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::runtime::Handle;
use xmltree::Element;

use super::S3Store;
use super::calls::repeated;
use super::fault::{Fault, Kind};
use crate::store::Result;

/// A multipart upload that was begun, and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedUpload {
    /// Of the object that it would become.
    pub key: String,
    /// The store's name for it.
    pub upload_id: String,
    /// When it was begun.
    pub begun: OffsetDateTime,
}

/// Aborts its upload when it is dropped before the upload is over.
pub(super) struct AbortOnDrop {
    store: S3Store,
    key: S3Key,
    upload_id: Option<String>,
}

impl AbortOnDrop {
    pub(super) fn new(store: &S3Store, key: &S3Key, upload_id: &str) -> Self {
        Self {
            store: store.clone(),
            key: key.clone(),
            upload_id: Some(upload_id.to_owned()),
        }
    }

    /// The upload is an object now.
    pub(super) fn completed(mut self) {
        self.upload_id = None;
    }

    /// Aborts it and waits for that. Only logged when it fails: the upload's own error counts.
    pub(super) async fn abort(mut self) {
        // Kept until it is done: this future may be dropped too.
        if let Some(upload_id) = self.upload_id.clone() {
            self.store.abort_logged(&self.key, &upload_id).await;
        }
        self.upload_id = None;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        let Some(upload_id) = self.upload_id.take() else {
            return;
        };
        // Without a runtime the process ends: the upload is aborted as an abandoned one.
        if Handle::try_current().is_err() {
            return;
        }
        let (store, key) = (self.store.clone(), self.key.clone());
        let abort = async move { store.abort_logged(&key, &upload_id).await };
        spawn("s3-abort", abort).detach();
    }
}

impl S3Store {
    /// The multipart uploads under way for keys that begin with `prefix`, a thousand at most.
    ///
    /// # Errors
    /// Of the store; it may refuse this (`s3:ListBucketMultipartUploads`).
    pub async fn unfinished(&self, prefix: &str) -> Result<Vec<UnfinishedUpload>> {
        Ok(self.list_unfinished(prefix).await?)
    }

    /// Aborts the uploads that were begun longer ago than `age`.
    ///
    /// # Errors
    /// Of the store.
    pub async fn abort_older_than(&self, age: Duration) -> Result<usize> {
        let mut aborted = 0;
        for upload in self.list_unfinished("").await? {
            if OffsetDateTime::now_utc() - upload.begun < age {
                continue;
            }
            let Ok(key) = S3Key::new(&upload.key) else {
                continue;
            };
            self.abort(&key, &upload.upload_id).await?;
            aborted += 1;
        }
        Ok(aborted)
    }

    /// Aborts other uploads of the same object: such as began although no answer came. An object's
    /// key names the one task and lease that may write it, so nobody else's are among them.
    pub(super) async fn abort_others(&self, key: &S3Key, keep: Option<&str>) {
        let found = match self.list_unfinished(key.as_str()).await {
            Ok(found) => found,
            Err(fault) => {
                tracing::warn!(%key, %fault, "cannot look for uploads that began without an answer");
                return;
            }
        };
        let others = found
            .iter()
            .filter(|upload| upload.key == key.as_str() && Some(upload.upload_id.as_str()) != keep);
        for upload in others {
            self.abort_logged(key, &upload.upload_id).await;
        }
    }

    async fn abort_logged(&self, key: &S3Key, upload_id: &str) {
        if let Err(fault) = self.abort(key, upload_id).await {
            tracing::warn!(%key, %fault, "cannot abort an upload; it is tried again in a day");
        }
    }

    /// Not by the client's own call, which escapes the upload's id twice.
    async fn abort(&self, key: &S3Key, upload_id: &str) -> Result<(), Fault> {
        let aborted = repeated("aborting an upload", self.timeout(), || async {
            let mut query = Multimap::new();
            query.add("uploadId", upload_id);
            let mut request = S3Request::builder()
                .client(self.client.clone())
                .method(Method::DELETE)
                .bucket(self.bucket.clone())
                .object(key.clone())
                .query_params(query)
                .build();
            request.execute().await?;
            Ok(())
        })
        .await;
        match aborted {
            // Over already.
            Err(fault) if matches!(fault.kind, Kind::NoUpload | Kind::Missing) => Ok(()),
            done => done,
        }
    }

    async fn list_unfinished(&self, prefix: &str) -> Result<Vec<UnfinishedUpload>, Fault> {
        let body = repeated("a listing of uploads", self.timeout(), || async {
            let mut query = Multimap::new();
            query.add("uploads", "");
            query.add("prefix", prefix);
            query.add("max-uploads", "1000");
            let mut request = S3Request::builder()
                .client(self.client.clone())
                .method(Method::GET)
                .bucket(self.bucket.clone())
                .query_params(query)
                .build();
            let answer = request.execute().await?;
            let body = answer.bytes().await;
            Ok(body.map_err(|error| ClientError::from(ValidationErr::HttpError(error)))?)
        })
        .await?;
        let root = Element::parse(body.reader())
            .map_err(|_| Fault::new(Kind::Lasting, "the store's list of uploads is no XML"))?;
        Ok(root
            .children
            .iter()
            .filter_map(|child| unfinished(child.as_element()?))
            .collect())
    }
}

fn unfinished(element: &Element) -> Option<UnfinishedUpload> {
    let text = |name| Some(element.get_child(name)?.get_text()?.into_owned());
    if element.name != "Upload" {
        return None;
    }
    Some(UnfinishedUpload {
        key: text("Key")?,
        upload_id: text("UploadId")?,
        begun: OffsetDateTime::parse(&text("Initiated")?, &Rfc3339).ok()?,
    })
}
