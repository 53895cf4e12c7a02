//! A scan that ran elsewhere becomes one like any other: what it was, what was found, and tasks
//! that are done, so that whatever reads scans reads it.

use std::collections::{BTreeMap, BTreeSet};

use aegis_proto::ids::{ArtifactId, Epoch, ProjectId, ScanId, TaskId};
use serde_json::Value;

use super::{
    artifact::{ArtifactName, Checksum},
    event::{Event, Log},
    hint,
    scan::{Failure, Original, ReportState, ReportStatus, Scan, ScanState, Totals},
    tally::{Grades, Tally, TallyRow},
};

/// The lane of scans that nothing runs of.
pub const LANE: &str = "imported";
/// The one run of an import's task.
pub const EPOCH: Epoch = Epoch(1);
/// The revision of its report.
pub const REVISION: i32 = 1;
/// Stands for a probe or a detector that nothing names.
pub const UNKNOWN: &str = "unknown";

/// Why a probe has no results.
const NOTHING_EVALUATED: &str = "NOTHING_EVALUATED";
/// Why nothing is known of a scan's probes.
const REPORT_LOST: &str = "REPORT_LOST";
/// Why a scan failed that failed where it ran.
const FAILED_BEFORE_IMPORT: &str = "FAILED_BEFORE_IMPORT";

/// What is known beside the report; what is not set comes from it.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// What its user called it.
    pub display_name: String,
    /// COMPLETED, FAILED or CANCELLED.
    pub state: Option<ScanState>,
    /// Why it failed.
    pub failure_message: String,
    /// Unix milliseconds, as all times here.
    pub created_at: Option<i64>,
    /// When its first probe began.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Its user's labels.
    pub labels: BTreeMap<String, String>,
    /// What it had where it ran.
    pub original: Original,
    /// Passed and failed by category, of a scan whose report is lost.
    pub counts: BTreeMap<String, (i64, i64)>,
    /// Probes that its options name, for a scan of which nothing else does.
    pub probes: Vec<String>,
}

/// What its report says.
#[derive(Debug, Clone)]
pub struct Report {
    /// The version of garak that ran.
    pub garak_version: String,
    /// When the run began.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// The run's seed; 0 without one.
    pub seed: i64,
    /// What its attempts were indexed with.
    pub eval_threshold: f64,
    /// Probes and their completed attempts, in the report's order.
    pub probes: Vec<(String, i64)>,
    /// Counts and grades.
    pub tally: Tally,
}

/// A file of it, whose bytes are stored.
#[derive(Debug, Clone)]
pub struct File {
    /// Its row; `None` in a dry run.
    pub artifact: Option<ArtifactId>,
    /// Its name.
    pub name: ArtifactName,
    /// Its bytes.
    pub checksum: Checksum,
}

/// A scan to be taken in.
#[derive(Debug, Clone)]
pub struct Import {
    /// Its id, as it was where it ran.
    pub id: ScanId,
    /// As proto3 JSON of `aegis.scan.v1.ScanSpec`.
    pub spec: Value,
    /// The target's type.
    pub target_type: String,
    /// The target's name.
    pub target_name: String,
    /// Who takes it in.
    pub created_by: String,
    /// What is known beside the report.
    pub header: Header,
    /// The task that its files were staged for.
    pub task: TaskId,
    /// Its files.
    pub files: Vec<File>,
    /// `None`: it is lost.
    pub report: Option<Report>,
    /// Checks everything, keeps nothing.
    pub dry_run: bool,
}

impl Import {
    /// What its report's bytes are.
    pub fn report_checksum(&self) -> Option<&Checksum> {
        let mut files = self.files.iter();
        let report = files.find(|file| file.name == ArtifactName::Report)?;
        Some(&report.checksum)
    }
}

/// A probe of an imported scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// "dan.AntiDAN".
    pub name: String,
    /// Completed attempts.
    pub attempts: i64,
    /// Reason and message, when nothing of it was scored.
    pub not_evaluated: Option<(String, String)>,
}

/// All that becomes visible of it at once.
#[derive(Debug)]
pub struct Planned {
    /// The scan.
    pub scan: Scan,
    /// Its probes, in its order.
    pub probes: Vec<Probe>,
    /// Its results.
    pub results: Vec<TallyRow>,
    /// What happened when it began.
    pub began: Log,
    /// What happened when it ended.
    pub ended: Log,
    /// What was not taken over as it was.
    pub warnings: Vec<String>,
}

/// The scan and what belongs to it. `now` is the end of what can have happened.
pub fn plan(project: &ProjectId, import: &Import, now: i64) -> Planned {
    let mut warnings = Vec::new();
    let results = results(import);
    let probes = probes(import, &results);
    let evaluated = probes.iter().filter(|probe| probe.not_evaluated.is_none());
    let evaluated = count(evaluated.count());
    let times = times(import, now, &mut warnings);
    let (state, failure) = verdict(import, evaluated, &mut warnings);
    let attempts = probes.iter().map(|probe| probe.attempts).sum();
    let mut scan = Scan {
        project: project.clone(),
        planned: count(probes.len()),
        evaluated,
        not_evaluated: count(probes.len()) - evaluated,
        totals: totals(&results),
        attempts_done: attempts,
        attempts_total: attempts,
        report: report_status(import),
        defcon: defcon(&results),
        state,
        failure,
        created_at: times.created,
        started_at: times.started,
        ended_at: Some(times.ended),
        ..empty(project, import)
    };
    scan.original = Some(import.header.original.clone());
    let (began, ended) = logs(import, &scan);
    Planned {
        scan,
        probes,
        results,
        began,
        ended,
        warnings,
    }
}

/// The scan with what nothing has to be found out for.
fn empty(project: &ProjectId, import: &Import) -> Scan {
    let header = &import.header;
    let report = import.report.as_ref();
    Scan {
        project: project.clone(),
        id: import.id,
        display_name: header.display_name.clone(),
        spec: import.spec.clone(),
        target_type: import.target_type.clone(),
        target_name: import.target_name.clone(),
        priority: 50,
        labels: header.labels.clone(),
        garak_version: report.map_or_else(String::new, |report| report.garak_version.clone()),
        plugin_catalogue: String::new(),
        effective_seed: report.map_or(0, |report| report.seed),
        effective_eval_threshold: report.map_or(0.5, |report| report.eval_threshold),
        max_in_flight: 1,
        lane: LANE.to_owned(),
        created_by: import.created_by.clone(),
        state: ScanState::Completed,
        cancel_requested_at: None,
        paused_at: None,
        in_flight: 0,
        queued: 0,
        running: 0,
        report_queued: false,
        waiting_noted: false,
        planned: 0,
        evaluated: 0,
        not_evaluated: 0,
        totals: Totals::default(),
        attempts_done: 0,
        attempts_total: 0,
        report: ReportStatus::default(),
        failure: None,
        last_sequence: 0,
        created_at: 0,
        started_at: None,
        ended_at: None,
        deleted_at: None,
        purge_at: None,
        template: String::new(),
        template_version: 0,
        defcon: None,
        custom_probes: Vec::new(),
        imported: true,
        original: None,
    }
}

fn count(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

/// The report's counts, or those that are left of it.
fn results(import: &Import) -> Vec<TallyRow> {
    let Some(report) = &import.report else {
        let counts = import.header.counts.iter();
        let counted = counts.filter(|(_, (passed, failed))| passed + failed > 0);
        let row = |(category, (passed, failed)): (&String, &(i64, i64))| TallyRow {
            probe: category.clone(),
            detector: UNKNOWN.to_owned(),
            passed: *passed,
            failed: *failed,
            evaluated: passed + failed,
            ..TallyRow::default()
        };
        return counted.map(row).collect();
    };
    report.tally.rows.clone()
}

fn probes(import: &Import, results: &[TallyRow]) -> Vec<Probe> {
    let scored = results.iter().filter(|row| row.evaluated > 0);
    let scored: BTreeSet<&str> = scored.map(|row| row.probe.as_str()).collect();
    let probe = |name: &str, attempts, why: &(String, String)| Probe {
        name: name.to_owned(),
        attempts,
        not_evaluated: (!scored.contains(name)).then(|| why.clone()),
    };
    let why = |reason: &str, message: &str| (reason.to_owned(), message.to_owned());
    if let Some(report) = &import.report {
        let why = why(NOTHING_EVALUATED, "the report has no score of this probe");
        let probes = report.probes.iter();
        let probes: Vec<Probe> = probes
            .map(|(name, attempts)| probe(name, *attempts, &why))
            .collect();
        // Of a run that ended before its first one.
        return match probes.is_empty() {
            true => vec![probe(UNKNOWN, 0, &why)],
            false => probes,
        };
    }
    let why = why(
        REPORT_LOST,
        "the report is lost, and no counts are left of this probe",
    );
    let header = &import.header;
    let mut names: Vec<&str> = header.counts.keys().map(String::as_str).collect();
    if names.is_empty() {
        names = header.probes.iter().map(String::as_str).collect();
    }
    if names.is_empty() {
        names.push(UNKNOWN);
    }
    names.iter().map(|name| probe(name, 0, &why)).collect()
}

fn totals(results: &[TallyRow]) -> Totals {
    let mut totals = Totals::default();
    for row in results {
        totals.passed += row.passed;
        totals.failed += row.failed;
        totals.nones += row.nones;
    }
    totals
}

fn defcon(results: &[TallyRow]) -> Option<i32> {
    let grades = results.iter().filter_map(|row| row.grades);
    let grades = grades.filter_map(|grades| grades.detector_defcon);
    grades.filter(|grade| Grades::DEFCON.contains(grade)).min()
}

fn report_status(import: &Import) -> ReportStatus {
    if import.report.is_none() {
        return ReportStatus::default();
    }
    let mut names: Vec<ArtifactName> = import.files.iter().map(|file| file.name).collect();
    names.sort_by_key(|name| *name as u8);
    ReportStatus {
        state: ReportState::Ready,
        revision: REVISION,
        ready_revision: REVISION,
        artifacts: names.iter().map(|name| name.as_str().to_owned()).collect(),
        reason: String::new(),
    }
}

struct Times {
    created: i64,
    started: Option<i64>,
    ended: i64,
}

/// The header's times, or else the report's, in the order in which they must have been.
fn times(import: &Import, now: i64, warnings: &mut Vec<String>) -> Times {
    let header = &import.header;
    let report = import.report.as_ref();
    let (began, ended) = report.map_or((None, None), |report| (report.started_at, report.ended_at));
    let started = header.started_at.or(began);
    // The report's times have no zone: from the header's start on, its run took as long.
    let taken = began.zip(ended).map(|(began, ended)| ended - began);
    let from_report = match (header.started_at, taken) {
        (Some(started), Some(taken)) => Some(started.saturating_add(taken)),
        (Some(_), None) => None,
        (None, _) => ended,
    };
    let ended = header
        .ended_at
        .or(from_report)
        .or(started)
        .or(header.created_at);
    let created = header.created_at.or(started).or(ended).unwrap_or(now);
    let ended = ended.unwrap_or(created);
    if [Some(created), started, Some(ended)]
        .iter()
        .flatten()
        .any(|time| *time > now)
    {
        warnings.push("a time lies in the future; now was taken instead".to_owned());
    }
    let (created, started, ended) = (
        created.min(now),
        started.map(|at| at.min(now)),
        ended.min(now),
    );
    if started.is_some_and(|started| ended < started) {
        warnings.push("it ended before it started; its start was taken for both".to_owned());
    }
    let ended = started.map_or(ended, |started| ended.max(started));
    Times {
        created: started
            .map_or(created, |started| created.min(started))
            .min(ended),
        started,
        ended,
    }
}

/// How it ended. Without any result nothing is called complete, whatever was said of it.
fn verdict(
    import: &Import,
    evaluated: i32,
    warnings: &mut Vec<String>,
) -> (ScanState, Option<Failure>) {
    let failed = |reason: &str, message: &str| {
        let failure = Failure {
            reason: reason.to_owned(),
            message: message.to_owned(),
            hint: hint::for_reason(reason).to_owned(),
        };
        (ScanState::Failed, Some(failure))
    };
    let header = &import.header;
    match header.state {
        Some(ScanState::Cancelled) => (ScanState::Cancelled, None),
        Some(ScanState::Failed) if header.failure_message.is_empty() => failed(
            FAILED_BEFORE_IMPORT,
            "it failed where it ran; why is not known",
        ),
        Some(ScanState::Failed) => failed(FAILED_BEFORE_IMPORT, &header.failure_message),
        _ if evaluated > 0 => (ScanState::Completed, None),
        said => {
            if said.is_some() {
                let what = "it was said to be complete, but nothing evaluated is left: it counts as failed";
                warnings.push(what.to_owned());
            }
            match import.report {
                Some(_) => failed(NOTHING_EVALUATED, "the report has no score of any probe"),
                None => failed(
                    REPORT_LOST,
                    "the report is lost, and no counts are left of it",
                ),
            }
        }
    }
}

/// When its probes were through nobody knows: the log tells of the scan alone.
fn logs(import: &Import, scan: &Scan) -> (Log, Log) {
    let (mut began, mut ended) = (Log::default(), Log::default());
    let moved = |from, to, reason: &str| Event::StateChanged {
        from,
        to,
        reason: reason.to_owned(),
    };
    began.of_scan(moved(None, ScanState::Running, ""));
    if scan.report.state == ReportState::Ready {
        let ready = Event::ReportReady {
            revision: REVISION,
            artifacts: scan.report.artifacts.clone(),
        };
        ended.of_run(import.task, EPOCH, ready);
    }
    let reason = scan
        .failure
        .as_ref()
        .map_or("IMPORTED", |failure| &failure.reason);
    ended.of_scan(moved(Some(ScanState::Running), scan.state, reason));
    (began, ended)
}
