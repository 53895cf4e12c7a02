//! Strict percent-decoding: what is not encoded UTF-8 is refused, never guessed.

use percent_encoding::percent_decode_str;

/// The text with every `%XX` decoded; `None` for a broken escape or bytes that are not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    if !escapes_are_whole(text) {
        return None;
    }
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// As [`decode`], but an encoded `/` stays encoded (google/api/http.proto, on variables of several segments).
pub fn decode_but_slash(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find("%2f") {
        decoded.push_str(&decode(&rest[..at])?);
        decoded.push_str(&rest[at..at + 3]);
        rest = &rest[at + 3..];
    }
    decoded.push_str(&decode(rest)?);
    Some(decoded)
}

/// As [`decode`], with `+` as a space: a key or value of a query.
pub fn decode_query(text: &str) -> Option<String> {
    decode(&text.replace('+', " "))
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_is_strict() {
        assert_eq!(decode("a%20b%2Fc").as_deref(), Some("a b/c"));
        assert_eq!(decode_query("a+b%2Bc").as_deref(), Some("a b+c"));
        assert_eq!(
            decode_but_slash("a%20b%2fc%2F").as_deref(),
            Some("a b%2fc%2F")
        );
        for text in ["%", "%a", "a%g0", "%c3", "%%41"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
