//! Who a call is for. The gateway finds it out; every hop behind it carries it as metadata, which
//! is believed because internal listeners let nobody in without the mesh's token (or only
//! loopback).

use aegis_proto::ids::ProjectId;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use subtle::ConstantTimeEq;

use crate::{Error, Result, Secret};

/// The metadata key of the project.
pub const PROJECT: HeaderName = HeaderName::from_static("x-aegis-project");
/// The metadata key of the subject.
pub const SUBJECT: HeaderName = HeaderName::from_static("x-aegis-subject");

const MAX_SUBJECT: usize = 128;

/// Who a call is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The project that everything the call touches belongs to.
    pub project: ProjectId,
    /// Who within it: 1 to 128 visible ASCII characters, such as `local` or `job:reaper`.
    pub subject: String,
}

impl Principal {
    /// The one principal there is until there is identity: `local` in project `default`.
    pub fn local() -> Self {
        Self {
            project: ProjectId::default_project(),
            subject: "local".to_owned(),
        }
    }

    pub(crate) fn job(name: &str) -> Self {
        Self {
            project: ProjectId::default_project(),
            subject: format!("job:{name}"),
        }
    }

    /// Reads the principal from a request's metadata.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self> {
        let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
        let (Some(project), Some(subject)) = (text(PROJECT), text(SUBJECT)) else {
            return Err(missing());
        };
        let project = project
            .parse()
            .map_err(|_| invalid("x-aegis-project is not a project's id"))?;
        if !is_subject(subject) {
            return Err(invalid(
                "x-aegis-subject is not 1 to 128 visible characters",
            ));
        }
        let subject = subject.to_owned();
        Ok(Self { project, subject })
    }

    /// Writes the principal into a request's metadata, in place of what was there.
    pub fn write_to(&self, headers: &mut HeaderMap) -> Result<()> {
        let value = |text: &str| HeaderValue::from_str(text).map_err(Error::internal);
        headers.insert(PROJECT, value(self.project.as_str())?);
        headers.insert(SUBJECT, value(&self.subject)?);
        Ok(())
    }
}

fn is_subject(text: &str) -> bool {
    (1..=MAX_SUBJECT).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn missing() -> Error {
    Error::unauthenticated("PRINCIPAL_MISSING", "the call does not say for whom it is")
        .hint("internal services are called by the gateway and by each other, not directly")
}

fn invalid(message: &str) -> Error {
    Error::unauthenticated("PRINCIPAL_INVALID", message)
}

/// For whom the request is, as the server's layer established.
pub fn principal_of<T>(request: &tonic::Request<T>) -> Result<Principal> {
    request.extensions().get().cloned().ok_or_else(missing)
}

/// Checks the mesh's token, if one is demanded. The comparison takes as long for a wrong token
/// as for the right one.
pub(crate) fn check_token(expected: Option<&Secret>, headers: &HeaderMap) -> Result<()> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .ok_or_else(|| Error::unauthenticated("TOKEN_MISSING", "the mesh's token is missing"))?;
    if bool::from(given.ct_eq(expected.expose().as_bytes())) {
        return Ok(());
    }
    Err(Error::unauthenticated(
        "TOKEN_INVALID",
        "the mesh's token is wrong",
    ))
}

/// The `authorization` value that carries the mesh's token.
pub(crate) fn bearer(token: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .map_err(|_| invalid("the mesh's token has characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_survives_the_headers() {
        let mut headers = HeaderMap::new();
        Principal::local().write_to(&mut headers).expect("fits");
        assert_eq!(Principal::from_headers(&headers), Ok(Principal::local()));
    }

    #[test]
    fn a_strange_principal_is_refused() {
        for (project, subject) in [
            ("../x", "local"),
            ("default", ""),
            ("default", "a b"),
            ("default", &"x".repeat(129)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(PROJECT, HeaderValue::from_str(project).expect("a value"));
            headers.insert(SUBJECT, HeaderValue::from_str(subject).expect("a value"));
            let error = Principal::from_headers(&headers).expect_err(subject);
            assert_eq!(error.reason(), "PRINCIPAL_INVALID");
        }
    }

    #[test]
    fn only_the_whole_token_passes() {
        let token = Secret::new("correct-horse");
        let mut headers = HeaderMap::new();
        assert!(check_token(None, &headers).is_ok());
        assert!(check_token(Some(&token), &headers).is_err());
        for (given, passes) in [
            ("Bearer correct-horse", true),
            ("Bearer correct-hors", false),
            ("Bearer correct-horsee", false),
            ("correct-horse", false),
            ("Bearer ", false),
        ] {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(given));
            assert_eq!(
                check_token(Some(&token), &headers).is_ok(),
                passes,
                "{given}"
            );
        }
    }
}
