//! What a run has to tell until the catalog has it.

use std::collections::VecDeque;

/// Most events of a run. It has a handful of detectors; a child that says more than this is not
/// believed, so that it cannot fill the catalog.
const MAX_EVENTS: i64 = 1000;

/// Something that happened in a run and must not be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// A detector has judged every output of the probe.
    DetectorFinished(String),
}

/// Last values of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunProgress {
    /// Attempts whose outputs are there.
    pub attempts_done: i64,
    /// Zero while not yet known.
    pub attempts_total: i64,
    /// Calls that the target made us repeat.
    pub target_retries: i64,
    /// What keeps the run from handing in what it has.
    pub waits_for: Option<WaitsFor>,
}

/// What keeps a run from handing in what it has. The words are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// There is no room for it.
    StorageFull,
    /// The object store will not take it.
    StorageRefused,
    /// The object store, or the way to it, does not work.
    StorageDown,
}

impl WaitsFor {
    /// As the contract has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StorageFull => "STORAGE_FULL",
            Self::StorageRefused => "STORAGE_REFUSED",
            Self::StorageDown => "STORAGE_DOWN",
        }
    }
}

/// Events numbered 1, 2, 3, … and kept until they are durable.
#[derive(Debug, Default)]
pub struct Outbox {
    last_sequence: i64,
    waiting: VecDeque<(i64, RunEvent)>,
}

impl Outbox {
    /// Adds an event. False when the run has had too many: then it is not taken, and has no number.
    pub fn push(&mut self, event: RunEvent) -> bool {
        if self.last_sequence >= MAX_EVENTS {
            return false;
        }
        self.last_sequence += 1;
        self.waiting.push_back((self.last_sequence, event));
        true
    }

    /// The events that are not known to be durable, oldest first, at most `limit`.
    pub fn waiting(&self, limit: usize) -> Vec<(i64, RunEvent)> {
        self.waiting.iter().take(limit).cloned().collect()
    }

    /// Everything up to `sequence` is durable.
    pub fn committed(&mut self, sequence: i64) {
        while self.waiting.front().is_some_and(|(s, _)| *s <= sequence) {
            self.waiting.pop_front();
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: usize) -> RunEvent {
        RunEvent::DetectorFinished(format!("always.D{n}"))
    }

    #[test]
    fn events_wait_until_they_are_committed() {
        let mut outbox = Outbox::default();
        for n in 1..=3 {
            assert!(outbox.push(event(n)));
        }
        assert_eq!(outbox.waiting(2), vec![(1, event(1)), (2, event(2))]);
        outbox.committed(2);
        assert_eq!(outbox.waiting(9), vec![(3, event(3))]);
        outbox.committed(1); // an old answer takes nothing back
        assert_eq!(outbox.waiting(9), vec![(3, event(3))]);
        outbox.committed(3);
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_outbox_is_bounded_and_leaves_no_gap() {
        let mut outbox = Outbox::default();
        for n in 0..MAX_EVENTS {
            assert!(outbox.push(event(n as usize)));
        }
        assert!(!outbox.push(event(0)));
        outbox.committed(1);
        assert!(!outbox.push(event(7)), "of the run, not of what waits");
        let last = outbox.waiting(usize::MAX).pop();
        assert_eq!(last, Some((MAX_EVENTS, event(999))));
    }
}
