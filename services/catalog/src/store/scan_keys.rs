//! Rows that scans are found by: a row a label, a row a planned probe, a row a pinned source.
//!
//! Whoever makes a scan adds them, whoever purges one removes them; rows without their scan are
//! found by nobody, and only take room.

use std::collections::BTreeSet;

use sea_orm::Value;

use super::{fault::Result, tx::Tx};
use crate::domain::scan::Scan;

/// Rows of one INSERT.
const ROWS: usize = 500;

/// Adds a new scan's labels, probes and sources.
pub(crate) async fn add<'a>(
    tx: &Tx,
    scan: &Scan,
    probes: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    add_labels(tx, scan).await?;
    // A probe in several shards is one.
    let probes: BTreeSet<&str> = probes.into_iter().collect();
    let rows = probes.into_iter().map(|probe| vec![probe.into()]).collect();
    insert(tx, scan, "scan_probes", "probe", rows).await?;
    add_sources(tx, scan).await
}

/// In place of the labels that there are come the scan's. The scan is locked.
pub(crate) async fn replace_labels(tx: &Tx, scan: &Scan) -> Result<()> {
    remove_labels(tx, scan).await?;
    add_labels(tx, scan).await
}

/// Removes what [`add`] added, in three statements; the scan's tasks must still be there. For the
/// purge of a scan.
pub(crate) async fn remove(tx: &Tx, scan: &Scan) -> Result<()> {
    remove_labels(tx, scan).await?;
    const PROBES: &str = "
        DELETE FROM scan_probes WHERE project_id = $1 AND scan_id = $2 AND created_at = $3
          AND probe IN (SELECT probe FROM tasks WHERE project_id = $1 AND scan_id = $2
            UNION SELECT probe FROM probe_results WHERE project_id = $1 AND scan_id = $2)";
    tx.execute(PROBES, of_scan(scan)).await?;
    remove_sources(tx, scan).await
}

/// Sources are kept as long as a scan is pinned to them.
async fn add_sources(tx: &Tx, scan: &Scan) -> Result<()> {
    const SOURCE: &str = "
        INSERT INTO scan_sources (project_id, sha256, scan_id) VALUES ($1, $3, $2)
        ON CONFLICT (project_id, sha256, scan_id) DO NOTHING";
    for version in &scan.custom_probes {
        let [project, id, _] = of_scan(scan);
        let source = version.sha256.as_str().into();
        tx.execute(SOURCE, [project, id, source]).await?;
    }
    Ok(())
}

async fn remove_sources(tx: &Tx, scan: &Scan) -> Result<()> {
    const SOURCE: &str = "
        DELETE FROM scan_sources WHERE project_id = $1 AND scan_id = $2 AND sha256 = $3";
    for version in &scan.custom_probes {
        let [project, id, _] = of_scan(scan);
        let source = version.sha256.as_str().into();
        tx.execute(SOURCE, [project, id, source]).await?;
    }
    Ok(())
}

async fn add_labels(tx: &Tx, scan: &Scan) -> Result<()> {
    let labels = scan.labels.iter();
    let rows = labels
        .map(|(key, value)| vec![key.as_str().into(), value.as_str().into()])
        .collect();
    insert(tx, scan, "scan_labels", "key, value", rows).await
}

async fn remove_labels(tx: &Tx, scan: &Scan) -> Result<()> {
    // The key begins with key and value: those that the scan's row has.
    const LABELS: &str = "
        DELETE FROM scan_labels WHERE project_id = $1 AND scan_id = $2 AND created_at = $3
          AND (key, value) IN (SELECT l.key, l.value FROM scans s CROSS JOIN {labels} l
            WHERE s.project_id = $1 AND s.id = $2)";
    tx.execute(LABELS, of_scan(scan)).await?;
    Ok(())
}

fn of_scan(scan: &Scan) -> [Value; 3] {
    [
        scan.project.as_str().into(),
        scan.id.0.into(),
        scan.created_at.into(),
    ]
}

async fn insert(
    tx: &Tx,
    scan: &Scan,
    table: &str,
    columns: &str,
    mut rows: Vec<Vec<Value>>,
) -> Result<()> {
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(ROWS));
        let mut values: Vec<Value> = of_scan(scan).into();
        let mut tuples = Vec::new();
        for row in rows {
            let first = values.len() + 1;
            let places: Vec<String> = (first..first + row.len())
                .map(|place| format!("${place}"))
                .collect();
            tuples.push(format!("($1, $2, $3, {})", places.join(", ")));
            values.extend(row);
        }
        let sql = format!(
            "INSERT INTO {table} (project_id, scan_id, created_at, {columns}) VALUES {}",
            tuples.join(", ")
        );
        tx.execute(&sql, values).await?;
        rows = rest;
    }
    Ok(())
}
