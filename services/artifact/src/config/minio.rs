//! How the S3 store is reached.

use std::path::PathBuf;
use std::time::Duration;

use aegis_mesh::{ConfigError, PlainVariable, Secret};
use minio::s3::http::BaseUrl;
use minio::s3::types::{BucketName, Region};
use serde::{Deserialize, Serialize};

/// Least bytes of a part of an upload but the last: what S3 allows.
const MIN_PART_BYTES: u64 = 5 << 20;
const MAX_PART_BYTES: u64 = 512 << 20;

/// Names of environment variables that are set here besides the derived ones.
pub const PLAIN_VARIABLES: &[PlainVariable] = &[
    PlainVariable::text("STORAGE_BACKEND", "storage_backend"),
    PlainVariable::text("MINIO_ENDPOINT", "minio.endpoint"),
    PlainVariable::text("MINIO_ACCESS_KEY", "minio.access_key"),
    PlainVariable::file("MINIO_ACCESS_KEY_FILE", "minio.access_key"),
    PlainVariable::text("MINIO_SECRET_KEY", "minio.secret_key"),
    PlainVariable::file("MINIO_SECRET_KEY_FILE", "minio.secret_key"),
    PlainVariable::text("MINIO_BUCKET", "minio.bucket"),
    PlainVariable::text("MINIO_REGION", "minio.region"),
    PlainVariable::text("MINIO_CA_FILE", "minio.ca_file"),
];

/// Where objects lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageBackend {
    /// In a directory.
    #[default]
    Local,
    /// In a store that speaks S3.
    Minio,
}

/// A store that speaks S3, with its bucket in the path (`ENDPOINT/BUCKET/KEY`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MinioConfig {
    /// `https://HOST[:PORT]`, or `http://` (which `HOST:PORT` alone is too): TLS by the scheme.
    pub endpoint: String,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<Secret>,
    /// Its secret, which signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<Secret>,
    /// aegis-reports. Never made public.
    pub bucket: String,
    /// us-east-1, which is also what servers without regions take.
    pub region: String,
    /// PEM file of authorities that are trusted besides the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Makes the bucket when it is not there; true.
    pub create_bucket: bool,
    /// Bytes of one part of an upload, 5 MiB to 512 MiB; 8 MiB. A larger object goes in parts,
    /// each of which can be sent again.
    pub part_bytes: u64,
    /// Parts of one upload that are sent at once, 1 to 16; 3. An upload has at most
    /// `parts_in_flight` times `part_bytes` in memory.
    pub parts_in_flight: usize,
    /// Longest call, and longest wait for the next bytes of a read, in seconds, 1 to 600; 30. A
    /// part must get through in it.
    pub timeout_seconds: u64,
}

impl Default for MinioConfig {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:9000".to_owned(),
            access_key: None,
            secret_key: None,
            bucket: "aegis-reports".to_owned(),
            region: "us-east-1".to_owned(),
            ca_file: None,
            create_bucket: true,
            part_bytes: 8 << 20,
            parts_in_flight: 3,
            timeout_seconds: 30,
        }
    }
}

/// What a valid configuration says, in the client's types.
pub(crate) struct Place {
    pub(crate) base: BaseUrl,
    pub(crate) bucket: BucketName,
    pub(crate) access_key: Secret,
    pub(crate) secret_key: Secret,
}

impl MinioConfig {
    /// Longest call.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// # Errors
    /// Names the key and what it must be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.place()?;
        let ranges = [
            (
                "part_bytes",
                self.part_bytes,
                MIN_PART_BYTES,
                MAX_PART_BYTES,
            ),
            ("parts_in_flight", self.parts_in_flight as u64, 1, 16),
            ("timeout_seconds", self.timeout_seconds, 1, 600),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(invalid(key, format!("is {value}, not {least} to {most}")));
            }
        }
        Ok(())
    }

    pub(crate) fn place(&self) -> Result<Place, ConfigError> {
        let endpoint = match self.endpoint.contains("://") {
            true => self.endpoint.clone(),
            false => format!("http://{}", self.endpoint),
        };
        let mut base: BaseUrl = endpoint
            .parse()
            .map_err(|_| invalid("endpoint", "is not http(s)://HOST[:PORT]"))?;
        base.region = Region::new(&self.region)
            .map_err(|_| invalid("region", format!("\"{}\" is no region", self.region)))?;
        // The bucket's name never becomes part of the host's.
        base.virtual_style = false;
        let bucket = BucketName::new(&self.bucket)
            .map_err(|_| invalid("bucket", format!("\"{}\" is no bucket name", self.bucket)))?;
        let demanded = |key, secret: &Option<Secret>| {
            let why = "is needed when storage_backend is minio";
            secret.clone().ok_or_else(|| invalid(key, why))
        };
        Ok(Place {
            base,
            bucket,
            access_key: demanded("access_key", &self.access_key)?,
            secret_key: demanded("secret_key", &self.secret_key)?,
        })
    }
}

fn invalid(key: &str, why: impl std::fmt::Display) -> ConfigError {
    let variable = PLAIN_VARIABLES
        .iter()
        .find(|variable| variable.key.strip_prefix("minio.") == Some(key));
    let plain = variable.map_or_else(String::new, |v| format!(" ({})", v.name));
    ConfigError::invalid(format!("minio.{key}{plain} {why}"))
}
