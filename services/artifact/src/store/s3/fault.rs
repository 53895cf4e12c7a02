//! What went wrong in a call to an S3 store, and whether the same call may do better.
//!
//! The client's own errors say so in four types, over several lines, with the request's URL. Here
//! they become one line without URL, headers or keys.

use std::error::Error as StdError;
use std::io;

use minio::s3::error::{Error as ClientError, NetworkError, S3ServerError, ValidationErr};
use minio::s3::minio_error_response::{MinioErrorCode, MinioErrorResponse};

use crate::store::StoreError;

/// The kinds that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No such object.
    Missing,
    /// No such multipart upload.
    NoUpload,
    /// No such bucket.
    NoBucket,
    /// The range begins behind the object's end.
    BehindEnd,
    /// Credentials or permissions.
    Refused,
    /// No room.
    Full,
    /// Worth another try: time, connection, a server that is busy or broken, bytes that arrived
    /// as others.
    Passing,
    /// Not worth another try.
    Lasting,
}

/// One failed call.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    what: String,
}

impl Fault {
    pub(super) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
        }
    }

    pub(super) fn is_passing(&self) -> bool {
        self.kind == Kind::Passing
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            Kind::Missing => Self::NotFound,
            Kind::BehindEnd => Self::EndsEarly,
            Kind::Full => Self::Full,
            Kind::Refused | Kind::NoBucket => Self::Refused(fault.what),
            Kind::NoUpload | Kind::Passing | Kind::Lasting => {
                Self::Io(io::Error::other(fault.what))
            }
        }
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::S3Server(S3ServerError::S3Error(answer)) => answered(&answer),
            ClientError::S3Server(S3ServerError::InvalidServerResponse {
                http_status_code,
                ..
            }) => status(http_status_code),
            ClientError::S3Server(S3ServerError::HttpError(code, _)) => status(code),
            ClientError::Network(NetworkError::ServerError(code)) => status(code),
            ClientError::Network(NetworkError::ReqwestError(error))
            | ClientError::Validation(ValidationErr::HttpError(error)) => {
                transport(&error.without_url())
            }
            ClientError::Validation(error) => Self::new(
                Kind::Lasting,
                format!("the answer makes no sense: {}", one_line(&error)),
            ),
            ClientError::DriveIo(error) => Self::new(Kind::Lasting, one_line(&error)),
        }
    }
}

/// S3's own words for it; the client gives those it does not know in lower case.
fn answered(answer: &MinioErrorResponse) -> Fault {
    let code = answer.code().to_string().to_lowercase();
    let kind = match (answer.code(), code.as_str()) {
        (MinioErrorCode::NoSuchKey, _) => Kind::Missing,
        (MinioErrorCode::NoSuchBucket, _) => Kind::NoBucket,
        (_, "nosuchupload") => Kind::NoUpload,
        (_, "invalidrange") => Kind::BehindEnd,
        (_, code) if is_refusal(code) => Kind::Refused,
        (_, code) if is_full(code) => Kind::Full,
        (_, code) if is_passing(code) => Kind::Passing,
        _ => Kind::Lasting,
    };
    Fault::new(kind, format!("the store answers {}", plain(&code)))
}

fn is_refusal(code: &str) -> bool {
    matches!(
        code,
        "accessdenied"
            | "allaccessdisabled"
            | "accountproblem"
            | "authorizationheadermalformed"
            | "expiredtoken"
            | "invalidaccesskeyid"
            | "invalidtoken"
            | "notsignedup"
            | "requesttimetooskewed"
            | "signaturedoesnotmatch"
    )
}

fn is_full(code: &str) -> bool {
    code.contains("storagefull") || code.contains("quotaexceeded") || code == "insufficientstorage"
}

fn is_passing(code: &str) -> bool {
    matches!(
        code,
        "baddigest"
            | "contentsha256mismatch"
            | "incompletebody"
            | "internalerror"
            | "operationaborted"
            | "operationtimedout"
            | "requesttimeout"
            | "serverbusy"
            | "serverstartup"
            | "serviceunavailable"
            | "xamzcontentchecksummismatch"
            | "xamzcontentsha256mismatch"
            | "xminioservernotinitialized"
    ) || code.starts_with("slowdown")
}

/// A code is a word; what is not is not repeated.
fn plain(code: &str) -> &str {
    let is_word = code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_word { code } else { "an unknown error" }
}

fn status(code: u16) -> Fault {
    let kind = match code {
        401 | 403 => Kind::Refused,
        404 => Kind::Missing,
        416 => Kind::BehindEnd,
        507 => Kind::Full,
        408 | 429 | 500..=599 => Kind::Passing,
        _ => Kind::Lasting,
    };
    Fault::new(kind, format!("the store answers with HTTP status {code}"))
}

/// No answer, or half of one.
pub(super) fn transport(error: &(dyn StdError + 'static)) -> Fault {
    let what = one_line(error);
    // Another try meets the same certificate.
    if what.contains("certificate") {
        let hint = "is its authority in minio.ca_file (MINIO_CA_FILE)?";
        return Fault::new(Kind::Lasting, format!("{what}; {hint}"));
    }
    Fault::new(Kind::Passing, what)
}

/// An error and its causes in one line, each once.
fn one_line(error: &(dyn StdError + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let said = error.to_string().replace(['\n', '\t'], " ");
        if words.last().is_none_or(|last| !last.ends_with(&said)) {
            words.push(said);
        }
        next = error.source();
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn xml(code: &str) -> Fault {
        let body = format!("<Error><Code>{code}</Code><Message>hunter2</Message></Error>");
        let answer = MinioErrorResponse::new_from_body(body.into(), HeaderMap::new()).unwrap();
        ClientError::S3Server(S3ServerError::S3Error(Box::new(answer))).into()
    }

    #[test]
    fn codes_are_told_apart_and_messages_are_not_repeated() {
        for (code, kind) in [
            ("NoSuchKey", Kind::Missing),
            ("NoSuchBucket", Kind::NoBucket),
            ("NoSuchUpload", Kind::NoUpload),
            ("InvalidRange", Kind::BehindEnd),
            ("AccessDenied", Kind::Refused),
            ("InvalidAccessKeyId", Kind::Refused),
            ("SignatureDoesNotMatch", Kind::Refused),
            ("XMinioStorageFull", Kind::Full),
            ("QuotaExceeded", Kind::Full),
            ("SlowDown", Kind::Passing),
            ("SlowDownWrite", Kind::Passing),
            ("InternalError", Kind::Passing),
            ("BadDigest", Kind::Passing),
            ("EntityTooSmall", Kind::Lasting),
        ] {
            let fault = xml(code);
            assert_eq!(fault.kind, kind, "{code}");
            let said = fault.to_string();
            assert!(!said.contains("hunter2") && !said.contains('\n'), "{said}");
        }
        assert!(!xml("key=hunter2").to_string().contains("hunter2"));
    }

    #[test]
    fn a_status_without_words_is_enough() {
        for (code, kind) in [
            (403, Kind::Refused),
            (404, Kind::Missing),
            (416, Kind::BehindEnd),
            (500, Kind::Passing),
            (503, Kind::Passing),
            (507, Kind::Full),
            (418, Kind::Lasting),
        ] {
            let error = ClientError::Network(NetworkError::ServerError(code));
            assert_eq!(Fault::from(error).kind, kind, "{code}");
        }
    }
}
