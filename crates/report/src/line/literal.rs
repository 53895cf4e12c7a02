//! Numbers that are no JSON. Python's `json` writes a score that is not a number as `NaN`, and
//! reads it back; JSON knows no such word, and a whole line would be lost for it.

use memchr::memmem;

use crate::error::LineError;

/// The words, and what is read instead: a score that is not a number could not be made, and scores
/// lie between 0 and 1.
const WORDS: [(&[u8], &[u8]); 3] = [
    (b"NaN", b"null"),
    (b"-Infinity", b"0.0"),
    (b"Infinity", b"1.0"),
];

/// Reads a line; if it is no JSON for such words alone, then with what is read instead of them.
pub(crate) fn with_python_numbers<T>(
    line: &[u8],
    mut read: impl FnMut(&[u8]) -> Result<T, LineError>,
) -> Result<T, LineError> {
    match read(line) {
        Err(error @ LineError::Malformed { .. }) => match replaced(line) {
            Some(line) => read(&line),
            None => Err(error),
        },
        answer => answer,
    }
}

/// The line without such words, if it has any outside of strings.
pub(crate) fn replaced(line: &[u8]) -> Option<Vec<u8>> {
    if WORDS
        .iter()
        .all(|(word, _)| memmem::find(line, word).is_none())
    {
        return None;
    }
    let mut out = Vec::with_capacity(line.len() + 16);
    let mut rest = line;
    let mut has_any = false;
    while let Some(next) = memchr::memchr3(b'"', b'N', b'I', rest) {
        // A minus belongs to the word after it.
        let start = next - usize::from(rest[next] == b'I' && rest[..next].ends_with(b"-"));
        let (before, after) = rest.split_at(start);
        out.extend_from_slice(before);
        let word = WORDS.iter().find(|(word, _)| after.starts_with(word));
        rest = match word {
            Some((word, instead)) => {
                has_any = true;
                out.extend_from_slice(instead);
                &after[word.len()..]
            }
            None => {
                let taken = if after[0] == b'"' {
                    string_end(after)
                } else {
                    after.len().min(next - start + 1)
                };
                out.extend_from_slice(&after[..taken]);
                &after[taken..]
            }
        };
    }
    out.extend_from_slice(rest);
    has_any.then_some(out)
}

/// The length of the string that `text` begins with, quotes included.
fn string_end(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(next) = memchr::memchr2(b'"', b'\\', &text[at..]) {
        at += next;
        if text[at] == b'"' {
            return at + 1;
        }
        at = text.len().min(at + 2);
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn words_are_replaced_outside_of_strings_only() {
        for (line, expected) in [
            (r#"{"a": NaN}"#, Some(r#"{"a": null}"#)),
            (r#"[NaN,-Infinity, Infinity]"#, Some(r#"[null,0.0, 1.0]"#)),
            (
                r#"{"NaN": "\"NaN", "b": -1, "I": NaN}"#,
                Some(r#"{"NaN": "\"NaN", "b": -1, "I": null}"#),
            ),
            (r#"{"a": "Infinity", "b": 1}"#, None),
            (r#"{"a": "NaN\"#, None),
            (r#"{"a": "NaN"#, None),
        ] {
            let found = replaced(line.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{line}");
        }
    }
}
