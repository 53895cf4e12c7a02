//! ImportStoreService: scans that did not run here.

use std::collections::{BTreeMap, HashSet};

use aegis_mesh::{Error, Result, principal_of};
use aegis_proto::{
    ids::{ArtifactId, ScanId, TaskId},
    internal::catalog::v1::{
        self as proto, CheckImportRequest, CheckImportResponse, CommitImportRequest,
        CommitImportResponse, StageImportRequest, StageImportResponse,
        import_store_service_server::ImportStoreService,
    },
    report::v1::ImportHeader,
    scan::v1::{ScanSpec, Target, scan::State},
};
use prost_types::Struct;
use serde_json::Value;
use tonic::{Request, Response, Status};

use super::{artifacts, check, scans, view};
use crate::{
    domain::{
        artifact::ArtifactName,
        import::{File, Header, Import, Report, UNKNOWN},
        refusal::invalid_field,
        scan::Original,
        secret::masked,
    },
    store::{StagedImport, Store},
};

/// More than a whole garak has.
const MAX_PROBES: usize = 4_096;
/// Longest message of a failure, in characters; longer ones are cut.
const MAX_FAILURE: usize = 1_000;
/// Bytes of what a scan comes with, as JSON.
const MAX_ORIGINAL: usize = 256 << 10;
/// Words of a specification.
const MAX_WORDS: usize = 256;

/// ImportStoreService on a store.
pub(crate) struct Imports {
    pub(crate) store: Store,
}

#[tonic::async_trait]
impl ImportStoreService for Imports {
    async fn check_import(
        &self,
        request: Request<CheckImportRequest>,
    ) -> Result<Response<CheckImportResponse>, Status> {
        let project = principal_of(&request)?.project;
        let checked = header(request.into_inner().header)?;
        if let Some(id) = checked.scan {
            self.store.check_import(&project, id).await?;
        }
        Ok(Response::new(CheckImportResponse {}))
    }

    async fn stage_import(
        &self,
        request: Request<StageImportRequest>,
    ) -> Result<Response<StageImportResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let id = check::scan_id(&request.scan_id)?;
        let report = request
            .report
            .map(|report| artifacts::checksum(Some(report)));
        let report = report.transpose()?;
        let names = request.names.iter().map(|text| name(text));
        let names = names.collect::<Result<Vec<_>>>()?;
        each_once(&names, report.is_some())?;
        let staged = self
            .store
            .stage_import(&project, id, report.as_ref(), &names);
        Ok(Response::new(match staged.await? {
            StagedImport::Existing(found) => StageImportResponse {
                existing: Some(view::scan(*found)?),
                ..StageImportResponse::default()
            },
            StagedImport::Rows(task, rows) => StageImportResponse {
                existing: None,
                task_id: task.to_string(),
                artifacts: rows.into_iter().map(artifacts::stored).collect(),
            },
        }))
    }

    async fn commit_import(
        &self,
        request: Request<CommitImportRequest>,
    ) -> Result<Response<CommitImportResponse>, Status> {
        let principal = principal_of(&request)?;
        let (import, mut warnings) = import(request.into_inner(), principal.subject)?;
        let imported = self
            .store
            .commit_import(&principal.project, &import)
            .await?;
        warnings.extend(imported.warnings);
        Ok(Response::new(CommitImportResponse {
            scan: Some(view::scan(imported.view)?),
            unchanged: imported.unchanged,
            warnings,
        }))
    }
}

fn name(text: &str) -> Result<ArtifactName> {
    let name = text.parse().ok();
    name.filter(|name: &ArtifactName| name.is_public())
        .ok_or_else(|| {
            let problem = "must be report.jsonl, hitlog.jsonl or report.html";
            invalid_field("names", problem)
        })
}

/// Files each once, and the report among them if there is one.
fn each_once(names: &[ArtifactName], has_report: bool) -> Result<()> {
    let mut seen = HashSet::new();
    if !names.iter().all(|name| seen.insert(*name)) {
        return Err(invalid_field("names", "must be each once"));
    }
    match (has_report, names.first()) {
        (true, Some(ArtifactName::Report)) | (false, None) => Ok(()),
        _ => Err(invalid_field(
            "names",
            "must begin with the report, or be none without it",
        )),
    }
}

/// A header within its bounds.
struct Checked {
    scan: Option<ScanId>,
    header: Header,
    target: Option<Target>,
    warnings: Vec<String>,
}

fn header(header: Option<ImportHeader>) -> Result<Checked> {
    let header = header.ok_or_else(|| invalid_field("header", "must be set"))?;
    let mut warnings = Vec::new();
    let scan = Some(&header.scan_id).filter(|id| !id.is_empty());
    let scan = scan.map(|id| {
        let id: Result<ScanId, _> = id.parse();
        id.map_err(|error| invalid_field("header.scan_id", error))
    });
    let state = match header.state() {
        State::Unspecified => None,
        state @ (State::Completed | State::Failed | State::Cancelled) => view::state_of(state),
        _ => {
            let problem = "must be STATE_COMPLETED, STATE_FAILED, STATE_CANCELLED or not set";
            return Err(invalid_field("header.state", problem));
        }
    };
    let options = original("header.original_options", header.original_options)?;
    let counts = original("header.original_counts", header.original_counts)?;
    let hidden = options.as_ref().map(masked);
    if hidden != options {
        let what = "what looks like a secret in original_options is kept as \"***\"";
        warnings.push(what.to_owned());
    }
    let target = header
        .target
        .map(|target| self::target(target, &mut warnings));
    let time = |field: &str, time| millis(&format!("header.{field}"), time);
    Ok(Checked {
        scan: scan.transpose()?,
        header: Header {
            display_name: check::optional("header.display_name", &header.display_name, 200)?,
            state,
            failure_message: cut(&header.failure_message, MAX_FAILURE),
            created_at: time("create_time", header.create_time)?,
            started_at: time("start_time", header.start_time)?,
            ended_at: time("end_time", header.end_time)?,
            labels: check::labels(header.labels)?,
            counts: counts
                .as_ref()
                .map(categories)
                .transpose()?
                .unwrap_or_default(),
            probes: options.as_ref().map(named_probes).unwrap_or_default(),
            original: Original {
                options: hidden,
                counts,
            },
        },
        target: target.transpose()?,
        warnings,
    })
}

/// Text that a report or another system decided about.
fn cut(text: &str, most: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(most).collect()
}

/// Unix milliseconds from 1970 on.
fn millis(field: &str, time: Option<prost_types::Timestamp>) -> Result<Option<i64>> {
    /// The end of the year 9999.
    const LAST: i64 = 253_402_300_799;
    let Some(time) = time else { return Ok(None) };
    let seconds = check::within(&format!("{field}.seconds"), time.seconds, 0..=LAST)?;
    let nanos = check::within(&format!("{field}.nanos"), time.nanos, 0..=999_999_999)?;
    Ok(Some(seconds * 1_000 + i64::from(nanos) / 1_000_000))
}

fn original(field: &str, value: Option<Struct>) -> Result<Option<Value>> {
    let Some(value) = value else { return Ok(None) };
    let json = aegis_proto::json::object_to_json(&value)
        .map_err(|error| invalid_field(field, format_args!("is no JSON: {error}")))?;
    let text = json.to_string();
    check::within(&format!("{field} in bytes"), text.len(), 0..=MAX_ORIGINAL)?;
    if text.contains("\\u0000") {
        return Err(invalid_field(field, "must not contain NUL"));
    }
    Ok(Some(json))
}

fn target(target: Target, warnings: &mut Vec<String>) -> Result<Target> {
    if !target.secret.is_empty() {
        let problem = "must not be set: nothing runs of an imported scan";
        return Err(invalid_field("header.target.secret", problem));
    }
    let options = original("header.target.options", target.options)?;
    let hidden = options.as_ref().map(masked);
    if hidden != options {
        let what = "what looks like a secret in the target's options is kept as \"***\"";
        warnings.push(what.to_owned());
    }
    let options = hidden.map(aegis_proto::json::object_from_json).transpose();
    Ok(Target {
        r#type: check::optional("header.target.type", &target.r#type, 256)?,
        name: check::optional("header.target.name", &target.name, 256)?,
        options: options.map_err(Error::internal)?,
        secret: String::new(),
    })
}

/// {category: {passed, failed}}.
fn categories(counts: &Value) -> Result<BTreeMap<String, (i64, i64)>> {
    let counts = counts.as_object();
    let mut categories = BTreeMap::new();
    for (category, of) in counts.into_iter().flatten() {
        let field = format!("header.original_counts[{category:.200}]");
        let category = check::required(&field, category, 200)?;
        let number = |name: &str| match of.get(name) {
            None => Ok(0),
            Some(value) => whole(value).ok_or_else(|| {
                invalid_field(
                    &format!("{field}.{name}"),
                    "must be a whole number from 0 on",
                )
            }),
        };
        categories.insert(category, (number("passed")?, number("failed")?));
    }
    check::within("header.original_counts", categories.len(), 0..=MAX_PROBES)?;
    Ok(categories)
}

/// A count; JSON has one kind of numbers only.
fn whole(value: &Value) -> Option<i64> {
    let number = value.as_f64()?;
    let fits = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    fits.then_some(number as i64)
}

/// The probes that the options name, for a scan of which nothing else is left.
fn named_probes(options: &Value) -> Vec<String> {
    let words = options.get("probes").and_then(Value::as_array);
    let words = words.into_iter().flatten().filter_map(Value::as_str);
    let names = words.map(|word| cut(word.trim_start_matches("probes."), 200));
    let mut seen = HashSet::new();
    names
        .filter(|name| !name.is_empty() && seen.insert(name.clone()))
        .take(MAX_PROBES)
        .collect()
}

fn import(request: CommitImportRequest, created_by: String) -> Result<(Import, Vec<String>)> {
    let dry_run = request.header.as_ref().is_some_and(|header| header.dry_run);
    let Checked {
        header,
        target,
        mut warnings,
        ..
    } = header(request.header)?;
    let id = check::scan_id(&request.scan_id)?;
    let task = match request.task_id.as_str() {
        "" if dry_run => TaskId::generate(),
        task => task
            .parse()
            .map_err(|error| invalid_field("task_id", error))?,
    };
    let files = request.files.into_iter().map(|of| file(of, dry_run));
    let files: Vec<File> = files.collect::<Result<_>>()?;
    let names: Vec<_> = files.iter().map(|file| file.name).collect();
    each_once(&names, request.report.is_some())?;
    let spec = spec(target, request.report.as_ref(), &mut warnings);
    let target = spec.target.clone().unwrap_or_default();
    let import = Import {
        id,
        spec: scans::spec_json(&spec)?,
        target_type: target.r#type,
        target_name: target.name,
        created_by,
        header,
        task,
        files,
        report: request.report.map(report).transpose()?,
        dry_run,
    };
    Ok((import, warnings))
}

fn file(file: proto::ImportedFile, dry_run: bool) -> Result<File> {
    let artifact: Option<ArtifactId> = match file.artifact_id.as_str() {
        "" if dry_run => None,
        id => Some(check::artifact_id("files.artifact_id", id)?),
    };
    Ok(File {
        artifact,
        name: name(&file.name)?,
        checksum: artifacts::checksum(file.checksum)?,
    })
}

/// What was asked for, as far as that is known, in the words of a specification.
fn spec(
    target: Option<Target>,
    report: Option<&proto::ImportedReport>,
    warnings: &mut Vec<String>,
) -> ScanSpec {
    let mut target = target.unwrap_or_default();
    let reported = |of: fn(&proto::ImportedReport) -> &str| {
        report.map_or_else(String::new, |report| cut(of(report), 256))
    };
    if target.r#type.is_empty() {
        target.r#type = reported(|report| &report.target_type);
        if target.name.is_empty() {
            target.name = reported(|report| &report.target_name);
        }
    }
    if target.r#type.is_empty() {
        warnings.push(format!(
            "nothing names the target's type: it is {UNKNOWN:?}"
        ));
        target.r#type = UNKNOWN.to_owned();
    }
    let mut spec = ScanSpec {
        target: Some(target),
        ..ScanSpec::default()
    };
    let Some(report) = report else { return spec };
    for word in report.probe_spec.iter().take(MAX_WORDS) {
        let word = cut(word, 200);
        match (word.as_str(), word.split_once(':')) {
            ("all", _) => spec.include.push(word),
            (_, Some(("tag", tag))) => spec.tags.push(tag.to_owned()),
            // garak's other filters have no word here.
            (_, Some(_)) => {}
            _ => spec
                .include
                .push(format!("probes.{}", word.trim_start_matches("probes."))),
        }
    }
    let generations = report
        .generations
        .and_then(|count| i32::try_from(count).ok());
    spec.generations = generations.filter(|count| *count > 0);
    spec.seed = report.seed.filter(|seed| (0..=0xffff_ffff).contains(seed));
    spec.eval_threshold = report.eval_threshold_known.then_some(report.eval_threshold);
    spec
}

fn report(report: proto::ImportedReport) -> Result<Report> {
    let field = |name: &str| format!("report.{name}");
    let (threshold, seed) = (report.eval_threshold, report.seed.unwrap_or(0));
    check::within(&field("probes"), report.probes.len(), 0..=MAX_PROBES)?;
    let mut probes = Vec::with_capacity(report.probes.len());
    for (index, probe) in report.probes.into_iter().enumerate() {
        let field = |name: &str| format!("report.probes[{index}].{name}");
        let name = check::required(&field("probe"), &probe.probe, 200)?;
        probes.push((name, artifacts::count(&field("attempts"), probe.attempts)?));
    }
    let tally = report.tally.map(artifacts::tally).transpose()?;
    let tally = tally.ok_or_else(|| invalid_field("report.tally", "must be set"))?;
    let names: HashSet<&str> = probes.iter().map(|(name, _)| name.as_str()).collect();
    if names.len() != probes.len() || tally.rows.iter().any(|row| !names.contains(&*row.probe)) {
        let problem = "must be each once, and all that the tally has";
        return Err(invalid_field("report.probes", problem));
    }
    Ok(Report {
        garak_version: cut(&report.garak_version, 64),
        started_at: reported(report.start_time),
        ended_at: reported(report.end_time),
        seed: Some(seed)
            .filter(|seed| (0..=0xffff_ffff).contains(seed))
            .unwrap_or(0),
        eval_threshold: check::within(&field("eval_threshold"), threshold, 0.0..=1.0)?,
        probes,
        tally,
    })
}

/// A time that cannot be is none.
fn reported(time: Option<prost_types::Timestamp>) -> Option<i64> {
    millis("report", time).ok().flatten()
}
