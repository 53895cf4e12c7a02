//! Few large reads instead of many small ones.

use std::ops::Range;

use super::Record;

/// One read from a report, and the records whose lines it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPlan {
    /// Bytes of the report.
    pub range: Range<u64>,
    /// Which of the records given lie within.
    pub records: Range<usize>,
}

impl ReadPlan {
    /// Where the line of `record`, one of this read's, lies in the bytes read.
    pub fn place(&self, record: &Record) -> Range<usize> {
        let start = record.offset.saturating_sub(self.range.start) as usize;
        start..start.saturating_add(record.length as usize)
    }
}

/// Plans the reads for the lines of `records`. Lines that follow each other
/// with no more than `max_gap` bytes between them are read at once, up to
/// `max_bytes` a read; a longer line is a read of its own.
pub fn plan_reads(records: &[Record], max_gap: u64, max_bytes: u64) -> Vec<ReadPlan> {
    let mut plans: Vec<ReadPlan> = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let range = record.range();
        if let Some(last) = plans.last_mut()
            && follows(&last.range, &range, max_gap, max_bytes)
        {
            last.range.end = range.end;
            last.records.end = number + 1;
            continue;
        }
        plans.push(ReadPlan {
            range,
            records: number..number + 1,
        });
    }
    plans
}

/// Joins ranges as [`plan_reads`] does.
pub fn coalesce(
    ranges: impl IntoIterator<Item = Range<u64>>,
    max_gap: u64,
    max_bytes: u64,
) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if follows(last, &range, max_gap, max_bytes) => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

fn follows(last: &Range<u64>, next: &Range<u64>, max_gap: u64, max_bytes: u64) -> bool {
    next.start >= last.end
        && next.start - last.end <= max_gap
        && next.end.saturating_sub(last.start) <= max_bytes
}
