//! Errors as HTTP answers: `{"error":{"code","status","message","details":[…]}}`.

use aegis_mesh::{Code, Error, json::error_body};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

/// An error, with the HTTP status and header that the gRPC code alone would not give.
#[derive(Debug)]
pub struct Failure {
    error: Error,
    status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Failure {
    /// With a status of HTTP's own: 405, 413, 415, 416.
    pub fn with_status(status: StatusCode, error: Error) -> Self {
        let header = None;
        Self {
            error,
            status,
            header,
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status =
            StatusCode::from_u16(error.code().http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let challenge = (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        let header = (error.code() == Code::Unauthenticated).then_some(challenge);
        Self {
            error,
            status,
            header,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut body = error_body(&self.error);
        body["error"]["code"] = json!(self.status.as_u16());
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(delay) = self.error.retry_delay() {
            let seconds = delay.as_millis().div_ceil(1000).max(1);
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)),
            );
        }
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        response
    }
}
