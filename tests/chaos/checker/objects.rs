//! The object store, held against the database.

use std::collections::{BTreeMap, BTreeSet};

use aegis_artifact::{
    config::MinioConfig,
    domain::key::ObjectKey,
    store::{ObjectStore, S3Store, read_range},
};
use aegis_mesh::Secret;
use aegis_report::{Options, Tally};
use aegis_tests::cluster::Cluster;
use anyhow::{Context, Result};
use sea_orm::ConnectionTrait;
use sha2::{Digest, Sha256};

use super::{Violation, rows::query};

const PAGE: usize = 1_000;

/// Files that readers may ask for.
const COMMITTED: &str = "
    SELECT object_key, sha256, size FROM artifacts WHERE state = 'COMMITTED'";
/// All keys that somebody knows.
const KNOWN: &str = "
    SELECT object_key FROM artifacts UNION ALL SELECT object_key FROM garbage
    UNION ALL SELECT object_key FROM sources";
/// Each committed report that has a probe that is done: its own part, and the scan's.
const REPORTS: &str = "
    SELECT t.id::text AS task, t.scan_id::text AS scan, t.probe, a.object_key,
        s.effective_eval_threshold
    FROM tasks t JOIN scans s ON s.id = t.scan_id
    JOIN artifacts a ON a.scan_id = t.scan_id AND a.name = 'report.jsonl' AND a.state = 'COMMITTED'
        AND (a.task_id = t.id AND a.epoch = t.epoch
            OR t.composed_revision > 0 AND a.revision >= t.composed_revision)
    WHERE t.kind = 'PROBE' AND t.state = 'DONE'";
const RESULTS: &str = "
    SELECT scan_id::text AS scan, probe, detector, passed, failed, nones FROM probe_results";

/// Passed, failed and nones by detector.
type Counts = BTreeMap<String, [i64; 3]>;

/// The cluster's store, as its owner sees it.
pub(crate) fn store(cluster: &Cluster) -> Result<S3Store> {
    let (endpoint, bucket, keys) = cluster.store();
    Ok(S3Store::open(&MinioConfig {
        endpoint,
        bucket: bucket.to_owned(),
        access_key: Some(Secret::new(keys.access)),
        secret_key: Some(Secret::new(keys.secret)),
        ..MinioConfig::default()
    })?)
}

/// Bytes of what is committed, by key; and what is wrong with them.
pub(crate) async fn check(
    database: &impl ConnectionTrait,
    store: &S3Store,
) -> Result<Vec<Violation>> {
    let mut found = Vec::new();
    let mut files = BTreeMap::new();
    for row in query(database, COMMITTED, []).await? {
        let key: String = row.try_get("", "object_key")?;
        let size = u64::try_from(row.try_get::<i64>("", "size")?)?;
        let sha256: String = row.try_get("", "sha256")?;
        match bytes(store, &key, size).await? {
            None => found.push(Violation::new("a committed file has no object", key)),
            Some(bytes) if hex::encode(Sha256::digest(&bytes)) != sha256 => {
                found.push(Violation::new("an object is not what was committed", key));
            }
            Some(bytes) => drop(files.insert(key, bytes)),
        }
    }
    found.extend(tallies(database, &files).await?);
    found.extend(strangers(database, store).await?);
    Ok(found)
}

/// The whole object, if it is there and has this size.
async fn bytes(store: &S3Store, key: &str, size: u64) -> Result<Option<Vec<u8>>> {
    let key = ObjectKey::parse(key)?;
    match store.stat(&key).await? {
        Some(found) if found == size => Ok(Some(read_range(store, &key, 0..size).await?)),
        _ => Ok(None),
    }
}

/// Each probe that is done has exactly the results that its committed reports say, read anew.
async fn tallies(
    database: &impl ConnectionTrait,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<Violation>> {
    let mut results = BTreeMap::<(String, String), Counts>::new();
    for row in query(database, RESULTS, []).await? {
        let of = (row.try_get("", "scan")?, row.try_get("", "probe")?);
        let counts = ["passed", "failed", "nones"].map(|column| row.try_get("", column));
        let [passed, failed, nones] = counts;
        let detector = row.try_get("", "detector")?;
        let place = results.entry(of).or_default();
        place.insert(detector, [passed?, failed?, nones?]);
    }
    let mut found = Vec::new();
    let mut compared = BTreeSet::new();
    for row in query(database, REPORTS, []).await? {
        let key: String = row.try_get("", "object_key")?;
        // Said above already.
        let Some(bytes) = files.get(&key) else {
            continue;
        };
        let options = Options {
            eval_threshold: row.try_get("", "effective_eval_threshold")?,
            ..Options::default()
        };
        let report = aegis_report::read(&bytes[..], options).context(key.clone())?;
        let probe: String = row.try_get("", "probe")?;
        let said = counts(&report.tally, &probe);
        compared.insert(row.try_get::<String>("", "task")?);
        let of = (row.try_get("", "scan")?, probe);
        if results.get(&of) != Some(&said) {
            let what = "results are not those of a committed report";
            let id = format!("{of:?} {key}: {:?}, not {said:?}", results.get(&of));
            found.push(Violation::new(what, id));
        }
    }
    let done = "SELECT id::text AS id FROM tasks WHERE kind = 'PROBE' AND state = 'DONE'";
    for row in query(database, done, []).await? {
        let task: String = row.try_get("", "id")?;
        if !compared.contains(&task) {
            let what = "a probe is done, but no report that can be read has it";
            found.push(Violation::new(what, task));
        }
    }
    Ok(found)
}

fn counts(tally: &Tally, probe: &str) -> Counts {
    let detectors = tally.probes.get(probe).map(|probe| &probe.detectors);
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let detectors = detectors.into_iter().flatten();
    detectors
        .map(|(name, tally)| {
            let counts = [tally.passed, tally.failed, tally.nones];
            (name.clone(), counts.map(number))
        })
        .collect()
}

/// Objects that nobody knows.
async fn strangers(database: &impl ConnectionTrait, store: &S3Store) -> Result<Vec<Violation>> {
    let mut known = BTreeSet::new();
    for row in query(database, KNOWN, []).await? {
        known.insert(row.try_get_by_index::<String>(0)?);
    }
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list("", after.as_deref(), PAGE).await?;
        for object in &page {
            let key = object.key.as_str();
            let row = key.strip_suffix(".index").unwrap_or(key);
            if !known.contains(row) {
                found.push(Violation::new("an object has no row", key));
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.as_str().to_owned()),
            _ => return Ok(found),
        }
    }
}
