//! What a reader gathers line by line.

use std::collections::{BTreeSet, HashMap};

use crate::error::LineError;
use crate::index::{
    Index, IndexHeader, Outcome, Outcomes, ProbeEntry, Record, SkeletonEntry, SkeletonKind,
};
use crate::line::{AttemptLine, Entry, Eval, Name};
use crate::lines::Line;
use crate::reader::{LeftOut, Limits, Options, Summary};
use crate::run::{RunInfo, kept};
use crate::tally::{AttemptCounts, DetectorTally, ProbeTally, Tally, Warning, cross_check};

/// Why a line is not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A part of it is not what garak writes.
    Line(LineError),
    /// One of the [`Limits`] is reached.
    Full { what: &'static str, limit: usize },
}

impl From<LineError> for Refusal {
    fn from(error: LineError) -> Self {
        Self::Line(error)
    }
}

/// All that is kept of the lines so far.
#[derive(Debug)]
pub(crate) struct Survey {
    threshold: f64,
    /// Whether the report's own threshold holds, if it names one.
    own_threshold: bool,
    limits: Limits,
    probes: Vec<Probe>,
    by_name: HashMap<String, usize>,
    skeleton: Vec<SkeletonEntry>,
    /// From here on the skeleton waits for a line that names a probe.
    unattributed: usize,
    attempts: usize,
    detectors: usize,
    run: RunInfo,
    odd_evals: BTreeSet<OddEval>,
}

#[derive(Debug)]
struct Probe {
    name: String,
    detectors: Vec<Detector>,
    attempts: AttemptCounts,
    records: Vec<Record>,
}

#[derive(Debug)]
struct Detector {
    name: String,
    /// What the `eval` lines say.
    eval: Option<DetectorTally>,
    /// What the attempts say.
    scored: Option<DetectorTally>,
}

/// An `eval` line that does not add up: probe, detector, and what is odd.
type OddEval = (usize, usize, Oddity);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Oddity {
    Repeated,
    Inconsistent,
}

impl Survey {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            threshold: options.eval_threshold,
            own_threshold: false,
            limits: options.limits,
            probes: Vec::new(),
            by_name: HashMap::new(),
            skeleton: Vec::new(),
            unattributed: 0,
            attempts: 0,
            detectors: 0,
            run: RunInfo::default(),
            odd_evals: BTreeSet::new(),
        }
    }

    /// A survey that goes by the threshold that the report names, if it does.
    pub(crate) fn of_own_threshold(options: Options) -> Self {
        Self {
            own_threshold: true,
            ..Self::new(options)
        }
    }

    /// Takes in one line.
    pub(crate) fn take(&mut self, line: &Line<'_>, entry: Entry<'_>) -> Result<(), Refusal> {
        let (kind, probe) = match entry {
            Entry::Attempt(attempt) => return self.attempt(line, &attempt),
            Entry::Other => return Ok(()),
            Entry::Eval(eval) => (SkeletonKind::Eval, Some(self.eval(&eval)?)),
            Entry::ProbeSummary(name) => (SkeletonKind::ProbeSummary, Some(self.probe(&name)?)),
            Entry::PluginCache(cache) => {
                let probe = cache
                    .probe
                    .as_ref()
                    .map(|name| self.probe(name))
                    .transpose()?;
                (SkeletonKind::PluginCache, probe)
            }
            Entry::Setup(setup) => {
                self.run.set_up(&setup);
                if let (true, Some(own)) = (self.own_threshold, self.run.eval_threshold) {
                    self.threshold = own;
                }
                (SkeletonKind::Setup, None)
            }
            Entry::PayloadInit => (SkeletonKind::PayloadInit, None),
            Entry::Init(init) => {
                self.run.run_id = kept(&init.run);
                self.run.garak_version = kept(&init.garak_version);
                self.run.start_time = kept(&init.start_time);
                (SkeletonKind::Init, None)
            }
            Entry::Completion(completion) => {
                self.run.end_time = kept(&completion.end_time);
                self.run.is_completed = true;
                (SkeletonKind::Completion, None)
            }
            Entry::Digest => {
                self.run.has_digest = true;
                (SkeletonKind::Digest, None)
            }
        };
        self.skeleton_line(line, kind, probe)
    }

    /// What is known at the report's end.
    pub(crate) fn finish(self, lines: u64, bytes: u64) -> Summary {
        let (mut tally, mut scored) = (Tally::default(), Tally::default());
        let (mut entries, mut records) = (Vec::new(), Vec::new());
        let mut warnings = self.odd_warnings();
        let mut first = 0;
        for probe in self.probes {
            let count = probe.records.len() as u64;
            let counts = |of: fn(&Detector) -> Option<DetectorTally>| ProbeTally {
                attempts: probe.attempts,
                detectors: probe
                    .detectors
                    .iter()
                    .filter_map(|detector| Some((detector.name.clone(), of(detector)?)))
                    .collect(),
            };
            tally
                .probes
                .insert(probe.name.clone(), counts(|detector| detector.eval));
            scored
                .probes
                .insert(probe.name.clone(), counts(|detector| detector.scored));
            let detectors = probe
                .detectors
                .into_iter()
                .map(|detector| detector.name)
                .collect();
            entries.push(ProbeEntry {
                excerpt: None,
                name: probe.name,
                detectors,
                first,
                count,
                classes: None,
            });
            records.push(probe.records);
            first += count;
        }
        warnings.extend(cross_check(&tally, &scored));
        let header = IndexHeader::new(bytes, lines, entries, self.skeleton);
        let index = Index::new(header, records);
        Summary {
            lines,
            bytes,
            tally,
            scored,
            index,
            run: self.run,
            warnings,
            left_out: LeftOut::default(),
        }
    }

    fn odd_warnings(&self) -> Vec<Warning> {
        let warning = |(probe, detector, oddity): &OddEval| {
            let of = &self.probes[*probe];
            let (probe, detector) = (of.name.clone(), of.detectors[*detector].name.clone());
            match oddity {
                Oddity::Repeated => Warning::EvalRepeated { probe, detector },
                Oddity::Inconsistent => Warning::EvalInconsistent { probe, detector },
            }
        };
        self.odd_evals.iter().map(warning).collect()
    }

    fn attempt(&mut self, line: &Line<'_>, attempt: &AttemptLine<'_>) -> Result<(), Refusal> {
        if !attempt.is_complete() {
            if !attempt.probe.as_str().is_empty() {
                let probe = self.probe(&attempt.probe)?;
                self.probes[probe].attempts.started += 1;
            }
            return Ok(());
        }
        if self.attempts == self.limits.max_attempts {
            return Err(Refusal::Full {
                what: "completed attempts",
                limit: self.attempts,
            });
        }
        let probe = self.probe(&attempt.probe)?;
        let mut outcomes = Outcomes::default();
        for (name, counts) in attempt.detectors(self.threshold)? {
            let place = self.detector(probe, &name)?;
            let detector = &mut self.probes[probe].detectors[place];
            detector.scored.get_or_insert_default().add(&counts);
            outcomes.set(place, Outcome::from(&counts));
        }
        self.attempts += 1;
        let probe = &mut self.probes[probe];
        probe.attempts.completed += 1;
        probe.attempts.outputs += attempt.outputs.total;
        probe.attempts.null_outputs += attempt.outputs.nulls;
        probe.records.push(Record {
            offset: line.offset,
            length: line.length,
            seq: i32::try_from(attempt.seq).unwrap_or(-1),
            outcomes,
            uuid: Record::key_of(&attempt.uuid.0),
        });
        Ok(())
    }

    fn eval(&mut self, eval: &Eval<'_>) -> Result<usize, Refusal> {
        let probe = self.probe(&eval.probe)?;
        let place = self.detector(probe, &eval.detector)?;
        let counts = &eval.counts;
        if counts.passed.saturating_add(counts.failed) != counts.evaluated {
            self.odd_evals.insert((probe, place, Oddity::Inconsistent));
        }
        let said = &mut self.probes[probe].detectors[place].eval;
        if said.is_some() {
            self.odd_evals.insert((probe, place, Oddity::Repeated));
        }
        said.get_or_insert_default().add(counts);
        Ok(probe)
    }

    /// The place of a probe, made when new. What waited for a probe gets it.
    fn probe(&mut self, name: &Name<'_>) -> Result<usize, Refusal> {
        let name = name.as_str();
        let place = match self.by_name.get(name) {
            Some(place) => *place,
            None => self.new_probe(name)?,
        };
        for entry in &mut self.skeleton[self.unattributed..] {
            if entry.kind == SkeletonKind::PayloadInit {
                entry.probe = Some(place as u32); // below max_probes
            }
        }
        self.unattributed = self.skeleton.len();
        Ok(place)
    }

    fn new_probe(&mut self, name: &str) -> Result<usize, Refusal> {
        let place = self.probes.len();
        if place == self.limits.max_probes.min(u32::MAX as usize) {
            return Err(Refusal::Full {
                what: "probes",
                limit: place,
            });
        }
        self.by_name.insert(name.to_owned(), place);
        self.probes.push(Probe {
            name: name.to_owned(),
            detectors: Vec::new(),
            attempts: AttemptCounts::default(),
            records: Vec::new(),
        });
        Ok(place)
    }

    /// The place of a detector among those of its probe, made when new.
    fn detector(&mut self, probe: usize, name: &Name<'_>) -> Result<usize, Refusal> {
        let name = name.as_str();
        let detectors = &mut self.probes[probe].detectors;
        if let Some(place) = detectors.iter().position(|detector| detector.name == name) {
            return Ok(place);
        }
        if self.detectors == self.limits.max_detectors {
            return Err(Refusal::Full {
                what: "detectors",
                limit: self.detectors,
            });
        }
        self.detectors += 1;
        detectors.push(Detector {
            name: name.to_owned(),
            eval: None,
            scored: None,
        });
        Ok(detectors.len() - 1)
    }

    fn skeleton_line(
        &mut self,
        line: &Line<'_>,
        kind: SkeletonKind,
        probe: Option<usize>,
    ) -> Result<(), Refusal> {
        if self.skeleton.len() == self.limits.max_skeleton_lines {
            let limit = self.skeleton.len();
            return Err(Refusal::Full {
                what: "lines other than attempts",
                limit,
            });
        }
        let probe = probe.map(|place| place as u32); // below max_probes
        self.skeleton.push(SkeletonEntry {
            kind,
            probe,
            offset: line.offset,
            length: line.length,
        });
        Ok(())
    }
}
