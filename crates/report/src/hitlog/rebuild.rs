//! A hitlog made again from the report it belongs to: all that it says is in the report, too.

use std::io::Write;
use std::ops::Range;

use serde_json::json;
use serde_json::value::RawValue;

use super::{HitlogReader, HitlogSummary};
use crate::attempt::{List, triggers_of};
use crate::compose::ReadRange;
use crate::error::{ComposeError, LineError};
use crate::index::{Index, Outcome, ProbeEntry, Record, SkeletonKind, plan_reads};
use crate::line::{self, Entry, Name, Score, Str, with_python_numbers};
use crate::object::{Object, pick};
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
struct Judged<'a> {
    goal: Option<&'a RawValue>,
    prompt: Option<&'a RawValue>,
    outputs: List<'a, &'a RawValue>,
    scores: List<'a, &'a RawValue>,
    triggers: Option<&'a RawValue>,
    uuid: Option<&'a RawValue>,
    seq: Option<&'a RawValue>,
}

const FIELDS: [&str; 7] = [
    "goal",
    "prompt",
    "outputs",
    "detector_results",
    "notes",
    "uuid",
    "seq",
];

impl<'a> Judged<'a> {
    fn parse(line: &'a [u8], detector: &str) -> Result<Self, LineError> {
        let [goal, prompt, outputs, results, notes, uuid, seq] = pick(line::text(line)?, FIELDS)?;
        Ok(Self {
            goal,
            prompt,
            outputs: list(outputs)?,
            scores: scores_of(results, detector)?,
            triggers: triggers_of(notes),
            uuid,
            seq,
        })
    }
}

impl Written<'_> {
    /// The lines of one attempt by one detector.
    fn hits(
        &mut self,
        probe: &ProbeEntry,
        detector: &str,
        line: &[u8],
    ) -> Result<(), ComposeError> {
        let written = with_python_numbers(line, |line| {
            let judged = Judged::parse(line, detector)?;
            // What is written is not taken back: the line is not read again for its sake.
            Ok(self.lines(probe, detector, &judged))
        });
        written.map_err(of_report)?
    }

    /// One by one: each has the prompt, so together they may be a thousand times the attempt.
    fn lines(
        &mut self,
        probe: &ProbeEntry,
        detector: &str,
        judged: &Judged<'_>,
    ) -> Result<(), ComposeError> {
        let mut line = Vec::new();
        for (place, score) in judged.scores.items.iter().enumerate() {
            let Ok(Score(Some(value))) = serde_json::from_str::<Score>(score.get()) else {
                continue;
            };
            if value < self.eval_threshold {
                continue;
            }
            let hit = self.hit(probe, detector, judged, place);
            line.clear();
            hit.map_err(of_report)?.write_line(&mut line)?;
            self.reader.push(&line)?;
            self.out.write_all(&line)?;
        }
        Ok(())
    }

    fn hit<'a>(
        &self,
        probe: &ProbeEntry,
        detector: &str,
        judged: &Judged<'a>,
        place: usize,
    ) -> Result<Object<'a>, LineError> {
        let mut hit = Object::default();
        hit.add("goal", judged.goal)?;
        hit.add("prompt", judged.prompt)?;
        hit.add("output", judged.outputs.items.get(place).copied())?;
        hit.add("triggers", judged.triggers)?;
        hit.add("score", judged.scores.items.get(place).copied())?;
        hit.set("run_id", &self.run.run_id)?;
        hit.add("attempt_id", judged.uuid)?;
        hit.add("attempt_seq", judged.seq)?;
        hit.set("attempt_idx", &place)?;
        hit.set("generator", &self.generator)?;
        hit.set("probe", &probe.name)?;
        hit.set("detector", &detector)?;
        hit.set("generations_per_prompt", &json!(self.run.generations))?;
        Ok(hit)
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
