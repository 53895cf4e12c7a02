//! A hitlog made again from the report it belongs to: all that it says is in the report, too.

use std::io::Write;
use std::ops::Range;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::{HitlogReader, HitlogSummary};
use crate::attempt::List;
use crate::compose::ReadRange;
use crate::error::{ComposeError, LineError};
use crate::index::{Index, Outcome, ProbeEntry, Record, SkeletonKind, plan_reads};
use crate::line::{self, Entry, Name, Score, Str, with_python_numbers};
use crate::object::Object;
use crate::reader::Limits;
use crate::run::{RunInfo, kept};

/// Lines so close are read at once.
const MAX_GAP: u64 = 16 << 10;
const MAX_READ_BYTES: u64 = 1 << 20;

/// Writes the hitlog that garak would have left beside a report: for each probe and each of its
/// detectors one line for each output scored at or above `eval_threshold`, in the report's order.
/// Nothing is written when there is no such output. Only the lines of hits are read.
///
/// # Errors
/// [`ComposeError::Line`] if the report is not what its index says, [`ComposeError::Report`] if a
/// line would be longer than `limits` allow, [`ComposeError::Io`].
pub fn rebuild_hitlog(
    index: &Index,
    report: &mut dyn ReadRange,
    eval_threshold: f64,
    limits: Limits,
    out: &mut dyn Write,
) -> Result<HitlogSummary, ComposeError> {
    let run = run(index, report)?;
    let mut written = Written {
        out,
        reader: HitlogReader::new(limits),
        eval_threshold,
        generator: format!("{} {}", python(&run.target_type), python(&run.target_name)),
        run,
    };
    for (probe, records) in index.probes() {
        for (place, detector) in probe.detectors.iter().enumerate() {
            let hits: Vec<Record> = records
                .iter()
                .filter(|r| may_hit(r, place))
                .copied()
                .collect();
            for plan in plan_reads(&hits, MAX_GAP, MAX_READ_BYTES) {
                let bytes = read(report, plan.range.clone())?;
                for record in &hits[plan.records.clone()] {
                    let line = bytes.get(plan.place(record)).unwrap_or_default();
                    written.hits(probe, detector, line)?;
                }
            }
        }
    }
    Ok(written.reader.finish()?)
}

/// Of detectors beyond those indexed only the line can tell.
fn may_hit(record: &Record, place: usize) -> bool {
    match record.outcomes.get(place) {
        Some(outcome) => outcome == Outcome::Hit,
        None => place >= crate::index::INDEXED_DETECTORS && record.outcomes.is_spilled(),
    }
}

/// An empty name as Python prints it.
fn python(name: &str) -> &str {
    if name.is_empty() { "None" } else { name }
}

fn run(index: &Index, report: &mut dyn ReadRange) -> Result<RunInfo, ComposeError> {
    let mut run = RunInfo::default();
    for kind in [SkeletonKind::Init, SkeletonKind::Setup] {
        let Some(entry) = index.header().lines_of(kind).last() else {
            continue;
        };
        let bytes = read(report, entry.range())?;
        let parsed = with_python_numbers(&bytes, |line| {
            let mut run = run.clone();
            match line::parse(line)? {
                Entry::Setup(setup) => run.set_up(&setup),
                Entry::Init(init) => run.run_id = kept(&init.run),
                _ => return Err(LineError::new("not the line that its index says")),
            }
            Ok(run)
        });
        run = parsed.map_err(of_report)?;
    }
    Ok(run)
}

fn of_report(error: LineError) -> ComposeError {
    ComposeError::Line { part: 0, error }
}

fn read(report: &mut dyn ReadRange, range: Range<u64>) -> Result<Vec<u8>, ComposeError> {
    let mut bytes = Vec::new();
    report.read(range, &mut bytes)?;
    Ok(bytes)
}

struct Written<'a> {
    out: &'a mut dyn Write,
    reader: HitlogReader,
    eval_threshold: f64,
    generator: String,
    run: RunInfo,
}

/// What a hitlog takes over from an attempt.
#[derive(Deserialize)]
struct Attempt<'a> {
    #[serde(borrow)]
    goal: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    outputs: Option<&'a RawValue>,
    #[serde(borrow)]
    notes: Option<&'a RawValue>,
    #[serde(borrow)]
    uuid: Option<&'a RawValue>,
    #[serde(borrow)]
    seq: Option<&'a RawValue>,
    #[serde(borrow)]
    detector_results: Option<&'a RawValue>,
}

impl Written<'_> {
    fn hits(
        &mut self,
        probe: &ProbeEntry,
        detector: &str,
        line: &[u8],
    ) -> Result<(), ComposeError> {
        let made = with_python_numbers(line, |line| {
            let attempt: Attempt<'_> = serde_json::from_str(line::text(line)?)?;
            self.lines(probe, detector, &attempt)
        });
        let made = made.map_err(of_report)?;
        self.reader.push(&made)?;
        Ok(self.out.write_all(&made)?)
    }

    /// The lines of one attempt by one detector.
    fn lines(
        &self,
        probe: &ProbeEntry,
        detector: &str,
        attempt: &Attempt<'_>,
    ) -> Result<Vec<u8>, LineError> {
        let null = to_raw_value(&())?;
        let or_null = |value: Option<&RawValue>| value.unwrap_or(&null).to_owned();
        let outputs: List<'_, &RawValue> = list(attempt.outputs)?;
        let scores = scores_of(attempt.detector_results, detector)?;
        let triggers = triggers(attempt.notes)?;
        let mut lines = Vec::new();
        for (place, score) in scores.items.iter().enumerate() {
            let Ok(Score(Some(value))) = serde_json::from_str::<Score>(score.get()) else {
                continue;
            };
            if value < self.eval_threshold {
                continue;
            }
            let mut hit = Object::default();
            hit.set("goal", &or_null(attempt.goal))?;
            hit.set("prompt", &or_null(attempt.prompt))?;
            hit.set("output", &or_null(outputs.items.get(place).copied()))?;
            hit.set("triggers", &or_null(triggers))?;
            hit.set("score", score)?;
            hit.set("run_id", &self.run.run_id)?;
            hit.set("attempt_id", &or_null(attempt.uuid))?;
            hit.set("attempt_seq", &or_null(attempt.seq))?;
            hit.set("attempt_idx", &place)?;
            hit.set("generator", &self.generator)?;
            hit.set("probe", &probe.name)?;
            hit.set("detector", &detector)?;
            hit.set("generations_per_prompt", &json!(self.run.generations))?;
            // Nothing but memory is written to.
            hit.write_line(&mut lines)
                .map_err(|_| LineError::new("cannot be written"))?;
        }
        Ok(lines)
    }
}

fn list(value: Option<&RawValue>) -> Result<List<'_, &RawValue>, LineError> {
    let Some(value) = value else {
        return Ok(List::default());
    };
    Ok(serde_json::from_str(value.get())?)
}

fn scores_of<'a>(
    results: Option<&'a RawValue>,
    detector: &str,
) -> Result<List<'a, &'a RawValue>, LineError> {
    let Some(results) = results else {
        return Ok(List::default());
    };
    let results: Object<'_> = serde_json::from_str(results.get())?;
    let found = results
        .into_fields()
        .find(|(name, _)| Name::from(Str(name.clone())).as_str() == detector);
    list(found.map(|(_, scores)| scores))
}

fn triggers(notes: Option<&RawValue>) -> Result<Option<&RawValue>, LineError> {
    #[derive(Deserialize)]
    struct Notes<'a> {
        #[serde(borrow)]
        triggers: Option<&'a RawValue>,
        #[serde(borrow)]
        trigger: Option<&'a RawValue>,
    }
    let Some(notes) = notes.filter(|notes| notes.get().starts_with('{')) else {
        return Ok(None);
    };
    let notes: Notes<'_> = serde_json::from_str(notes.get())?;
    Ok(notes.triggers.or(notes.trigger))
}
