//! The files that a run leaves.

use std::{fmt, str::FromStr};

use aegis_mesh::Error;
use aegis_proto::ids::ScanId;

/// A file that a run leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArtifactName {
    /// garak's `report.jsonl`.
    Report,
    /// garak's `hitlog.jsonl`; only there when something was hit.
    Hitlog,
    /// The page that garak's report writer made.
    Html,
    /// garak's digest line alone, on its way into the report. Never public.
    Digest,
}

impl ArtifactName {
    /// What users can list and download.
    pub const PUBLIC: [Self; 3] = [Self::Report, Self::Hitlog, Self::Html];
    const ALL: [Self; 4] = [Self::Report, Self::Hitlog, Self::Html, Self::Digest];

    /// The name in contracts and object keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report.jsonl",
            Self::Hitlog => "hitlog.jsonl",
            Self::Html => "report.html",
            Self::Digest => "digest.json",
        }
    }

    /// The media type of its bytes.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Report | Self::Hitlog => "application/x-ndjson",
            Self::Html => "text/html; charset=utf-8",
            Self::Digest => "application/json",
        }
    }

    /// What a download is called: garak's own file names with the prefix `garak.{scan}`.
    pub fn file_name(self, scan: &ScanId) -> String {
        format!("{}.{}", report_prefix(scan), self.as_str())
    }

    /// Whether users can list and download it.
    pub fn is_public(self) -> bool {
        Self::PUBLIC.contains(&self)
    }

    /// The name of a file that users can download.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, naming those there are.
    pub fn parse_public(text: &str) -> aegis_mesh::Result<Self> {
        Self::find(text, &Self::PUBLIC)
    }

    fn find(text: &str, allowed: &[Self]) -> aegis_mesh::Result<Self> {
        if let Some(name) = allowed.iter().find(|name| name.as_str() == text) {
            return Ok(*name);
        }
        let names: Vec<_> = allowed.iter().map(|name| name.as_str()).collect();
        let given: String = text.chars().take(64).collect();
        let message = format!("{given:?} is not one of {}", names.join(", "));
        Err(Error::invalid_argument("INVALID_FIELD", message.clone()).field("name", message))
    }
}

impl FromStr for ArtifactName {
    type Err = Error;

    fn from_str(text: &str) -> aegis_mesh::Result<Self> {
        Self::find(text, &Self::ALL)
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// garak's `reporting.report_prefix` of a scan's report.
pub fn report_prefix(scan: &ScanId) -> String {
    format!("garak.{scan}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_read_as_it_is_written() {
        for name in ArtifactName::ALL {
            assert_eq!(name.as_str().parse::<ArtifactName>().unwrap(), name);
        }
    }

    #[test]
    fn the_digest_is_never_public() {
        let error = ArtifactName::parse_public("digest.json").unwrap_err();
        assert_eq!(error.reason(), "INVALID_FIELD");
        assert!(
            error
                .message()
                .contains("report.jsonl, hitlog.jsonl, report.html")
        );
    }
}
