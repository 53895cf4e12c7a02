//! A deleted scan is taken apart once its purge time is over: first it stops to count, in one
//! transaction; then its rows go in bounded steps; its own row goes last, when no file is left.

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::Value;
use uuid::Uuid;

use super::{
    super::{Store, fault::Result, key, scan_keys, scans, statistics, tx::Tx},
    done,
};
use crate::domain::{
    keeping::{Step, Swept},
    scan::Scan,
};

pub(super) const NEXT_SCAN: &str = "
    SELECT id, purge_at FROM scans
    WHERE project_id = $1 AND purge_at IS NOT NULL AND purge_at <= $2 AND (purge_at, id) > ($3, $4)
    ORDER BY purge_at, id LIMIT 1";

const BEGUN: &str = "
    SELECT 1 FROM scans WHERE project_id = $1 AND id = $2 AND purge_begun_at IS NOT NULL";
const BEGIN: &str = "
    UPDATE scans SET purge_begun_at = {now} WHERE project_id = $1 AND id = $2";
const RESULTS: &str = "DELETE FROM probe_results WHERE project_id = $1 AND scan_id = $2";

/// Each leaves nothing to do when it changes fewer rows than it may. Tasks come last: others
/// refer to them.
pub(super) const STEPS: [(&str, &str); 4] = [
    (
        "events",
        "DELETE FROM scan_events WHERE project_id = $1 AND scan_id = $2 AND sequence IN (
            SELECT sequence FROM scan_events WHERE project_id = $1 AND scan_id = $2
            ORDER BY sequence LIMIT $3)",
    ),
    (
        "marked",
        "UPDATE artifacts SET state = 'DELETING', marked_at = {now}
         WHERE project_id = $1 AND id IN (
            SELECT id FROM artifacts
            WHERE project_id = $1 AND scan_id = $2 AND state <> 'DELETING' LIMIT $3)",
    ),
    (
        "runs",
        "DELETE FROM task_runs WHERE project_id = $1 AND (task_id, epoch) IN (
            SELECT r.task_id, r.epoch FROM tasks t
            JOIN task_runs r ON r.project_id = t.project_id AND r.task_id = t.id
            WHERE t.project_id = $1 AND t.scan_id = $2 LIMIT $3)",
    ),
    (
        "tasks",
        "DELETE FROM tasks WHERE project_id = $1 AND id IN (
            SELECT id FROM tasks WHERE project_id = $1 AND scan_id = $2 LIMIT $3)",
    ),
];

/// Its files' rows go when their objects are gone.
const LAST: &str = "
    DELETE FROM scans WHERE project_id = $1 AND id = $2 AND NOT EXISTS (
        SELECT 1 FROM artifacts a WHERE a.project_id = $1 AND a.scan_id = $2)";

impl Store {
    /// A step of one scan.
    pub(super) async fn purge(&self, project: &ProjectId, step: &Step) -> Result<Swept> {
        let (purge_at, after) = step.position((i64::MIN, Uuid::nil()))?;
        let mut tx = self.step(step).await?;
        let mut swept = Swept::default();
        let now = tx.now().await?;
        let next: [Value; 4] = [
            project.as_str().into(),
            now.into(),
            purge_at.into(),
            after.into(),
        ];
        let Some(row) = tx.one(NEXT_SCAN, next).await? else {
            return Ok(swept);
        };
        let id = ScanId(row.try_get("", "id")?);
        swept.go_on(&(row.try_get::<i64>("", "purge_at")?, id.0))?;
        if step.dry_run {
            would_purge(&tx, project, id, &mut swept).await?;
            return Ok(swept);
        }
        let scan = scans::lock(&tx, project, id).await?;
        // Nobody restores it from its purge time on.
        let Some(scan) = scan.filter(|scan| scan.purge_at.is_some_and(|at| at <= now)) else {
            return Ok(swept);
        };
        if purge_step(&mut tx, &scan, step, &mut swept).await? {
            swept.next.clone_from(&step.after);
            if swept.next.is_empty() {
                swept.go_on(&(i64::MIN, Uuid::nil()))?;
            }
        }
        done(tx, step, swept).await
    }
}

async fn would_purge(tx: &Tx, project: &ProjectId, id: ScanId, swept: &mut Swept) -> Result<()> {
    // Those that only wait for their files to be deleted were counted before.
    if tx.one(BEGUN, key(project, id.0)).await?.is_none() {
        swept.count("purged", 1);
        swept
            .details
            .push(format!("purge scan {id}: its time to be restored is over"));
    }
    Ok(())
}

/// Does what comes next; whether there is more to do now.
async fn purge_step(tx: &mut Tx, scan: &Scan, step: &Step, swept: &mut Swept) -> Result<bool> {
    let of_scan = key(&scan.project, scan.id.0);
    if tx.one(BEGUN, of_scan.clone()).await?.is_none() {
        statistics::retract(tx, scan).await?;
        // Probes are found by tasks and results, so before these.
        scan_keys::remove(tx, scan).await?;
        tx.execute(RESULTS, of_scan.clone()).await?;
        tx.execute(BEGIN, of_scan).await?;
        swept.count("purged", 1);
        swept.details.push(format!(
            "purge scan {}: its time to be restored is over",
            scan.id
        ));
        tx.wake_scan(scan.id);
        return Ok(true);
    }
    let mut room = step.rows();
    for (what, statement) in STEPS {
        let rows = of_scan.clone().into_iter().chain([room.into()]);
        let changed = i64::try_from(tx.execute(statement, rows).await?).unwrap_or(i64::MAX);
        swept.count(what, changed);
        room -= changed;
        if room <= 0 {
            return Ok(true);
        }
    }
    let gone = tx.execute(LAST, of_scan).await?;
    swept.count("scans", i64::try_from(gone).unwrap_or(i64::MAX));
    Ok(false)
}
