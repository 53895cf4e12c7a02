//! One line of a report, read as far as needed and borrowing from the line.
//!
//! Lines of every garak version since 0.9 are understood; what changed between
//! them is noted at the fields. A name loses the prefix that some versions
//! give it (`probes.`, `detector.`), so that it is always `module.Class`.

mod literal;
mod value;

use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

pub(crate) use self::literal::{replaced, with_python_numbers};
pub(crate) use self::value::Score;
use self::value::{Detectors, OnlyKey};
pub use self::value::{Name, OutputCounts, Str};
use crate::error::LineError;
pub use crate::run::Setup;
use crate::tally::DetectorTally;

/// Longest name of a probe or detector, in bytes. An index holds names.
pub const MAX_NAME_BYTES: usize = 512;

/// Most detectors that one attempt may have been given to.
pub const MAX_DETECTORS_PER_ATTEMPT: usize = 1024;

/// `status` of an attempt that detectors have seen (garak's `ATTEMPT_COMPLETE`).
pub const STATUS_COMPLETE: i64 = 2;

/// What a line is, by its `entry_type`.
#[derive(Debug)]
pub enum Entry<'a> {
    /// `start_run setup`, `start_run args config` before 0.9.0.11: the run's configuration.
    Setup(Box<Setup<'a>>),
    /// `init`: when the run started, and its id.
    Init(Init<'a>),
    /// `payload_init`: a payload file was loaded.
    PayloadInit,
    /// `plugin_cache` (since 0.15.1): the descriptions of the plugins in use.
    PluginCache(PluginCache<'a>),
    /// `attempt`: a prompt, its outputs, and what detectors said of them.
    Attempt(AttemptLine<'a>),
    /// `eval`: the counts of one probe and one detector.
    Eval(Eval<'a>),
    /// `probe_summary` (since 0.16): the counts of one probe.
    ProbeSummary(Name<'a>),
    /// `completion`: the run came to its end.
    Completion(Completion<'a>),
    /// `digest` (since 0.12): garak's grades; [`crate::grades`] reads it.
    Digest,
    /// Any other kind; garak's own readers skip it.
    Other,
}

/// The `init` line.
#[derive(Debug, Deserialize)]
pub struct Init<'a> {
    /// The run's id, a UUID.
    #[serde(borrow, default)]
    pub run: Str<'a>,
    /// Version of the garak that ran.
    #[serde(borrow, default)]
    pub garak_version: Str<'a>,
    /// Local time without a zone, ISO 8601.
    #[serde(borrow, default)]
    pub start_time: Str<'a>,
}

/// The `completion` line.
#[derive(Debug, Deserialize)]
pub struct Completion<'a> {
    /// The run's id, a UUID.
    #[serde(borrow, default)]
    pub run: Str<'a>,
    /// Local time without a zone, ISO 8601.
    #[serde(borrow, default)]
    pub end_time: Str<'a>,
}

/// The `plugin_cache` line.
#[derive(Debug)]
pub struct PluginCache<'a> {
    /// The probe that it describes; `None` if there are several or none.
    pub probe: Option<Name<'a>>,
}

/// The `attempt` line, as far as a tally and an index need it; for a full view
/// see [`crate::Attempt`].
#[derive(Debug, Deserialize)]
pub struct AttemptLine<'a> {
    /// The attempt's own id, a UUID.
    #[serde(borrow, default)]
    pub uuid: Str<'a>,
    /// Number of the prompt within the probe, from 0; -1 when not given.
    #[serde(default = "unnumbered")]
    pub seq: i64,
    /// 1 once sent, 2 once detectors have seen it.
    #[serde(default)]
    pub status: i64,
    /// The probe that made it.
    #[serde(borrow, rename = "probe_classname", default)]
    pub probe: Name<'a>,
    /// How many outputs there are.
    #[serde(default)]
    pub outputs: OutputCounts,
    #[serde(borrow, default)]
    detector_results: Option<&'a RawValue>,
}

impl<'a> AttemptLine<'a> {
    /// Whether detectors have seen it.
    pub fn is_complete(&self) -> bool {
        self.status == STATUS_COMPLETE
    }

    /// What each detector said of the outputs, counted with `threshold` (hit
    /// when `score >= threshold`), in the line's order.
    ///
    /// # Errors
    /// Scores that are no list of numbers and nulls, or more than
    /// [`MAX_DETECTORS_PER_ATTEMPT`] detectors.
    pub fn detectors(&self, threshold: f64) -> Result<Vec<(Name<'a>, DetectorTally)>, LineError> {
        let Some(raw) = self.detector_results else {
            return Ok(Vec::new());
        };
        let mut json = serde_json::Deserializer::from_str(raw.get());
        let detectors = Detectors { threshold }.deserialize(&mut json)?;
        Ok(detectors)
    }
}

/// The `eval` line.
#[derive(Debug)]
pub struct Eval<'a> {
    /// The probe that was evaluated.
    pub probe: Name<'a>,
    /// The detector whose scores were counted.
    pub detector: Name<'a>,
    /// The counts. Up to 0.13.1 there were `passed` and `total` (which is
    /// `total_evaluated`) only, and `nones` came in 0.13.1.
    pub counts: DetectorTally,
}

/// Reads one line, with or without its line break.
///
/// # Errors
/// [`LineError::Torn`] if it ends before its object does, else
/// [`LineError::Malformed`] if it is not a JSON object as garak writes it.
pub fn parse(line: &[u8]) -> Result<Entry<'_>, LineError> {
    let line = object(line)?;
    // Attempts are nearly all of a report. garak writes the kind first.
    if line.starts_with(r#"{"entry_type": "attempt","#) {
        return attempt(line);
    }
    let head: Head<'_> = serde_json::from_str(line)?;
    Ok(match &*head.entry_type.0 {
        "attempt" => return attempt(line),
        "eval" => Entry::Eval(eval(line)?),
        "start_run setup" | "start_run args config" => Entry::Setup(Box::new(Setup::parse(line)?)),
        "init" => Entry::Init(serde_json::from_str(line)?),
        "payload_init" => Entry::PayloadInit,
        "plugin_cache" => Entry::PluginCache(plugin_cache(line)?),
        "probe_summary" => Entry::ProbeSummary(named(probe_of(line)?)?),
        "completion" => Entry::Completion(serde_json::from_str(line)?),
        "digest" => Entry::Digest,
        _ => Entry::Other,
    })
}

/// The line as the text of an object, or of what may become one. (serde would
/// take a list for an object, too.)
pub(crate) fn object(line: &[u8]) -> Result<&str, LineError> {
    let line = text(line)?;
    match line.trim_ascii_start().as_bytes().first() {
        Some(b'{') => Ok(line),
        Some(_) => Err(LineError::new("not a JSON object")),
        None => Err(LineError::Torn),
    }
}

/// The line as text; a line torn within a character is torn.
pub(crate) fn text(line: &[u8]) -> Result<&str, LineError> {
    std::str::from_utf8(line).map_err(|error| match error.error_len() {
        None => LineError::Torn,
        Some(_) => LineError::Malformed {
            column: error.valid_up_to(),
            reason: "not valid UTF-8",
        },
    })
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    entry_type: Str<'a>,
}

fn attempt(line: &str) -> Result<Entry<'_>, LineError> {
    let attempt: AttemptLine<'_> = serde_json::from_str(line)?;
    if attempt.is_complete() && attempt.probe.as_str().is_empty() {
        return Err(LineError::new("an attempt without its probe"));
    }
    Ok(Entry::Attempt(attempt))
}

fn eval(line: &str) -> Result<Eval<'_>, LineError> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow, default)]
        probe: Name<'a>,
        #[serde(borrow, default)]
        detector: Name<'a>,
        passed: u64,
        fails: Option<u64>,
        #[serde(default)]
        nones: u64,
        total_evaluated: Option<u64>,
        total: Option<u64>,
    }
    let line: Line<'_> = serde_json::from_str(line)?;
    let evaluated = line.total_evaluated.or(line.total);
    let failed = match (line.fails, evaluated) {
        (Some(fails), _) => fails,
        (None, Some(evaluated)) => evaluated.saturating_sub(line.passed),
        (None, None) => return Err(LineError::new("an eval without its counts")),
    };
    let evaluated = evaluated.unwrap_or_else(|| line.passed.saturating_add(failed));
    let counts = DetectorTally {
        passed: line.passed,
        failed,
        nones: line.nones,
        evaluated,
    };
    Ok(Eval {
        probe: named(line.probe)?,
        detector: named(line.detector)?,
        counts,
    })
}

fn plugin_cache(line: &str) -> Result<PluginCache<'_>, LineError> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        plugin_cache: Option<Plugins<'a>>,
    }
    #[derive(Deserialize)]
    struct Plugins<'a> {
        #[serde(borrow)]
        probes: Option<OnlyKey<'a>>,
    }
    let line: Line<'_> = serde_json::from_str(line)?;
    let probe = line
        .plugin_cache
        .and_then(|plugins| plugins.probes)
        .and_then(|probes| probes.0);
    Ok(PluginCache {
        probe: probe.map(Name::from),
    })
}

fn probe_of(line: &str) -> Result<Name<'_>, LineError> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow, default)]
        probe: Name<'a>,
    }
    Ok(serde_json::from_str::<Line<'_>>(line)?.probe)
}

fn named(name: Name<'_>) -> Result<Name<'_>, LineError> {
    if name.as_str().is_empty() {
        return Err(LineError::new("the name of a probe or detector is missing"));
    }
    Ok(name)
}

fn unnumbered() -> i64 {
    -1
}
