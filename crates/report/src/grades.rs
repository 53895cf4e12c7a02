//! garak's own grades, read from the digest line as its writer gave them.
//! Nothing is computed here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::LineError;
use crate::line::{self, with_python_numbers};
use crate::object::Object;

/// The grades of a report, groups by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Grades {
    /// One for each group of probes: the probes' modules, or the entries of a
    /// taxonomy.
    pub groups: Vec<GroupGrade>,
}

/// The grade of a group of probes.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupGrade {
    /// The group's key in the digest: a module's name, mostly.
    pub group: String,
    /// garak's aggregate of the probes' scores, 0.0 to 1.0.
    pub score: Option<f64>,
    /// 1 (worst) to 5 (best).
    pub defcon: Option<u8>,
    /// The group's probes by name.
    pub probes: Vec<ProbeGrade>,
}

/// The grade of a probe.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeGrade {
    /// `module.Class`.
    pub probe: String,
    /// The lowest of its detectors' pass rates, 0.0 to 1.0.
    pub score: Option<f64>,
    /// DEFCON of the score (garak's `probe_severity`), 1 (worst) to 5 (best).
    pub defcon: Option<u8>,
    /// garak's tier: 1 of concern, 2 compete with state of the art, 3
    /// informational, 9 unlisted.
    pub tier: Option<u8>,
    /// Its detectors by name.
    pub detectors: Vec<DetectorGrade>,
}

/// The grade of a probe by one detector.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorGrade {
    /// `module.Class`.
    pub detector: String,
    /// Pass rate, 0.0 to 1.0. **0.0 also when nothing was evaluated**: look at
    /// `evaluated`.
    pub absolute_score: Option<f64>,
    /// DEFCON of the pass rate, 1 (worst) to 5 (best).
    pub absolute_defcon: Option<u8>,
    /// How the pass rate stands among the models that garak was calibrated
    /// with, in standard deviations; `None` without a calibration.
    pub relative_score: Option<f64>,
    /// DEFCON of the relative score; `None` without a calibration.
    pub relative_defcon: Option<u8>,
    /// The DEFCON that counts: the lower of both for a probe of tier 1, else
    /// the relative one.
    pub detector_defcon: Option<u8>,
    /// Whether there is a calibration.
    pub calibration_used: bool,
    /// Outputs that were scored.
    pub evaluated: Option<u64>,
    /// Outputs that passed.
    pub passed: Option<u64>,
    /// Confidence interval of the pass rate (since 0.14.1).
    pub confidence: Option<Confidence>,
}

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confidence {
    /// Lower bound, 0.0 to 1.0.
    pub lower: f64,
    /// Upper bound, 0.0 to 1.0.
    pub upper: f64,
}

const SUMMARY: &str = "_summary";

/// An object whose `_summary` is about itself and whose other members are what
/// it consists of.
type Level<'a> = BTreeMap<String, &'a RawValue>;

impl Grades {
    /// Reads a digest line, with or without a line break.
    ///
    /// # Errors
    /// [`LineError`] if it is not a digest line.
    pub fn parse(digest: &[u8]) -> Result<Self, LineError> {
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(borrow)]
            eval: &'a RawValue,
        }
        with_python_numbers(digest, |digest| {
            let line::Entry::Digest = line::parse(digest)? else {
                return Err(LineError::new("not a digest"));
            };
            let line: Line<'_> = serde_json::from_str(line::text(digest)?)?;
            let groups = members(line.eval)?
                .into_iter()
                .map(|(name, group)| GroupGrade::parse(name, group));
            Ok(Self {
                groups: groups.collect::<Result<_, _>>()?,
            })
        })
    }

    /// The grade of one probe by one detector, if garak gave one.
    pub fn get(&self, probe: &str, detector: &str) -> Option<&DetectorGrade> {
        let probes = self.groups.iter().flat_map(|group| &group.probes);
        let mut detectors = probes
            .filter(|of| of.probe == probe)
            .flat_map(|of| &of.detectors);
        detectors.find(|of| of.detector == detector)
    }
}

impl GroupGrade {
    fn parse(group: String, value: &RawValue) -> Result<Self, LineError> {
        #[derive(Default, Deserialize)]
        struct Summary {
            score: Option<f64>,
            group_defcon: Option<u8>,
        }
        let (
            Summary {
                score,
                group_defcon,
            },
            members,
        ) = level(value)?;
        let probes = members
            .into_iter()
            .map(|(name, probe)| ProbeGrade::parse(name, probe));
        let probes = probes.collect::<Result<_, _>>()?;
        Ok(Self {
            group,
            score,
            defcon: group_defcon,
            probes,
        })
    }
}

impl ProbeGrade {
    fn parse(probe: String, value: &RawValue) -> Result<Self, LineError> {
        #[derive(Default, Deserialize)]
        struct Summary {
            probe_score: Option<f64>,
            probe_severity: Option<u8>,
            probe_tier: Option<u8>,
        }
        let (summary, members): (Summary, _) = level(value)?;
        let detectors = members
            .into_iter()
            .map(|(name, of)| DetectorGrade::parse(name, of));
        Ok(Self {
            probe,
            score: summary.probe_score,
            defcon: summary.probe_severity,
            tier: summary.probe_tier,
            detectors: detectors.collect::<Result<_, _>>()?,
        })
    }
}

impl DetectorGrade {
    fn parse(detector: String, value: &RawValue) -> Result<Self, LineError> {
        #[derive(Deserialize)]
        struct Member<'a> {
            absolute_score: Option<f64>,
            absolute_defcon: Option<u8>,
            /// A number, or "n/a".
            #[serde(borrow)]
            relative_score: Option<&'a RawValue>,
            relative_defcon: Option<u8>,
            detector_defcon: Option<u8>,
            calibration_used: Option<bool>,
            total_evaluated: Option<u64>,
            passed: Option<u64>,
            absolute_confidence_lower: Option<f64>,
            absolute_confidence_upper: Option<f64>,
        }
        let member: Member<'_> = serde_json::from_str(value.get())?;
        let bounds = member
            .absolute_confidence_lower
            .zip(member.absolute_confidence_upper);
        Ok(Self {
            detector,
            absolute_score: member.absolute_score,
            absolute_defcon: member.absolute_defcon,
            relative_score: member
                .relative_score
                .and_then(|score| score.get().parse().ok()),
            relative_defcon: member.relative_defcon,
            detector_defcon: member.detector_defcon,
            calibration_used: member.calibration_used.unwrap_or(false),
            evaluated: member.total_evaluated,
            passed: member.passed,
            confidence: bounds.map(|(lower, upper)| Confidence { lower, upper }),
        })
    }
}

fn members(value: &RawValue) -> Result<Level<'_>, LineError> {
    let object: Object<'_> = serde_json::from_str(value.get())?;
    let fields = object.into_fields();
    Ok(fields
        .map(|(name, value)| (name.into_owned(), value))
        .collect())
}

/// Splits a level into what it says about itself and its members.
fn level<'a, S>(value: &'a RawValue) -> Result<(S, Level<'a>), LineError>
where
    S: Default + Deserialize<'a>,
{
    let mut members = members(value)?;
    let summary = members.remove(SUMMARY);
    let summary = summary
        .map(|summary| serde_json::from_str(summary.get()))
        .transpose()?;
    Ok((summary.unwrap_or_default(), members))
}
