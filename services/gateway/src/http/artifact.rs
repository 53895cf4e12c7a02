//! Downloads: `GET|HEAD /v1/scans/{scan_id}/artifacts/{name}`, streamed from ReportService.ReadArtifact.

use std::{ops::Range, time::Duration};

use aegis_mesh::{CallContext, Error, MeshChannel, Principal, Result, with_context};
use aegis_proto::report::v1::{
    Artifact, ReadArtifactRequest, ReadArtifactResponse, report_service_client::ReportServiceClient,
};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::timeout;
use tonic::Streaming;

use super::{
    failure::Failure,
    range::{Wanted, is_known, wanted},
};
use crate::{
    public::Upstream,
    transcode::{LARGEST_MESSAGE, bind, too_late},
};

/// The path, which has no annotation because its answer is not JSON.
pub const PATH: &str = "/v1/scans/{scan_id}/artifacts/{name}";

/// Which file.
#[derive(Debug, Clone)]
pub struct Name {
    /// The scan.
    pub scan_id: String,
    /// `report.jsonl`, `hitlog.jsonl` or `report.html`; artifact judges.
    pub name: String,
    /// The report's revision; 0 is the newest.
    pub revision: i32,
    /// Whether to be sent to the object store itself, where that can be.
    pub redirect: bool,
}

impl Name {
    /// From what the path's variables and the query say.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / INVALID_FIELD for any parameter but one `revision` of at least 1 and
    /// one `redirect`.
    pub fn of(variables: Vec<(&str, String)>, query: &str) -> Result<Self> {
        let mut values = variables.into_iter().map(|(_, value)| value);
        let scan_id = values.next().unwrap_or_default();
        let name = values.next().unwrap_or_default();
        let mut revision = 0;
        let mut redirect = None;
        for (parameter, value) in bind::parameters(query)? {
            match (parameter.as_str(), redirect) {
                ("revision", _) if revision == 0 => revision = revision_of(&value)?,
                ("redirect", None) => redirect = Some(bool_of(&value)?),
                _ => {
                    let description = "only one revision and one redirect can be asked for";
                    return Err(bind::invalid(&parameter, description));
                }
            }
        }
        Ok(Self {
            scan_id,
            name,
            revision,
            redirect: redirect.unwrap_or(false),
        })
    }
}

fn revision_of(text: &str) -> Result<i32> {
    let revision = text.parse().unwrap_or_default();
    match revision {
        1.. => Ok(revision),
        _ => Err(bind::invalid("revision", "is a number from 1")),
    }
}

fn bool_of(text: &str) -> Result<bool> {
    let parsed = text.parse();
    parsed.map_err(|_| bind::invalid("redirect", "is true or false"))
}

/// Reads artifacts for HTTP.
#[derive(Clone)]
pub struct Downloads {
    /// To the artifact service.
    pub channel: MeshChannel,
    /// For the first message of a read.
    pub deadline: Duration,
}

impl Downloads {
    /// Answers a GET, or a HEAD when `head`.
    ///
    /// # Errors
    /// What ReadArtifact refuses, and 416.
    pub async fn answer(
        &self,
        principal: Principal,
        name: Name,
        headers: &HeaderMap,
        head: bool,
    ) -> Result<Response, Failure> {
        // A link is signed for GET alone.
        if name.redirect
            && !head
            && let Some(redirect) = self.redirect(&principal, &name).await?
        {
            return Ok(redirect);
        }
        let (artifact, bytes) = self.open(&principal, &name, 0..0).await?;
        let file = File::of(&artifact, &name)?;
        if is_known(headers, &file.etag) {
            return file.response(StatusCode::NOT_MODIFIED, None, Body::empty());
        }
        if head {
            return file.response(StatusCode::OK, Some(0..file.size), Body::empty());
        }
        match wanted(headers, &file.etag, file.size) {
            Wanted::Whole => {
                let body = Body::from_stream(exactly(bytes, file.size));
                file.response(StatusCode::OK, Some(0..file.size), body)
            }
            Wanted::Part(part) => {
                drop(bytes);
                // The revision just seen: a newer one may have come in between.
                let name = Name {
                    revision: artifact.revision,
                    ..name
                };
                let (_, bytes) = self.open(&principal, &name, part.clone()).await?;
                let body = Body::from_stream(exactly(bytes, part.end - part.start));
                file.response(StatusCode::PARTIAL_CONTENT, Some(part), body)
            }
            Wanted::Unsatisfiable => Err(file.unsatisfiable()),
        }
    }

    /// Opens a read of these bytes (`0..0`: all) and takes its first message.
    async fn open(
        &self,
        principal: &Principal,
        name: &Name,
        part: Range<u64>,
    ) -> Result<(Artifact, Streaming<ReadArtifactResponse>)> {
        let mut client = ReportServiceClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE);
        let request = ReadArtifactRequest {
            scan_id: name.scan_id.clone(),
            name: name.name.clone(),
            revision: name.revision,
            read_offset: signed(part.start)?,
            read_limit: signed(part.end - part.start)?,
        };
        let context = CallContext::new(principal.clone());
        let opening = with_context(context, async move {
            let mut bytes = client.read_artifact(request).await?.into_inner();
            let first = bytes.message().await?;
            Ok((first, bytes))
        });
        let (first, bytes) = timeout(self.deadline, opening)
            .await
            .unwrap_or_else(|_| Err(too_late(self.deadline)))
            .map_err(|error| Upstream::Artifact.explain(error))?;
        let artifact = first.and_then(|first| first.artifact);
        let artifact =
            artifact.ok_or_else(|| Error::internal("ReadArtifact began without its artifact"))?;
        Ok((artifact, bytes))
    }
}

/// What HTTP says about an artifact.
struct File {
    etag: String,
    size: u64,
    media_type: String,
    disposition: String,
    /// Its bytes can never be others under this URL.
    fixed: bool,
    /// It is shown in the browser, and holds what models said.
    active: bool,
}

impl File {
    fn of(artifact: &Artifact, name: &Name) -> Result<Self> {
        let checksum = artifact.checksum.clone();
        let checksum = checksum.ok_or_else(|| Error::internal("an artifact without a checksum"))?;
        let active = artifact.name.ends_with(".html");
        let kind = if active { "inline" } else { "attachment" };
        Ok(Self {
            etag: format!("\"{}\"", checksum.sha256),
            size: u64::try_from(checksum.size_bytes).map_err(Error::internal)?,
            media_type: artifact.media_type.clone(),
            disposition: format!(
                "{kind}; filename=\"{}\"",
                fit_for_quotes(&artifact.file_name)
            ),
            fixed: name.revision != 0,
            active,
        })
    }

    /// `part` is what the body has; without it nothing is said about a body.
    fn response(
        &self,
        status: StatusCode,
        part: Option<Range<u64>>,
        body: Body,
    ) -> Result<Response, Failure> {
        let cache = match self.fixed {
            true => "private, max-age=31536000, immutable",
            false => "no-cache",
        };
        let mut response = http::Response::builder()
            .status(status)
            .header(header::ETAG, &self.etag)
            .header(header::CACHE_CONTROL, cache)
            .header(header::ACCEPT_RANGES, "bytes");
        if let Some(part) = part {
            response = response
                .header(header::CONTENT_TYPE, &self.media_type)
                .header(header::CONTENT_DISPOSITION, &self.disposition)
                .header(header::CONTENT_LENGTH, part.end - part.start);
            if status == StatusCode::PARTIAL_CONTENT {
                let range = format!("bytes {}-{}/{}", part.start, part.end - 1, self.size);
                response = response.header(header::CONTENT_RANGE, range);
            }
        }
        if self.active {
            // Its scripts run, but in an origin of their own: they cannot call us as the reader.
            response = response.header(header::CONTENT_SECURITY_POLICY, "sandbox allow-scripts");
        }
        response
            .body(body)
            .map_err(|error| Error::internal(error).into())
    }

    fn unsatisfiable(&self) -> Failure {
        let text = format!(
            "the range begins beyond the end; the file has {} bytes",
            self.size
        );
        let error =
            Error::out_of_range("RANGE_NOT_SATISFIABLE", text).with("size_bytes", self.size);
        let failure = Failure::with_status(StatusCode::RANGE_NOT_SATISFIABLE, error);
        match HeaderValue::try_from(format!("bytes */{}", self.size)) {
            Ok(range) => failure.header(header::CONTENT_RANGE, range),
            Err(_) => failure,
        }
    }
}

/// The bytes, or an error that cuts the connection: what was promised as `Content-Length` is what comes.
fn exactly(bytes: Streaming<ReadArtifactResponse>, size: u64) -> impl Stream<Item = Result<Bytes>> {
    stream::try_unfold((bytes, size), |(mut bytes, left)| async move {
        loop {
            let Some(message) = bytes.message().await? else {
                return match left {
                    0 => Ok(None),
                    _ => Err(Error::data_loss(
                        "ARTIFACT_CORRUPT",
                        format!("{left} bytes are missing"),
                    )),
                };
            };
            let length = message.data.len() as u64;
            let Some(left) = left.checked_sub(length) else {
                return Err(Error::data_loss(
                    "ARTIFACT_CORRUPT",
                    "more bytes than the artifact has",
                ));
            };
            if length > 0 {
                return Ok(Some((message.data, (bytes, left))));
            }
        }
    })
}

fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(Error::internal)
}

/// A file name without what would end or escape a quoted string.
fn fit_for_quotes(name: &str) -> String {
    let fit = |c: char| match c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') {
        true => c,
        false => '_',
    };
    name.chars().map(fit).collect()
}
