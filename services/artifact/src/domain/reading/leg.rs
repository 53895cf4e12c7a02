//! The records of one probe in one class, in the report's order.

use std::collections::VecDeque;
use std::ops::Range;

use aegis_mesh::Result;
use aegis_report::Record;
use aegis_report::index::{Excerpt, ProbeEntry};

use super::budget::Budget;
use super::open::{Files, Opened};
use super::query::{Wanted, token_of_another_state};

/// Records that are read in one go, at first and at most.
const FIRST_BATCH: u64 = 128;
const MAX_BATCH: u64 = 1 << 14;

/// A record that may be wanted, and where to begin to get it again.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) record: Record,
    pub(super) at: Vec<u64>,
}

/// What a leg has next.
pub(super) enum Next {
    Candidate(Candidate),
    /// The budget of records is spent.
    Spent,
    End,
}

/// Runs of records, each in the report's order, read batch by batch and merged.
pub(super) struct Leg {
    pub(super) file: Opened,
    pub(super) entry: ProbeEntry,
    pub(super) wanted: Wanted,
    runs: Vec<Run>,
    batch: u64,
}

/// What is left of one run.
struct Run {
    all: Range<u64>,
    /// Of the next record that is not read.
    unread: u64,
    read: VecDeque<Record>,
}

impl Run {
    /// How many records are behind.
    fn behind(&self) -> u64 {
        self.unread - self.all.start - self.read.len() as u64
    }
}

impl Leg {
    /// Begins where `at` says, or at the beginning when it is empty.
    pub(super) fn new(file: Opened, entry: ProbeEntry, wanted: Wanted, at: &[u64]) -> Result<Self> {
        let runs = entry.runs().into_iter();
        let runs = runs.filter(|(class, _)| class.is_none_or(|class| wanted.may_be_among(class)));
        let all: Vec<Range<u64>> = runs.map(|(_, range)| range).collect();
        if !at.is_empty() && at.len() != all.len() {
            return token_of_another_state();
        }
        let runs = all.into_iter().enumerate().map(|(place, all)| {
            let behind = at.get(place).copied().unwrap_or(0);
            Run {
                unread: all.start.saturating_add(behind).min(all.end),
                all,
                read: VecDeque::new(),
            }
        });
        Ok(Self {
            runs: runs.collect(),
            file,
            entry,
            wanted,
            batch: FIRST_BATCH,
        })
    }

    /// The probe's excerpt and where it lies in the index, when the leg is one of hits alone.
    pub(super) fn excerpt(&self) -> Option<(Excerpt, Range<u64>)> {
        match self.runs.as_slice() {
            [run] if run.all.start == 0 => {
                let range = self.file.header.excerpt_range(&self.entry)?;
                Some((self.entry.excerpt?, range))
            }
            _ => None,
        }
    }

    /// Where the leg is.
    pub(super) fn at(&self) -> Vec<u64> {
        self.runs.iter().map(Run::behind).collect()
    }

    /// The next record that may be wanted.
    pub(super) async fn next(&mut self, files: &Files, budget: &mut Budget) -> Result<Next> {
        loop {
            if !self.refill(files, budget).await? {
                return Ok(Next::Spent);
            }
            let fronts = self.runs.iter().enumerate();
            let fronts = fronts.filter_map(|(place, run)| Some((place, run.read.front()?.offset)));
            let Some((place, _)) = fronts.min_by_key(|(_, offset)| *offset) else {
                return Ok(Next::End);
            };
            // Cheaper than to know where one was for each that is passed by.
            let is_wanted = self.runs[place]
                .read
                .front()
                .is_some_and(|record| self.wanted.may_have(record));
            let at = if is_wanted { self.at() } else { Vec::new() };
            if let Some(record) = self.runs[place].read.pop_front()
                && is_wanted
            {
                return Ok(Next::Candidate(Candidate { record, at }));
            }
        }
    }

    /// Reads on in each run of which no record is at hand; false when the budget is spent.
    async fn refill(&mut self, files: &Files, budget: &mut Budget) -> Result<bool> {
        for run in &mut self.runs {
            if !run.read.is_empty() || run.unread == run.all.end {
                continue;
            }
            if !budget.has_records() {
                return Ok(false);
            }
            let count = self.batch.min(run.all.end - run.unread);
            let read = files
                .records(&self.file, &self.entry, run.unread, count)
                .await?;
            budget.take_records(count);
            run.unread += read.len() as u64;
            run.read = read.into();
            self.batch = (self.batch * 2).min(MAX_BATCH);
        }
        Ok(true)
    }
}
