//! Conditions and ranges of HTTP (RFC 9110, sections 13 and 14), for one representation with a strong ETag.

use std::ops::Range;

use http::{HeaderMap, header};

/// Which bytes a GET wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: 200.
    Whole,
    /// These bytes, which there are: 206.
    Part(Range<u64>),
    /// Bytes that there are not: 416.
    Unsatisfiable,
}

/// What the `Range` header asks of `size` bytes. Several ranges, other units and bad syntax are
/// ignored, as section 14.2 allows; so is a range whose `If-Range` does not name this `etag`.
pub fn wanted(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    if headers
        .get(header::IF_RANGE)
        .is_some_and(|value| value != etag)
    {
        return Wanted::Whole;
    }
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let Some((first, last)) = range.and_then(parse) else {
        return Wanted::Whole;
    };
    let part = match (first, last) {
        (Some(first), Some(last)) if last < first => return Wanted::Whole,
        (Some(first), last) => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
        (None, Some(suffix)) => size.saturating_sub(suffix)..size,
        (None, None) => return Wanted::Whole,
    };
    match part.is_empty() {
        true => Wanted::Unsatisfiable,
        false => Wanted::Part(part),
    }
}

/// `bytes=FIRST-LAST`, either of which may be missing.
fn parse(range: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    unit.eq_ignore_ascii_case("bytes").then_some(())?;
    Some((number(first)?, number(last)?))
}

/// Digits or nothing. More than a u64 holds is beyond any end.
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

/// Whether `If-None-Match` names this ETag, so that the reader has it already.
pub fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn one_range_of_a_hundred_bytes() {
        use Wanted::{Part, Unsatisfiable, Whole};
        for (range, expected) in [
            ("bytes=0-0", Part(0..1)),
            ("bytes=0-99", Part(0..100)),
            ("bytes=10-19", Part(10..20)),
            ("bytes=10-", Part(10..100)),
            ("bytes=-10", Part(90..100)),
            ("bytes=-1000", Part(0..100)),
            ("bytes=99-1000", Part(99..100)),
            ("bytes=0-18446744073709551615", Part(0..100)),
            ("Bytes=5-6", Part(5..7)),
            ("bytes=100-", Unsatisfiable),
            ("bytes=100-200", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-4", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=0-1,5-6", Whole),
            ("lines=0-1", Whole),
            ("0-1", Whole),
        ] {
            let headers = headers(&[(header::RANGE, range)]);
            assert_eq!(wanted(&headers, "\"e\"", 100), expected, "{range}");
        }
    }

    #[test]
    fn of_nothing_there_is_no_range() {
        for range in ["bytes=0-", "bytes=-1"] {
            let headers = headers(&[(header::RANGE, range)]);
            assert_eq!(wanted(&headers, "\"e\"", 0), Wanted::Unsatisfiable);
        }
        assert_eq!(wanted(&HeaderMap::new(), "\"e\"", 0), Wanted::Whole);
    }

    #[test]
    fn a_range_of_something_else_is_the_whole() {
        for (tag, expected) in [
            ("\"e\"", Wanted::Part(0..1)),
            ("\"f\"", Wanted::Whole),
            ("W/\"e\"", Wanted::Whole),
            ("Tue, 24 Nov 2026 00:00:00 GMT", Wanted::Whole),
        ] {
            let headers = headers(&[(header::RANGE, "bytes=0-0"), (header::IF_RANGE, tag)]);
            assert_eq!(wanted(&headers, "\"e\"", 100), expected, "{tag}");
        }
    }

    #[test]
    fn known_tags() {
        for (tags, known) in [
            ("\"e\"", true),
            ("W/\"e\"", true),
            ("\"a\", \"e\"", true),
            ("*", true),
            ("\"a\"", false),
            ("e", false),
        ] {
            let headers = headers(&[(header::IF_NONE_MATCH, tags)]);
            assert_eq!(is_known(&headers, "\"e\""), known, "{tags}");
        }
    }
}
