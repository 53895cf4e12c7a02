//! Steps that lead somewhere: among all that are possible they would be rare.

use aegis_catalog::domain::{scan::ScanState, task::TaskState};

use crate::{
    choice::WORK,
    reference::{FileState, Model, Rest, Scan},
    step::{Content, How, Step, Wish, Work},
};

/// What brings a scan nearer to its end.
pub(crate) fn onward(model: &Model) -> Vec<Step> {
    let mut all = Vec::new();
    let waits = |scan: &Scan| {
        let mut tasks = scan.tasks.iter();
        tasks.any(|task| task.state == TaskState::Queued && task.not_before <= model.now)
    };
    if model.scans.iter().any(waits) {
        all.push(Step::Poll { runner: 0 });
    }
    for lease in (0..model.leases.len()).filter(|lease| model.holds(*lease)) {
        let run = &model.leases[lease];
        let scan = &model.scans[run.scan];
        let stopped = scan.cancelled && scan.tasks[run.task].probe;
        let how = if stopped { How::Cancelled } else { How::Done };
        let (detectors, content) = (0, Content::Results);
        if stopped {
            all.extend(vec![Step::Report { lease, detectors }; 2]);
        }
        all.push(match run.uploaded {
            None if !stopped => Step::Upload { lease, content },
            _ => Step::Finish { lease, how },
        });
    }
    for (index, scan) in model.scans.iter().enumerate() {
        if scan.state == ScanState::Paused {
            let (scan, wish) = (index, Wish::Resume);
            all.push(Step::Wish { scan, wish });
        }
    }
    all
}

/// What takes a run from its runner, and what that one says nevertheless.
pub(crate) fn losses(model: &Model) -> Vec<Step> {
    let mut all = Vec::new();
    for lease in 0..model.leases.len() {
        let run = &model.leases[lease];
        let task = &model.scans[run.scan].tasks[run.task];
        if model.is_taken_over(lease) {
            let (detectors, how) = (0, How::Done);
            all.push(Step::Report { lease, detectors });
            all.push(Step::Finish { lease, how });
        } else if model.holds(lease) {
            all.extend((task.expires < model.now).then_some(Step::Expire));
            let how = How::Permanent;
            all.push(Step::Finish { lease, how });
            if task.probe {
                let how = How::Retryable;
                all.push(Step::Finish { lease, how });
            }
        }
    }
    all
}

/// A target pushes back, and a scan that waits for it is paused.
pub(crate) fn refusals(model: &Model) -> Vec<Step> {
    let mut all = Vec::new();
    for lease in (0..model.leases.len()).filter(|lease| model.holds(*lease)) {
        let run = &model.leases[lease];
        if model.scans[run.scan].tasks[run.task].probe {
            let how = How::Backpressure { asked: false };
            all.extend(vec![Step::Finish { lease, how }; 2]);
        }
    }
    for (index, scan) in model.scans.iter().enumerate() {
        let rests = model.lanes[scan.plan.lane].paused_until > model.now;
        if rests && !scan.state.is_terminal() {
            let (scan, wish) = (index, Wish::Pause);
            all.push(Step::Wish { scan, wish });
        }
    }
    all
}

/// What becomes of scans that have ended, and of files.
pub(crate) fn tidying(model: &Model) -> Vec<Step> {
    let mut all = Vec::new();
    let sweep = |work| Step::Sweep {
        work,
        dry_run: false,
    };
    for (index, scan) in model.scans.iter().enumerate() {
        let wish = |wish| Step::Wish { scan: index, wish };
        let due = |at: i64| at <= model.now;
        match (scan.rest, scan.purge_at.map(due)) {
            (Rest::Nothing, _) => {}
            (Rest::Row, _) => all.extend(vec![sweep(Work::Purge); 3]),
            (_, Some(true)) => {
                all.push(wish(Wish::Undelete));
                all.extend(vec![sweep(Work::Purge); 3]);
            }
            (_, Some(false)) => {}
            (_, None) if scan.state.is_terminal() => {
                let failed = scan.count(&[TaskState::Failed, TaskState::Cancelled]) > 0;
                let partial = failed && scan.revision > 0;
                all.extend(vec![wish(Wish::Retry); if partial { 6 } else { 1 }]);
                all.extend(vec![wish(Wish::Delete); 2]);
            }
            (_, None) if scan.evaluated() > 0 => all.push(wish(Wish::Cancel)),
            (_, None) => {}
        }
    }
    for (request, known) in &model.requests {
        if model.scans[known.scan].rest == Rest::Nothing {
            let (request, plan) = (*request, known.plan.clone());
            all.extend(vec![Step::Create { request, plan }; 8]);
        }
    }
    let files: Vec<_> = model.files.values().collect();
    if files.contains(&&FileState::Uploaded) {
        all.push(sweep(Work::Unfinished));
    }
    if files
        .iter()
        .any(|file| matches!(file, FileState::Deleting(_)))
    {
        all.extend(vec![Step::ListGarbage; 2]);
    }
    if !model.listed.is_empty() {
        all.extend(vec![Step::ForgetGarbage; 4]);
    }
    all
}

/// What two may do at once, with an outcome that is certain.
pub(crate) fn pairs(model: &Model) -> Vec<(Step, Step)> {
    let mut pairs = vec![
        (Step::Poll { runner: 0 }, Step::Poll { runner: 1 }),
        (Step::Expire, Step::Expire),
        (Step::ForgetGarbage, Step::ForgetGarbage),
    ];
    for work in WORK {
        let sweep = Step::Sweep {
            work,
            dry_run: false,
        };
        pairs.push((sweep.clone(), sweep));
    }
    for (request, known) in &model.requests {
        let create = Step::Create {
            request: *request,
            plan: known.plan.clone(),
        };
        pairs.push((create.clone(), create.clone()));
        // A request that nobody has sent yet.
        let request = model.requests.len();
        let create = Step::Create {
            request,
            plan: known.plan.clone(),
        };
        pairs.push((create.clone(), create));
    }
    for scan in 0..model.scans.len() {
        for wish in [Wish::Cancel, Wish::Pause, Wish::Retry, Wish::Delete] {
            let wish = Step::Wish { scan, wish };
            pairs.push((wish.clone(), wish));
        }
    }
    let held: Vec<usize> = (0..model.leases.len())
        .filter(|l| model.holds(*l))
        .collect();
    for (place, lease) in held.iter().copied().enumerate() {
        let finish = |lease: usize| match model.leases[lease].uploaded {
            Some(_) => Step::Finish {
                lease,
                how: How::Done,
            },
            None => Step::Finish {
                lease,
                how: How::Released,
            },
        };
        let report = Step::Report {
            lease,
            detectors: 0,
        };
        pairs.push((finish(lease), finish(lease)));
        pairs.push((finish(lease), report.clone()));
        pairs.push((finish(lease), Step::Expire));
        pairs.push((report, Step::Expire));
        for other in &held[place + 1..] {
            pairs.push((finish(lease), finish(*other)));
        }
    }
    pairs.retain(|(one, other)| model.commute(one, other));
    pairs
}
