//! [`Error`] to and from `tonic::Status`.

use std::{borrow::Cow, error::Error as _};

use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};

use super::{Code, DOMAIN, Error, Field, Precondition, Resource};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let details = details(&error);
        let code = tonic::Code::from(error.0.code.grpc());
        Self::with_error_details(code, error.0.message, details)
    }
}

fn details(error: &Error) -> ErrorDetails {
    let parts = &error.0;
    let metadata: std::collections::HashMap<String, String> = parts
        .metadata
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut details = ErrorDetails::with_error_info(parts.reason.as_ref(), DOMAIN, metadata);
    if parts.retry_delay.is_some() {
        details.set_retry_info(parts.retry_delay);
    }
    if let Some(resource) = &parts.resource {
        details.set_resource_info(&resource.kind, &resource.id, "", "");
    }
    if !parts.fields.is_empty() {
        let violation = |f: &Field| FieldViolation::new(&f.path, &f.description);
        details.set_bad_request(parts.fields.iter().map(violation).collect::<Vec<_>>());
    }
    if !parts.preconditions.is_empty() {
        let violation =
            |p: &Precondition| PreconditionViolation::new(&p.kind, &p.subject, &p.description);
        let violations: Vec<_> = parts.preconditions.iter().map(violation).collect();
        details.set_precondition_failure(violations);
    }
    details
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let (code, fallback) = classify(&status);
        let reason = match details.error_info() {
            Some(info) if !info.reason.is_empty() => Cow::Owned(info.reason.clone()),
            _ => Cow::Borrowed(fallback),
        };
        let mut error = Self::from_parts(code, reason, status.message().to_owned());
        error.take(&details);
        error
    }
}

impl Error {
    fn take(&mut self, details: &ErrorDetails) {
        let parts = &mut self.0;
        if let Some(info) = details.error_info() {
            parts.metadata = info.metadata.clone().into_iter().collect();
        }
        parts.retry_delay = details.retry_info().and_then(|info| info.retry_delay);
        parts.resource = details.resource_info().map(|info| Resource {
            kind: info.resource_type.clone(),
            id: info.resource_name.clone(),
        });
        if let Some(request) = details.bad_request() {
            let field = |v: &FieldViolation| Field {
                path: v.field.clone(),
                description: v.description.clone(),
            };
            parts.fields = request.field_violations.iter().map(field).collect();
        }
        if let Some(failure) = details.precondition_failure() {
            let precondition = |v: &PreconditionViolation| Precondition {
                kind: v.r#type.clone(),
                subject: v.subject.clone(),
                description: v.description.clone(),
            };
            parts.preconditions = failure.violations.iter().map(precondition).collect();
        }
    }
}

/// Whether tonic's own timer ended the call: with CANCELLED (tonic 0.14, status.rs), not with
/// DEADLINE_EXCEEDED. Its channels have such a timer, and servers that are not of this mesh.
pub(crate) fn is_tonics_expiry(status: &Status) -> bool {
    status.code() == tonic::Code::Cancelled && status.message() == "Timeout expired"
}

/// The code of a peer's status, and the reason if it named none.
fn classify(status: &Status) -> (Code, &'static str) {
    if is_tonics_expiry(status) {
        return (Code::DeadlineExceeded, Code::DeadlineExceeded.name());
    }
    // A connection that breaks in the middle of an answer comes as UNKNOWN, CANCELLED or
    // INTERNAL, with the transport's error as the source. A status that a peer sent has none.
    if status.source().is_some() {
        return (Code::Unavailable, "CONNECTION_LOST");
    }
    match Code::from_grpc(status.code().into()) {
        Some(code) => (code, code.name()),
        None => (Code::Internal, "UNKNOWN"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_detail_survives_the_wire() {
        let error = Error::invalid_argument("INVALID_FIELD", "2 fields are wrong")
            .field("spec.probes[3]", "unknown probe")
            .field("spec.generations", "must be 1 to 100")
            .precondition("STATE", "scan 7", "is running")
            .with("limit", 100)
            .hint("see `aegis plugins probes`")
            .retry_after(Duration::from_millis(1500));
        let wire = Status::from(error.clone()).into_http::<()>();
        let status = Status::from_header_map(wire.headers()).expect("a status in the headers");
        assert_eq!(Error::from(status), error);
    }

    #[test]
    fn the_resource_survives_and_names_the_reason() {
        let error = Error::not_found("scan", "abc");
        assert_eq!(error.reason(), "SCAN_NOT_FOUND");
        let back = Error::from(Status::from(error.clone()));
        assert_eq!(back, error);
        assert_eq!(back.resource().expect("a resource").id, "abc");
    }

    #[test]
    fn always_an_error_info_and_each_detail_once() {
        for error in [
            Error::aborted("LEASE_LOST", "x"),
            Error::invalid_argument("INVALID_FIELD", "x")
                .field("a", "b")
                .field("c", "d"),
        ] {
            let kinds: Vec<_> = Status::from(error)
                .get_error_details_vec()
                .iter()
                .map(std::mem::discriminant)
                .collect();
            let unique: std::collections::HashSet<_> = kinds.iter().collect();
            assert_eq!(unique.len(), kinds.len());
        }
        let status = Status::from(Error::aborted("LEASE_LOST", "x"));
        let info = status.get_details_error_info().expect("ErrorInfo");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("LEASE_LOST", DOMAIN)
        );
    }

    #[test]
    fn tonics_expiry_is_a_deadline() {
        let error = Error::from(Status::cancelled("Timeout expired"));
        assert_eq!(error.code(), Code::DeadlineExceeded);
        let error = Error::from(Status::cancelled("the user pressed a key"));
        assert_eq!(error.code(), Code::Cancelled);
    }

    #[test]
    fn a_broken_connection_is_retryable() {
        let broken = std::io::Error::other("h2 protocol error");
        let error = Error::from(Status::from_error(Box::new(broken)));
        assert_eq!(
            (error.code(), error.reason()),
            (Code::Unavailable, "CONNECTION_LOST")
        );
        let error = Error::from(Status::unknown("a peer's word"));
        assert_eq!((error.code(), error.reason()), (Code::Internal, "UNKNOWN"));
    }

    #[test]
    fn an_internal_error_keeps_its_source_to_itself() {
        let error = Error::internal("password authentication failed for user x");
        assert!(error.metadata().contains_key("error_id"));
        let text = format!("{error} {error:?} {:?}", Status::from(error.clone()));
        assert!(!text.contains("password"), "{text}");
    }

    #[test]
    fn only_what_may_be_sent_again_is_retryable() {
        let soon = Duration::from_secs(1);
        assert!(Error::unavailable("DRAINING", "x", soon).is_retryable());
        assert!(!Error::resource_exhausted("QUOTA_SCANS", "x").is_retryable());
        let told = Error::resource_exhausted("QUEUE_FULL", "x").retry_after(soon);
        assert!(told.is_retryable());
        assert!(!Error::aborted("LEASE_LOST", "x").is_retryable());
    }
}
