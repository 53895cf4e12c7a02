//! What the rows say, in the model's words.

use std::collections::BTreeMap;

use aegis_catalog::domain::{
    artifact::ArtifactName,
    scan::{ReportState, ScanState},
    task::TaskState,
};
use aegis_proto::ids::ScanId;
use sea_orm::QueryResult;
use uuid::Uuid;

use crate::{
    reference::{Entry, FileKey, FileState, Model, Rest, Scan},
    world::World,
};

/// A scan as both sides see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    state: ScanState,
    report: ReportState,
    revision: i64,
    cancelled: bool,
    deleted: bool,
    /// State, epoch, failures, calls, revision that has it.
    tasks: Vec<(TaskState, i64, i64, i64, i64)>,
    /// By probe, the epoch whose results are committed.
    results: BTreeMap<usize, i64>,
    log: Vec<Entry>,
    logged: i64,
}

/// Everything as both sides see it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) scans: BTreeMap<usize, Seen>,
    pub(crate) files: Vec<(FileKey, &'static str)>,
}

impl View {
    pub(crate) fn of_model(model: &Model) -> Self {
        let there = model.scans.iter().enumerate();
        let there = there.filter(|(_, scan)| scan.rest != Rest::Nothing);
        let state = |file: &FileState| match file {
            FileState::Staged => "STAGED",
            FileState::Uploaded => "UPLOADED",
            FileState::Committed => "COMMITTED",
            FileState::Deleting(_) => "DELETING",
        };
        let files = model.files.iter().map(|((scan, task, epoch, name), file)| {
            let gone = model.scans[*scan].rest != Rest::All;
            let task = if gone { GONE } else { *task };
            ((*scan, task, *epoch, *name), state(file))
        });
        let mut files: Vec<_> = files.collect();
        files.sort_unstable();
        Self {
            scans: there.map(|(index, scan)| (index, seen(scan))).collect(),
            files,
        }
    }

    pub(crate) async fn of_store(world: &World, ids: &[ScanId]) -> Self {
        let mut tasks = BTreeMap::new();
        let mut view = Self {
            scans: BTreeMap::new(),
            files: Vec::new(),
        };
        for row in world.sql(SCANS, vec![]).await {
            view.scans.insert(index(ids, &row), seen_scan(&row));
        }
        for row in world.sql(TASKS, vec![]).await {
            let scan = view.scans.get_mut(&index(ids, &row)).unwrap();
            let id: Uuid = row.try_get("", "id").unwrap();
            tasks.insert(id, scan.tasks.len());
            scan.tasks.push((
                word(&row, "state"),
                number(&row, "epoch"),
                number(&row, "failures"),
                number(&row, "granted"),
                number(&row, "composed_revision"),
            ));
        }
        for row in world.sql(EVENTS, vec![]).await {
            let scan = view.scans.get_mut(&index(ids, &row)).unwrap();
            let task: Option<Uuid> = row.try_get("", "task_id").unwrap();
            let run = task.map(|task| (tasks[&task], number(&row, "epoch")));
            scan.log.push((text(&row, "what").into(), run));
        }
        for row in world.sql(RESULTS, vec![]).await {
            let scan = view.scans.get_mut(&index(ids, &row)).unwrap();
            let probe: usize = text(&row, "probe")["test.Probe".len()..].parse().unwrap();
            let before = scan.results.insert(probe, number(&row, "passed"));
            assert_eq!(before, None, "two results of a probe");
        }
        view.files(world, ids, &tasks).await;
        view
    }

    /// A file's key says whose it is, also when its task is gone.
    async fn files(&mut self, world: &World, ids: &[ScanId], known: &BTreeMap<Uuid, usize>) {
        for row in world.sql(FILES, vec![]).await {
            let task: Uuid = row.try_get("", "task_id").unwrap();
            let name: ArtifactName = text(&row, "name").parse().unwrap();
            let state: &'static str = match text(&row, "state").as_str() {
                "STAGED" => "STAGED",
                "UPLOADED" => "UPLOADED",
                "COMMITTED" => "COMMITTED",
                "DELETING" => "DELETING",
                other => panic!("{other}"),
            };
            let task = known.get(&task).copied();
            let key = (
                index(ids, &row),
                task.unwrap_or(GONE),
                number(&row, "epoch"),
            );
            self.files
                .push(((key.0, key.1, key.2, name.as_str()), state));
        }
        self.files.sort_unstable();
    }
}

/// A file's task that was purged.
const GONE: usize = usize::MAX;

fn seen(scan: &Scan) -> Seen {
    let all = scan.rest == Rest::All;
    let tasks = scan.tasks.iter().filter(|_| all);
    let done = scan
        .tasks
        .iter()
        .enumerate()
        .filter(|(_, task)| all && task.probe && task.state == TaskState::Done);
    Seen {
        state: scan.state,
        report: scan.report,
        revision: scan.revision as i64,
        cancelled: scan.cancelled,
        deleted: scan.purge_at.is_some(),
        results: done.map(|(index, task)| (index, task.epoch)).collect(),
        tasks: tasks
            .map(|task| {
                let composed = task.composed as i64;
                (task.state, task.epoch, task.failures, task.calls, composed)
            })
            .collect(),
        log: scan.log.clone(),
        logged: scan.logged,
    }
}

const SCANS: &str = "
    SELECT id AS scan_id, state, report_state, report_ready_revision, last_sequence,
        cancel_requested_at IS NOT NULL AS cancelled, deleted_at IS NOT NULL AS deleted
    FROM scans";
const TASKS: &str = "
    SELECT scan_id, id, state, epoch, failures, granted, composed_revision FROM tasks
    ORDER BY scan_id, kind, revision, ordinal";
const EVENTS: &str = "
    SELECT scan_id, task_id, COALESCE(epoch, 0) AS epoch,
        kind || COALESCE(' ' || (payload ->> '$.payload.to'), '') AS what
    FROM scan_events ORDER BY scan_id, sequence";
const RESULTS: &str = "SELECT scan_id, probe, passed FROM probe_results";
const FILES: &str = "SELECT scan_id, task_id, epoch, name, state FROM artifacts";

fn seen_scan(row: &QueryResult) -> Seen {
    Seen {
        state: word(row, "state"),
        report: word(row, "report_state"),
        revision: number(row, "report_ready_revision"),
        cancelled: number(row, "cancelled") == 1,
        deleted: number(row, "deleted") == 1,
        tasks: Vec::new(),
        results: BTreeMap::new(),
        log: Vec::new(),
        logged: number(row, "last_sequence"),
    }
}

fn index(ids: &[ScanId], row: &QueryResult) -> usize {
    let id: Uuid = row.try_get("", "scan_id").unwrap();
    ids.iter().position(|known| known.0 == id).unwrap()
}

fn number(row: &QueryResult, column: &str) -> i64 {
    row.try_get("", column).unwrap()
}

fn text(row: &QueryResult, column: &str) -> String {
    row.try_get("", column).unwrap()
}

fn word<T: std::str::FromStr<Err: std::fmt::Debug>>(row: &QueryResult, column: &str) -> T {
    text(row, column).parse().unwrap()
}
