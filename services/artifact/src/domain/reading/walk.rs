//! A walk over the records of a scan: class by class, report by report, probe by probe.

use std::ops::Range;

use aegis_mesh::Result;
use aegis_proto::ids::ScanId;
use aegis_report::index::Excerpt;
use aegis_report::{Outcome, Record};

use super::budget::Budget;
use super::leg::{Leg, Next};
use super::open::{Files, Opened};
use super::query::{
    Cursor, Order, Query, Wanted, not_evaluated, token_of_another_state, unknown_detector,
};
use crate::domain::registry::Source;

/// A report to walk over, opened when the walk gets there.
enum Stop {
    Closed(Source),
    Opened(Opened),
}

impl Stop {
    fn source(&self) -> &Source {
        match self {
            Self::Closed(source) => source,
            Self::Opened(opened) => &opened.source,
        }
    }
}

/// Records of one probe that may be wanted, in order, each with where to begin to get it again.
pub(super) struct Group {
    pub(super) file: Opened,
    pub(super) wanted: Wanted,
    pub(super) candidates: Vec<(Record, Cursor)>,
    /// Of the probe, if they are hits.
    excerpt: Option<(Excerpt, Range<u64>)>,
}

impl Group {
    /// The probe's excerpt and where it lies in the index, if half of the candidates or more have
    /// their lines in it.
    pub(super) fn excerpt(&self) -> Option<&(Excerpt, Range<u64>)> {
        let found = self.excerpt.as_ref()?;
        let is_within = |(_, at): &&(Record, Cursor)| {
            at.at.first().is_some_and(|number| *number < found.0.hits)
        };
        let within = self.candidates.iter().take_while(is_within).count();
        (within > 0 && within * 2 >= self.candidates.len()).then_some(found)
    }
}

/// What comes next.
pub(super) enum Step {
    Group(Group),
    /// The budget is spent; here it goes on.
    Spent(Cursor),
    End,
}

/// The state of a walk.
pub(super) struct Walk<'a> {
    files: &'a Files,
    detector: Option<String>,
    outcome: Option<Outcome>,
    order: Order,
    stops: Vec<Stop>,
    /// Where it is: class, report, probe within the report.
    class: usize,
    stop: usize,
    probe: usize,
    /// Where the next leg begins.
    at: Vec<u64>,
    leg: Option<Leg>,
}

impl<'a> Walk<'a> {
    /// At the beginning, or where an earlier walk was.
    ///
    /// # Errors
    /// As [`super::Reports::list`].
    pub(super) async fn begin(
        files: &'a Files,
        sources: Vec<Source>,
        query: &Query,
        from: Option<&Cursor>,
    ) -> Result<Self> {
        let mut walk = Self {
            files,
            detector: query.detector.clone(),
            outcome: query.outcome,
            order: query.order,
            stops: sources.into_iter().map(Stop::Closed).collect(),
            class: 0,
            stop: 0,
            probe: 0,
            at: Vec::new(),
            leg: None,
        };
        if let Some(probe) = &query.probe {
            walk.check(query.scan, probe).await?;
        }
        if let Some(from) = from {
            walk.go_to(from).await?;
        }
        Ok(walk)
    }

    /// Over reports that are open already.
    pub(super) fn over(files: &'a Files, opened: Vec<Opened>, order: Order) -> Self {
        Self {
            files,
            detector: None,
            outcome: None,
            order,
            stops: opened.into_iter().map(Stop::Opened).collect(),
            class: 0,
            stop: 0,
            probe: 0,
            at: Vec::new(),
            leg: None,
        }
    }

    /// Up to `max` records of one probe that may be wanted.
    pub(super) async fn step(&mut self, max: usize, budget: &mut Budget) -> Result<Step> {
        loop {
            if let Some(at) = self.enter(budget).await? {
                return Ok(Step::Spent(at));
            }
            let Some(leg) = &mut self.leg else {
                return Ok(Step::End);
            };
            let mut group = Group {
                file: leg.file.clone(),
                wanted: leg.wanted.clone(),
                candidates: Vec::new(),
                excerpt: leg.excerpt(),
            };
            let cursor = |leg: &Leg, at| Cursor {
                class: self.class,
                probe: leg.entry.name.clone(),
                at,
            };
            let mut is_over = false;
            while group.candidates.len() < max && !is_over {
                match leg.next(self.files, budget).await? {
                    Next::Candidate(found) => {
                        let at = cursor(leg, found.at);
                        group.candidates.push((found.record, at));
                    }
                    Next::Spent if group.candidates.is_empty() => {
                        return Ok(Step::Spent(cursor(leg, leg.at())));
                    }
                    Next::Spent => break,
                    Next::End => is_over = true,
                }
            }
            if is_over {
                self.leg = None;
                self.probe += 1;
            }
            if !group.candidates.is_empty() {
                return Ok(Step::Group(group));
            }
        }
    }

    /// Where it reads.
    pub(super) fn files(&self) -> &Files {
        self.files
    }

    /// Makes the next leg, unless one is under way; where it is when the budget does not allow it.
    async fn enter(&mut self, budget: &mut Budget) -> Result<Option<Cursor>> {
        while self.leg.is_none() {
            let Some(class) = self.order.classes().get(self.class) else {
                return Ok(None);
            };
            let Some(stop) = self.stops.get(self.stop) else {
                (self.class, self.stop, self.probe) = (self.class + 1, 0, 0);
                continue;
            };
            if matches!(stop, Stop::Closed(_)) && !budget.take_index() {
                return Ok(Some(Cursor {
                    class: self.class,
                    probe: stop.source().probe.clone().unwrap_or_default(),
                    at: std::mem::take(&mut self.at),
                }));
            }
            let file = self.open(self.stop).await?;
            let Some(entry) = file.probes().nth(self.probe).cloned() else {
                (self.stop, self.probe) = (self.stop + 1, 0);
                continue;
            };
            let detector = self.detector.as_deref();
            let Some(wanted) = Wanted::new(detector, self.outcome, *class, &entry) else {
                self.probe += 1;
                continue;
            };
            let at = std::mem::take(&mut self.at);
            self.leg = Some(Leg::new(file, entry, wanted, &at)?);
        }
        Ok(None)
    }

    async fn open(&mut self, place: usize) -> Result<Opened> {
        if let Stop::Opened(opened) = &self.stops[place] {
            return Ok(opened.clone());
        }
        let opened = self.files.open(self.stops[place].source().clone()).await?;
        self.stops[place] = Stop::Opened(opened.clone());
        Ok(opened)
    }

    /// Refuses a probe that is not there, and a detector that did not judge it.
    async fn check(&mut self, scan: ScanId, probe: &str) -> Result<()> {
        if self.stops.is_empty() {
            return Err(not_evaluated(scan, probe));
        }
        let file = self.open(0).await?;
        let entry = file.header.probe(probe);
        let entry = entry.map_err(|_| not_evaluated(scan, probe))?;
        match self.detector.as_deref() {
            Some(name) if !entry.detectors.iter().any(|known| known == name) => {
                Err(unknown_detector(name, entry))
            }
            _ => Ok(()),
        }
    }

    async fn go_to(&mut self, from: &Cursor) -> Result<()> {
        if from.class >= self.order.classes().len() {
            return token_of_another_state();
        }
        self.class = from.class;
        if from.probe.is_empty() {
            return Ok(());
        }
        for place in 0..self.stops.len() {
            let has_it = match &self.stops[place].source().probe {
                Some(probe) => *probe == from.probe,
                None => true,
            };
            if !has_it {
                continue;
            }
            let file = self.open(place).await?;
            if let Some(probe) = file.probes().position(|entry| entry.name == from.probe) {
                (self.stop, self.probe) = (place, probe);
                self.at.clone_from(&from.at);
                return Ok(());
            }
        }
        token_of_another_state()
    }
}
