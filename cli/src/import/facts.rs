//! What a report says of its run in its first and its last lines.

use aegis_mesh::Result;
use jiff::tz::TimeZone;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    content::{Content, Opened, ReadError},
    time,
};

/// garak's first lines are some kilobytes long.
const HEAD_BYTES: u64 = 256 << 10;
/// The digest behind the line that is looked for grows with the probes.
const TAIL_BYTES: u64 = 2 << 20;

/// What is known of a run.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Some line of the first is one of garak's.
    pub(super) is_garaks: bool,
    pub(super) run_id: Option<Uuid>,
    pub(super) start: Option<prost_types::Timestamp>,
    pub(super) end: Option<prost_types::Timestamp>,
    /// The file's.
    pub(super) modified: Option<prost_types::Timestamp>,
}

#[derive(Deserialize)]
struct Line {
    entry_type: String,
    run: Option<String>,
    start_time: Option<String>,
    end_time: Option<String>,
    #[serde(rename = "transient.run_id")]
    run_id: Option<String>,
    #[serde(rename = "transient.starttime_iso")]
    start_time_iso: Option<String>,
}

/// Reads both ends of a report.
pub(super) async fn read(content: &Content, zone: &TimeZone) -> Result<Facts, ReadError> {
    let mut opened = content.open().await?;
    let mut facts = Facts {
        modified: opened.modified.and_then(time::of_system),
        ..Facts::default()
    };
    let head = opened.piece(0, HEAD_BYTES).await?;
    for line in lines(&head) {
        facts.is_garaks = true;
        let ids = [line.run_id, line.run].into_iter().flatten();
        let mut ids = ids.filter_map(|text| Uuid::try_parse(&text).ok());
        facts.run_id = facts.run_id.or_else(|| ids.next());
        let time = |text: Option<String>| text.and_then(|text| time::parse(&text, zone));
        // What garak itself says wins over what its configuration says.
        let (said, set) = (time(line.start_time), time(line.start_time_iso));
        facts.start = said.or(facts.start).or(set);
        if line.entry_type == "attempt" {
            break;
        }
    }
    facts.end = end(&mut opened, zone).await?;
    Ok(facts)
}

async fn end(
    opened: &mut Opened,
    zone: &TimeZone,
) -> Result<Option<prost_types::Timestamp>, ReadError> {
    let from = opened.size.saturating_sub(TAIL_BYTES);
    let tail = opened.piece(from, TAIL_BYTES).await?;
    let completed = lines(&tail).filter(|line| line.entry_type == "completion");
    let last = completed.filter_map(|line| line.end_time).last();
    Ok(last.and_then(|text| time::parse(&text, zone)))
}

/// The lines that are whole and garak's. A report of another encoding or shape has none.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Line> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok())
}

/// An id for a report that has none: the same for the same bytes.
pub(super) async fn derived_id(content: &Content) -> Result<Uuid, ReadError> {
    let mut chunks = content.open().await?.chunks().await?;
    let mut hash = Sha256::new();
    while let Some(chunk) = chunks.next().await? {
        hash.update(&chunk);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    // Version 8 (RFC 9562): bytes of one's own making.
    Ok(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn report(version: &str) -> Content {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../crates/report/tests/data/versions"
        );
        Content::File(PathBuf::from(format!("{folder}/{version}.report.jsonl")))
    }

    async fn facts(version: &str) -> Facts {
        read(&report(version), &TimeZone::UTC).await.unwrap()
    }

    #[tokio::test]
    async fn both_ends_are_read_whatever_the_version() {
        for version in ["0.9.0.6", "0.10.3", "0.12.0", "0.13.1", "0.14.0", "0.17.1"] {
            let facts = facts(version).await;
            assert!(facts.is_garaks && facts.modified.is_some(), "{version}");
            let id = facts.run_id.unwrap().to_string();
            assert_eq!(id, "0b2c8e0e-0000-4000-8000-000000000009", "{version}");
            assert_eq!(facts.start.unwrap().seconds, 1_714_557_601, "{version}");
            assert_eq!(facts.end.is_some(), version != "0.9.0.6", "{version}");
        }
    }

    #[tokio::test]
    async fn what_is_no_report_says_so_and_its_id_follows_its_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{1f980}\n{\"a\": 1}\n[]\n").unwrap();
        let content = Content::File(file.path().to_owned());
        let facts = read(&content, &TimeZone::UTC).await.unwrap();
        assert!(!facts.is_garaks && facts.run_id.is_none());
        let id = derived_id(&content).await.unwrap();
        assert_eq!(id, derived_id(&content).await.unwrap());
        assert_ne!(id, derived_id(&report("0.14.0")).await.unwrap());
        assert_eq!(id.get_version_num(), 8);
    }
}
