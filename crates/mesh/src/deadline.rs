//! The `grpc-timeout` header (gRPC over HTTP/2, "Timeout").

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Error, Result};

/// The budget of a unary call when nobody says otherwise.
pub(crate) const DEFAULT_UNARY: Duration = Duration::from_secs(30);

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The header holds at most eight digits.
const MAX_DIGITS: usize = 8;
const MAX_VALUE: u128 = 99_999_999;

/// What the caller allows, if it says. A header that is no timeout is refused: to ignore it would
/// mean to work for somebody who has left.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(parse);
    parsed.map(Some).ok_or_else(|| {
        Error::invalid_argument("INVALID_TIMEOUT", "the grpc-timeout header is malformed")
    })
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !decimal || digits.len() > MAX_DIGITS {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Says how long the caller will wait, in the finest unit that eight digits can hold.
pub(crate) fn write(headers: &mut HeaderMap, budget: Duration) {
    let units = [
        (budget.as_micros(), 'u'),
        (budget.as_millis(), 'm'),
        (u128::from(budget.as_secs()), 'S'),
    ];
    let fitting = units.into_iter().find(|(count, _)| *count <= MAX_VALUE);
    let (count, unit) = fitting.unwrap_or((MAX_VALUE, 'S'));
    if let Ok(value) = HeaderValue::from_str(&format!("{count}{unit}")) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// The error of a call that took too long.
pub(crate) fn exceeded(budget: Duration) -> Error {
    let message = format!("the call took longer than its {} ms", budget.as_millis());
    Error::deadline_exceeded("DEADLINE_EXCEEDED", message).with("budget_ms", budget.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_survives_the_header() {
        for budget in [
            Duration::ZERO,
            Duration::from_micros(1),
            Duration::from_millis(500),
            Duration::from_secs(99_999),
            Duration::from_secs(99_999_999),
        ] {
            let mut headers = HeaderMap::new();
            write(&mut headers, budget);
            assert_eq!(read(&headers), Ok(Some(budget)));
        }
    }

    #[test]
    fn a_malformed_timeout_is_refused() {
        for text in ["", "S", "5", "5x", "-5S", "123456789S", "1.5S", "+1S", "é"] {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_bytes(text.as_bytes()).expect("a value");
            headers.insert(GRPC_TIMEOUT, value);
            assert!(read(&headers).is_err(), "{text:?}");
        }
        assert_eq!(
            parse("99999999H"),
            Some(Duration::from_secs(359_999_996_400))
        );
    }
}
