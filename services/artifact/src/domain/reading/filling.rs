//! A page that is being filled.

use std::ops::Range;

use aegis_mesh::Result;
use aegis_mesh::spawn::blocking;
use aegis_report::attempt::any_text_matches;
use aegis_report::index::{ReadPlan, plan_reads};
use aegis_report::{Attempt, Record, TextBounds};

use super::budget::Budget;
use super::open::{Block, Opened};
use super::query::Cursor;
use super::search::TextMatch;
use super::walk::{Group, Step, Walk};
use crate::domain::fault;

/// A page ends once its attempts have so much text, with the attempt that went over.
pub const PAGE_TEXT_BYTES: usize = 1 << 20;
/// Lines that are so close are read at once, with what lies between them.
const MAX_GAP: u64 = 16 << 10;
/// Bytes of one read, and of reads that are made together; a longer line is a read of its own.
const MAX_READ_BYTES: u64 = 1 << 20;
/// Attempts that are looked at together when a text is looked for.
const SEARCHED_TOGETHER: usize = 256;

/// Attempts so far.
pub(super) struct Filling {
    left: usize,
    text: usize,
    attempts: Vec<Attempt>,
}

impl Filling {
    pub(super) fn new(page_size: usize) -> Self {
        Self {
            left: page_size,
            text: 0,
            attempts: Vec::new(),
        }
    }

    pub(super) fn into_attempts(self) -> Vec<Attempt> {
        self.attempts
    }

    /// The attempts so far, of which none is kept.
    pub(super) fn take(&mut self) -> Vec<Attempt> {
        std::mem::take(&mut self.attempts)
    }

    pub(super) fn is_full(&self) -> bool {
        self.left == 0 || self.text >= PAGE_TEXT_BYTES
    }

    fn push(&mut self, attempt: Attempt) {
        self.left -= 1;
        self.text += text_bytes(&attempt);
        self.attempts.push(attempt);
    }

    /// Takes what the walk finds until the page is full, the budget is spent or the walk is over;
    /// where to go on, if it is not.
    pub(super) async fn fill(
        &mut self,
        walk: &mut Walk<'_>,
        text: Option<&TextMatch>,
        budget: &mut Budget,
    ) -> Result<Option<Cursor>> {
        loop {
            // A full page looks for one more, so that the last page says that it is.
            let max = match text {
                Some(_) if !self.is_full() => SEARCHED_TOGETHER,
                _ => self.left.max(1),
            };
            let group = match walk.step(max, budget).await? {
                Step::Group(group) => group,
                Step::Spent(at) => return Ok(Some(at)),
                Step::End => return Ok(None),
            };
            if let Some(at) = self.take_in(walk, group, text, budget).await? {
                return Ok(Some(at));
            }
        }
    }

    /// Takes what one step of the walk finds; whether the walk or the budget is at its end.
    pub(super) async fn fill_some(
        &mut self,
        walk: &mut Walk<'_>,
        budget: &mut Budget,
    ) -> Result<bool> {
        match walk.step(self.left.max(1), budget).await? {
            Step::Group(group) => Ok(self.take_in(walk, group, None, budget).await?.is_some()),
            Step::Spent(_) | Step::End => Ok(true),
        }
    }

    /// Reads a group's attempts; where to go on when there is no more room.
    async fn take_in(
        &mut self,
        walk: &Walk<'_>,
        group: Group,
        text: Option<&TextMatch>,
        budget: &mut Budget,
    ) -> Result<Option<Cursor>> {
        let records: Vec<Record> = group.candidates.iter().map(|(record, _)| *record).collect();
        let cursor = |number: usize| Some(group.candidates[number].1.clone());
        let mut first = 0;
        if let Some((excerpt, range)) = group.excerpt() {
            if self.is_full() || !budget.take_bytes(excerpt.bytes) {
                return Ok(cursor(first));
            }
            let files = walk.files();
            let block = files.excerpt(&group.file, excerpt, range.clone(), &records);
            let block = block.await?;
            let lines = block.lines.len();
            let read = parse(&group.file, vec![block], text).await?;
            if let Some(full) = self.push_wanted(&group, read) {
                return Ok(cursor(full));
            }
            first = lines;
        }
        let plans = plan_reads(&records[first..], MAX_GAP, MAX_READ_BYTES);
        for window in windows(&plans) {
            let plans = &plans[window];
            let from = first + plans[0].records.start;
            let bytes = plans
                .iter()
                .map(|plan| plan.range.end - plan.range.start)
                .sum();
            if self.is_full() || !budget.take_bytes(bytes) {
                return Ok(cursor(from));
            }
            let blocks = walk
                .files()
                .blocks(&group.file, plans, &records[first..])
                .await?;
            let read = parse(&group.file, blocks, text).await?;
            if let Some(full) = self.push_wanted(&group, read) {
                return Ok(cursor(from + full));
            }
        }
        Ok(None)
    }

    /// Takes those that are wanted; the number of the first for which there is no room.
    fn push_wanted(&mut self, group: &Group, read: Vec<Option<Attempt>>) -> Option<usize> {
        for (number, attempt) in read.into_iter().enumerate() {
            if self.is_full() {
                return Some(number);
            }
            if let Some(attempt) = attempt.filter(|attempt| group.wanted.has(attempt)) {
                self.push(attempt);
            }
        }
        None
    }
}

/// Reads that follow each other and are small enough to be made together.
fn windows(plans: &[ReadPlan]) -> Vec<Range<usize>> {
    let mut windows: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (number, plan) in plans.iter().enumerate() {
        let size = plan.range.end - plan.range.start;
        match windows.last_mut() {
            Some(last) if bytes + size <= MAX_READ_BYTES => {
                last.end = number + 1;
                bytes += size;
            }
            _ => {
                windows.push(number..number + 1);
                bytes = size;
            }
        }
    }
    windows
}

/// The attempts of some reads, in order; none for those in which the text does not occur.
async fn parse(
    file: &Opened,
    blocks: Vec<Block>,
    text: Option<&TextMatch>,
) -> Result<Vec<Option<Attempt>>> {
    let (threshold, text) = (file.source.eval_threshold, text.cloned());
    let parsed = blocking("parse-attempts", move || {
        let mut attempts = Vec::new();
        for Block { bytes, lines } in blocks {
            for line in lines {
                let line = bytes.get(line).unwrap_or_default();
                if let Some(text) = &text
                    && !any_text_matches(line, |said| text.is_in(said))?
                {
                    attempts.push(None);
                    continue;
                }
                let attempt = Attempt::parse(line, threshold, TextBounds::default())?;
                attempts.push(Some(attempt));
            }
        }
        Ok::<_, aegis_report::LineError>(attempts)
    });
    let misplaced = |_| {
        fault::corrupt(
            &file.source.report,
            "an attempt is not where its index says",
        )
    };
    parsed.await?.map_err(misplaced)
}

/// The text of an attempt, for the bound of a page.
pub(super) fn text_bytes(attempt: &Attempt) -> usize {
    let prompt = attempt
        .prompt
        .iter()
        .filter_map(|turn| turn.content.as_ref());
    let outputs = attempt.outputs.iter().flatten();
    prompt
        .chain(outputs)
        .chain(&attempt.goal)
        .chain(&attempt.triggers)
        .map(|text| text.text.len())
        .sum()
}
