//! Which scans use custom probes, and which custom probes a scan may use.

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::Value;

use super::super::{fault::Result, tx::Tx};
use crate::domain::{custom_probe, scan::CustomProbeVersion};

/// Scans that an error names.
const NAMED: usize = 5;

/// Only open scans with custom probes are in the index of this.
const OPEN: &str = "
    SELECT id, custom_probes FROM scans
    WHERE project_id = $1 AND ended_at IS NULL AND custom_probes <> '[]'
    ORDER BY id";

/// Valid versions of probes that are not deleted. Their rows stay so until the scan is made:
/// a delete waits here, and then finds it.
const USABLE: &str = "
    SELECT p.name, v.version, v.sha256 FROM custom_probes p
    JOIN custom_probe_versions v ON v.project_id = p.project_id AND v.name = p.name
    WHERE p.project_id = $1 AND p.deleted_at IS NULL AND v.version >= p.first_version
      AND v.state = 'VALID' AND ({these})
    ORDER BY p.name
    {share}";

/// Refuses when a scan that has not ended is pinned to some version.
pub(crate) async fn require_unused(tx: &Tx, project: &ProjectId, name: &str) -> Result<()> {
    let mut users = Vec::new();
    for row in tx.all(OPEN, [project.as_str().into()]).await? {
        let pinned: serde_json::Value = row.try_get("", "custom_probes")?;
        let pinned: Vec<CustomProbeVersion> = serde_json::from_value(pinned)?;
        if pinned.iter().any(|version| version.name == name) {
            users.push(ScanId(row.try_get("", "id")?));
        }
    }
    if users.is_empty() {
        return Ok(());
    }
    users.truncate(NAMED);
    Err(custom_probe::in_use(name, &users).into())
}

/// Refuses when one of these versions is not valid, or its probe deleted, and keeps them so.
pub(crate) async fn require_usable(
    tx: &Tx,
    project: &ProjectId,
    pinned: &[CustomProbeVersion],
) -> Result<()> {
    if pinned.is_empty() {
        return Ok(());
    }
    let mut values: Vec<Value> = vec![project.as_str().into()];
    let mut these = Vec::new();
    for version in pinned {
        let at = values.len() + 1;
        these.push(format!("(p.name = ${at} AND v.version = ${})", at + 1));
        values.push(version.name.as_str().into());
        values.push(version.version.into());
    }
    let sql = USABLE.replace("{these}", &these.join(" OR "));
    let mut usable = Vec::new();
    for row in tx.all(&sql, values).await? {
        usable.push(CustomProbeVersion {
            name: row.try_get("", "name")?,
            version: row.try_get("", "version")?,
            sha256: row.try_get("", "sha256")?,
        });
    }
    match pinned.iter().find(|version| !usable.contains(version)) {
        Some(version) => Err(custom_probe::not_usable(&version.name, version.version).into()),
        None => Ok(()),
    }
}
