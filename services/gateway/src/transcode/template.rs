//! Path templates of `google.api.http`: `/v1/scans/{scan_id}:cancel`, `/v1/{name=files/**}`.
//!
//! The grammar is that of `google/api/http.proto`, "Path template syntax".

use std::{fmt, ops::Range};

use super::percent;

/// A template that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad path template {template:?}: {problem}")]
pub struct BadTemplate {
    template: String,
    problem: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    /// `*`: exactly one segment that is not empty.
    One,
    /// `**`: any number of segments, to the end.
    Rest,
}

#[derive(Debug, Clone)]
struct Variable {
    /// The field it binds, as `a.b`.
    field: String,
    segments: Range<usize>,
    /// More than one segment: `%2F` inside stays as it is, or it could not be told from `/`.
    multi: bool,
}

/// One parsed path template.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
    variables: Vec<Variable>,
    verb: Option<String>,
}

/// A request's path, cut into still encoded segments.
/// A raw `:` in the last segment begins the verb; `%3A` is part of the segment.
#[derive(Debug)]
pub struct PathParts<'a> {
    segments: Vec<&'a str>,
    verb: Option<&'a str>,
}

impl<'a> PathParts<'a> {
    /// Cuts an absolute path.
    pub fn of(path: &'a str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let last = path.rfind('/').map_or(0, |slash| slash + 1);
        let (path, verb) = match path[last..].rfind(':') {
            Some(colon) => (&path[..last + colon], Some(&path[last + colon + 1..])),
            None => (path, None),
        };
        Self {
            segments: path.split('/').collect(),
            verb,
        }
    }
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// [`BadTemplate`] when it is none, or binds a field twice.
    pub fn parse(template: &str) -> Result<Self, BadTemplate> {
        let bad = |problem| BadTemplate {
            template: template.to_owned(),
            problem,
        };
        let (mut rest, verb) = split_verb(template.strip_prefix('/').ok_or(bad("no leading /"))?);
        let mut segments = Vec::new();
        let mut variables: Vec<Variable> = Vec::new();
        loop {
            let Some(inner) = rest.strip_prefix('{') else {
                let end = rest.find('/').unwrap_or(rest.len());
                segments.push(segment(&rest[..end]).ok_or(bad("bad segment"))?);
                rest = &rest[end..];
                match next(rest).ok_or(bad("bad segment"))? {
                    Some(after) => rest = after,
                    None => break,
                }
                continue;
            };
            let (variable, after) = inner.split_once('}').ok_or(bad("unclosed {"))?;
            let (field, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
            if field.is_empty() || variables.iter().any(|v| v.field == field) {
                return Err(bad("variable without a name of its own"));
            }
            let start = segments.len();
            for part in pattern.split('/') {
                segments.push(segment(part).ok_or(bad("bad segment in a variable"))?);
            }
            variables.push(Variable {
                field: field.to_owned(),
                segments: start..segments.len(),
                multi: pattern != "*",
            });
            match next(after).ok_or(bad("text after }"))? {
                Some(after) => rest = after,
                None => break,
            }
        }
        if segments.iter().rev().skip(1).any(|s| *s == Segment::Rest) {
            return Err(bad("** is not last"));
        }
        Ok(Self {
            text: template.to_owned(),
            segments,
            variables,
            verb: verb.map(str::to_owned),
        })
    }

    /// Whether the path has this shape.
    pub fn matches(&self, path: &PathParts<'_>) -> bool {
        if self.verb.as_deref() != path.verb {
            return false;
        }
        let open = self.segments.last() == Some(&Segment::Rest);
        let fixed = self.segments.len() - usize::from(open);
        if path.segments.len() < fixed || (!open && path.segments.len() != fixed) {
            return false;
        }
        let pairs = self.segments.iter().zip(&path.segments).take(fixed);
        pairs.into_iter().all(|(segment, part)| match segment {
            Segment::Literal(literal) => literal == part,
            Segment::One => !part.is_empty(),
            Segment::Rest => true,
        })
    }

    /// Each variable's field and decoded value, of a path that [`matches`](Self::matches).
    ///
    /// # Errors
    /// The field whose value is not percent-encoded UTF-8.
    pub fn capture(&self, path: &PathParts<'_>) -> Result<Vec<(&str, String)>, &str> {
        let decode = |variable: &Variable| {
            let to_end = variable.segments.end == self.segments.len();
            let end = match to_end && self.segments.last() == Some(&Segment::Rest) {
                true => path.segments.len(),
                false => variable.segments.end,
            };
            let parts = &path.segments[variable.segments.start..end];
            let decode: fn(&str) -> Option<String> = match variable.multi {
                true => percent::decode_but_slash,
                false => percent::decode,
            };
            let parts: Option<Vec<String>> = parts.iter().map(|part| decode(part)).collect();
            parts.map(|parts| parts.join("/"))
        };
        self.variables
            .iter()
            .map(|v| {
                decode(v)
                    .map(|value| (v.field.as_str(), value))
                    .ok_or(v.field.as_str())
            })
            .collect()
    }

    /// The fields that the path binds.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.variables
            .iter()
            .map(|variable| variable.field.as_str())
    }

    /// Two templates with the same shape match the same paths.
    pub fn same_shape(&self, other: &Self) -> bool {
        self.verb == other.verb && self.segments == other.segments
    }

    /// Sorts the more specific template first: literals, then `*`, then `**`.
    pub fn specificity(&self) -> impl Ord + use<> {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0_u8,
            Segment::One => 1,
            Segment::Rest => 2,
        };
        self.segments.iter().map(rank).collect::<Vec<_>>()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The verb follows a `:` in the last segment, outside braces.
fn split_verb(path: &str) -> (&str, Option<&str>) {
    let from = path.rfind(['/', '}']).map_or(0, |at| at + 1);
    match path[from..].find(':') {
        Some(colon) => (&path[..from + colon], Some(&path[from + colon + 1..])),
        None => (path, None),
    }
}

fn segment(text: &str) -> Option<Segment> {
    match text {
        "*" => Some(Segment::One),
        "**" => Some(Segment::Rest),
        "" => None,
        literal if literal.contains(['{', '}', '*', '=']) => None,
        literal => Some(Segment::Literal(literal.to_owned())),
    }
}

/// What follows a segment: nothing, or `/` and the next one.
fn next(rest: &str) -> Option<Option<&str>> {
    match rest {
        "" => Some(None),
        _ => rest.strip_prefix('/').map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(template: &str, path: &str) -> Option<Vec<String>> {
        let template = Template::parse(template).unwrap();
        let path = PathParts::of(path);
        template.matches(&path).then(|| {
            let values = template.capture(&path).unwrap();
            values.into_iter().map(|(_, value)| value).collect()
        })
    }

    #[test]
    fn a_variable_is_one_decoded_segment() {
        let template = "/v1/scans/{scan_id}";
        assert_eq!(
            capture(template, "/v1/scans/a%2Fb"),
            Some(vec!["a/b".into()])
        );
        assert_eq!(
            capture(template, "/v1/scans/%F0%9F%98%80"),
            Some(vec!["😀".into()])
        );
        for path in [
            "/v1/scans",
            "/v1/scans/",
            "/v1/scans/a/b",
            "/v1/scans/a:cancel",
            "/v2/scans/a",
        ] {
            assert_eq!(capture(template, path), None, "{path}");
        }
    }

    #[test]
    fn a_verb_is_matched_exactly() {
        let template = "/v1/scans/{scan_id}:cancel";
        assert_eq!(
            capture(template, "/v1/scans/a:cancel"),
            Some(vec!["a".into()])
        );
        assert_eq!(
            capture(template, "/v1/scans/a%3Ab:cancel"),
            Some(vec!["a:b".into()])
        );
        assert_eq!(capture(template, "/v1/scans/a%3Acancel"), None);
        assert_eq!(capture(template, "/v1/scans/a:cancelled"), None);
        assert_eq!(capture("/v1/scans:plan", "/v1/scans:plan"), Some(vec![]));
        assert_eq!(capture("/v1/scans", "/v1/scans:plan"), None);
    }

    #[test]
    fn a_multi_segment_variable_keeps_an_encoded_slash() {
        let nested = "/v1/{name=files/*}/{part.key}:watch";
        let values = capture(nested, "/v1/files/a%20b%2Fc/d%2Fe:watch");
        assert_eq!(values, Some(vec!["files/a b%2Fc".into(), "d/e".into()]));
        let open = "/v1/{path=files/**}";
        assert_eq!(
            capture(open, "/v1/files/a/b%2fc"),
            Some(vec!["files/a/b%2fc".into()])
        );
        assert_eq!(capture(open, "/v1/files"), Some(vec!["files".into()]));
        assert_eq!(capture(open, "/v1/other/a"), None);
    }

    #[test]
    fn a_value_that_is_not_encoded_text_is_refused() {
        let template = Template::parse("/v1/scans/{scan_id}").unwrap();
        for path in [
            "/v1/scans/%",
            "/v1/scans/%4",
            "/v1/scans/%zz",
            "/v1/scans/%ff",
        ] {
            assert_eq!(
                template.capture(&PathParts::of(path)),
                Err("scan_id"),
                "{path}"
            );
        }
    }

    #[test]
    fn templates_that_are_none_are_refused() {
        for template in [
            "",
            "v1",
            "/",
            "/v1/",
            "/v1//a",
            "/v1/{a",
            "/v1/a}",
            "/v1/{a=**}/b",
            "/v1/{=*}",
            "/v1/{a}/{a}",
            "/v1/{a}b",
            "/v1/a*",
            "/v1/{a={b}}",
        ] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }

    #[test]
    fn shape_and_specificity_ignore_names() {
        let parse = |text| Template::parse(text).unwrap();
        assert!(parse("/v1/{a}/x").same_shape(&parse("/v1/{b}/x")));
        assert!(!parse("/v1/{a}/x").same_shape(&parse("/v1/{b}/x:y")));
        assert!(parse("/v1/scans").specificity() < parse("/v1/{a}").specificity());
        assert!(parse("/v1/{a}").specificity() < parse("/v1/{a=**}").specificity());
    }
}
