//! What the collector does to the model.

use crate::{
    reference::{FileState, Model, Rest},
    step::{
        Answer, Work,
        minutes::{GRACE, KEPT},
    },
};

/// Events that an old log loses.
const PASSING: [&str; 2] = ["DETECTOR_FINISHED", "WAITING"];

impl Model {
    /// How many there are of what it takes away. Only said, or done as well.
    pub(crate) fn sweep(&mut self, work: Work, dry_run: bool) -> Answer {
        let mut after = self.clone();
        let number = match work {
            Work::Unfinished => after.mark_unfinished(),
            Work::Parts => after.mark_parts(),
            Work::Purge => after.purge(),
            Work::Requests => {
                after.requests.retain(|_, known| known.expires >= self.now);
                self.requests.len() - after.requests.len()
            }
            Work::Runs => after.forget_runs(),
            Work::Events => after.compact(),
        };
        if !dry_run {
            *self = after;
        }
        Answer::Number(number as i64)
    }

    /// What no run will commit: its run is over.
    fn mark_unfinished(&mut self) -> usize {
        let held: Vec<_> = (0..self.leases.len())
            .filter(|index| self.holds(*index))
            .map(|index| &self.leases[index])
            .map(|lease| (lease.scan, lease.task, lease.epoch))
            .collect();
        let mut marked = 0;
        for ((scan, task, epoch, _), file) in &mut self.files {
            let open = matches!(file, FileState::Staged | FileState::Uploaded);
            if open && !held.contains(&(*scan, *task, *epoch)) {
                *file = FileState::Deleting(self.now);
                marked += 1;
            }
        }
        marked
    }

    /// Parts that a revision of the report has.
    fn mark_parts(&mut self) -> usize {
        let mut marked = 0;
        for ((scan, task, _, _), file) in &mut self.files {
            let scan = &self.scans[*scan];
            let taken_in = scan.parts_taken_in && scan.tasks[*task].composed > 0;
            if taken_in && *file == FileState::Committed {
                *file = FileState::Deleting(self.now);
                marked += 1;
            }
        }
        for scan in &mut self.scans {
            scan.parts_taken_in = false;
        }
        marked
    }

    /// Deleted scans whose time to be restored is over: how many begin to go.
    fn purge(&mut self) -> usize {
        let mut begun = 0;
        for (index, scan) in self.scans.iter_mut().enumerate() {
            if scan.purge_at.is_none_or(|at| at > self.now) {
                continue;
            }
            if scan.rest == Rest::All {
                begun += 1;
                scan.rest = Rest::Row;
                scan.log.clear();
            }
            let mut none = true;
            for (_, file) in self
                .files
                .range_mut((index, 0, 0, "")..(index + 1, 0, 0, ""))
            {
                none = false;
                if !matches!(file, FileState::Deleting(_)) {
                    *file = FileState::Deleting(self.now);
                }
            }
            if none {
                scan.rest = Rest::Nothing;
            }
            for lease in self.leases.iter_mut().filter(|lease| lease.scan == index) {
                lease.known = false;
            }
        }
        begun
    }

    fn forget_runs(&mut self) -> usize {
        let before = self.now - KEPT;
        let mut forgotten = 0;
        for lease in &mut self.leases {
            if lease.known && lease.ended.is_some_and(|ended| ended < before) {
                lease.known = false;
                forgotten += 1;
            }
        }
        forgotten
    }

    fn compact(&mut self) -> usize {
        let before = self.now - KEPT;
        let mut gone = 0;
        for scan in &mut self.scans {
            if scan.ended.is_some_and(|ended| ended < before) {
                let all = scan.log.len();
                scan.log.retain(|(what, _)| !PASSING.contains(&&**what));
                gone += all - scan.log.len();
            }
        }
        gone
    }

    /// What was marked long enough ago.
    pub(crate) fn list_garbage(&mut self) -> Answer {
        let before = self.now - GRACE;
        let ripe = self
            .files
            .iter()
            .filter(|(_, file)| matches!(file, FileState::Deleting(at) if *at <= before));
        self.listed = ripe.map(|(key, _)| *key).collect();
        Answer::Number(self.listed.len() as i64)
    }

    pub(crate) fn forget_garbage(&mut self) -> Answer {
        let before = self.files.len();
        self.files.retain(|key, _| !self.listed.contains(key));
        Answer::Number((before - self.files.len()) as i64)
    }
}
