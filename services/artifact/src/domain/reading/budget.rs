//! What one call may look at.

/// Bytes of reports.
const REPORT_BYTES: u64 = 8 << 20;
/// Records of indexes, 40 bytes each.
const RECORDS: u64 = 1 << 18;
/// Indexes that are opened.
const INDEXES: u32 = 64;

/// What is left of it. A call makes some progress whatever is left.
#[derive(Debug)]
pub(super) struct Budget {
    report_bytes: u64,
    records: u64,
    indexes: u32,
}

impl Budget {
    pub(super) fn of_a_call() -> Self {
        Self {
            report_bytes: REPORT_BYTES,
            records: RECORDS,
            indexes: INDEXES,
        }
    }

    /// Takes bytes of a report; false once there were none left before.
    pub(super) fn take_bytes(&mut self, bytes: u64) -> bool {
        let had_some = self.report_bytes > 0;
        self.report_bytes = self.report_bytes.saturating_sub(bytes);
        had_some
    }

    pub(super) fn has_bytes(&self) -> bool {
        self.report_bytes > 0
    }

    pub(super) fn take_records(&mut self, records: u64) {
        self.records = self.records.saturating_sub(records);
    }

    pub(super) fn has_records(&self) -> bool {
        self.records > 0
    }

    /// Whether another index may be opened; counts it.
    pub(super) fn take_index(&mut self) -> bool {
        let had_some = self.indexes > 0;
        self.indexes = self.indexes.saturating_sub(1);
        had_some
    }
}
