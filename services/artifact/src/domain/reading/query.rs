//! Which attempts, and in which order.

use aegis_mesh::{Error, Result};
use aegis_proto::ids::ScanId;
use aegis_report::index::{INDEXED_DETECTORS, ProbeEntry};
use aegis_report::{Attempt, Outcome, Record};
use serde::{Deserialize, Serialize};

use super::search::TextMatch;

/// Which attempts.
#[derive(Debug, Clone)]
pub struct Query {
    /// The scan.
    pub scan: ScanId,
    /// `module.Class`; `None` is all.
    pub probe: Option<String>,
    /// Only those that this detector judged.
    pub detector: Option<String>,
    /// Only those with this outcome, by `detector` or, without one, by any.
    pub outcome: Option<Outcome>,
    /// Only those in whose prompt, outputs or conversations this occurs.
    pub text: Option<TextMatch>,
    /// In which order.
    pub order: Order,
    /// Where the page begins; `None` is the beginning.
    pub from: Option<Cursor>,
    /// Attempts of the page at most.
    pub page_size: usize,
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Order {
    /// As the report has them.
    Report,
    /// Hits of all probes, then passes, then what could not be scored; within each as the report.
    HitsFirst,
}

/// Where to go on: in which class, at which probe, and so far into each run of its records. It means
/// the same in a part and in the report that is composed of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Number among [`Order::classes`].
    #[serde(rename = "c")]
    pub(super) class: usize,
    /// `module.Class`.
    #[serde(rename = "p")]
    pub(super) probe: String,
    /// How many records of each run are behind; empty at its beginning.
    #[serde(rename = "a")]
    pub(super) at: Vec<u64>,
}

impl Order {
    /// The classes, in their order; one without an outcome has all.
    pub(super) fn classes(self) -> &'static [Option<Outcome>] {
        match self {
            Self::Report => &[None],
            Self::HitsFirst => &[Some(Outcome::Hit), Some(Outcome::Pass), Some(Outcome::None)],
        }
    }
}

/// The query, in terms of one probe's index.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Places of detectors in the index; all when none was named.
    detectors: std::ops::Range<usize>,
    named: Option<String>,
    outcome: Option<Outcome>,
    class: Option<Outcome>,
}

impl Wanted {
    /// `None` when the detector named did not judge this probe.
    pub(super) fn new(
        detector: Option<&str>,
        outcome: Option<Outcome>,
        class: Option<Outcome>,
        entry: &ProbeEntry,
    ) -> Option<Self> {
        let detectors = match detector {
            None => 0..entry.detectors.len(),
            Some(name) => {
                let place = entry.detectors.iter().position(|known| known == name)?;
                place..place + 1
            }
        };
        Some(Self {
            detectors,
            named: detector.map(str::to_owned),
            outcome,
            class,
        })
    }

    /// Whether records of which the outcome over all detectors is `overall` may be wanted.
    pub(super) fn may_be_among(&self, overall: Outcome) -> bool {
        // A detector's hit is one of all; its pass may be beside another's hit.
        let may_have = |judged| match judged {
            Outcome::Hit => overall == Outcome::Hit,
            Outcome::Pass => overall != Outcome::None,
            Outcome::None => true,
        };
        let class = match (self.class, self.is_named_and_indexed()) {
            (None, _) => true,
            (Some(class), true) => may_have(class),
            (Some(class), false) => class == overall,
        };
        // Of detectors beyond those indexed the index knows their hits only.
        let outcome = self.detectors.end > INDEXED_DETECTORS;
        class && (outcome || self.outcome.is_none_or(may_have))
    }

    fn is_named_and_indexed(&self) -> bool {
        self.named.is_some() && self.detectors.start < INDEXED_DETECTORS
    }

    /// Whether the index says yes, or cannot say no: it has the outcomes of the first
    /// [`INDEXED_DETECTORS`] detectors only.
    pub(super) fn may_have(&self, record: &Record) -> bool {
        self.is_of_class(record) && self.may_have_outcome(record)
    }

    fn is_of_class(&self, record: &Record) -> bool {
        let Some(class) = self.class else {
            return true;
        };
        if self.is_named_and_indexed() {
            return record.outcomes.get(self.detectors.start) == Some(class);
        }
        record.outcomes.overall() == class
    }

    fn may_have_outcome(&self, record: &Record) -> bool {
        if self.is_anything() {
            return true;
        }
        let fits = |place| match record.outcomes.get(place) {
            Some(outcome) => self.outcome.is_none_or(|wanted| wanted == outcome),
            None => false,
        };
        let spilled = self.detectors.end > INDEXED_DETECTORS && record.outcomes.is_spilled();
        spilled || self.detectors.clone().any(fits)
    }

    /// Whether the attempt itself says yes.
    pub(super) fn has(&self, attempt: &Attempt) -> bool {
        self.is_anything()
            || attempt.detectors.iter().any(|judged| {
                self.named
                    .as_ref()
                    .is_none_or(|name| *name == judged.detector)
                    && self.outcome.is_none_or(|outcome| outcome == judged.outcome)
            })
    }

    fn is_anything(&self) -> bool {
        self.named.is_none() && self.outcome.is_none()
    }
}

pub(super) fn unknown_detector(name: &str, entry: &ProbeEntry) -> Error {
    let known = entry.detectors.join(", ");
    let given: String = name.chars().take(128).collect();
    let message = format!("{given:?} did not judge {}; these did: {known}", entry.name);
    Error::invalid_argument("UNKNOWN_DETECTOR", message.clone())
        .with("detectors", known)
        .field("detector", message)
}

pub(super) fn not_evaluated(scan: ScanId, probe: &str) -> Error {
    let message = format!("{probe:?} was not evaluated in scan {scan}");
    Error::new(aegis_mesh::Code::NotFound, "PROBE_NOT_EVALUATED", message)
        .with("probe", probe)
        .with("scan_id", scan)
}

pub(super) fn token_of_another_state<T>() -> Result<T> {
    let what = "the scan's reports are not those that the page was of";
    Err(Error::invalid_argument("PAGE_TOKEN_INVALID", what)
        .field("page_token", what)
        .hint("begin again without page_token"))
}
