//! Request bodies and what is said about them.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::failure::Failure;
use aegis_mesh::Error;

/// How many times the limit is read and thrown away, so that a client which sends first and reads
/// later learns why it is refused instead of seeing a broken connection.
const READ_IN_VAIN: u64 = 16;

/// The whole body of at most `limit` bytes.
///
/// # Errors
/// 413 when it is larger; 400 when it breaks off.
pub async fn read(headers: &HeaderMap, mut body: Body, limit: u64) -> Result<Bytes, Failure> {
    let announced = body.size_hint().lower();
    let waits = headers.contains_key(header::EXPECT);
    if announced > limit.saturating_mul(READ_IN_VAIN) || (waits && announced > limit) {
        return Err(too_large(limit));
    }
    let (mut kept, mut seen) = (BytesMut::new(), 0_u64);
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Error::invalid_argument("BODY_INCOMPLETE", "the body broke off"))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        seen += data.len() as u64;
        if seen > limit.saturating_mul(READ_IN_VAIN) {
            break;
        }
        match seen > limit {
            true => kept = BytesMut::new(),
            false => kept.extend_from_slice(data),
        }
    }
    match seen > limit {
        true => Err(too_large(limit)),
        false => Ok(kept.freeze()),
    }
}

fn too_large(limit: u64) -> Failure {
    let text = format!("the body is larger than {limit} bytes");
    let error = Error::resource_exhausted("MESSAGE_TOO_LARGE", text).with("limit_bytes", limit);
    Failure::with_status(StatusCode::PAYLOAD_TOO_LARGE, error)
}

/// Refuses a body that does not say that it is JSON. A browser sends other types to us from any page,
/// without asking first.
///
/// # Errors
/// 415.
pub fn must_be_json(headers: &HeaderMap) -> Result<(), Failure> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = given
        .and_then(|given| given.split(';').next())
        .unwrap_or_default()
        .trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let error =
        Error::invalid_argument("UNSUPPORTED_MEDIA_TYPE", "the body is not said to be JSON")
            .hint("send the header content-type: application/json");
    Err(Failure::with_status(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        error,
    ))
}

/// Whether the reader wants server-sent events.
pub fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(','));
    types.any(|range| {
        let media_type = range.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("text/event-stream")
    })
}
