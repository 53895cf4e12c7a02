//! Live progress: a bar for the scan and one for each running probe, or plain lines
//! where there is no terminal.

use std::{collections::HashMap, fmt, io::IsTerminal, time::Duration};

use aegis_mesh::{Error, Result};
use aegis_proto::scan::v1::{
    Progress, ScanEvent, probe_progress::State as ProbeState, scan_event::Kind,
    watch_scan_response::Update,
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::{
    output::{table::state, waiting::waiting},
    scan::follow::Watcher,
};

/// Shows a scan's progress on standard error.
pub(crate) struct ProgressView {
    bars: MultiProgress,
    overall: ProgressBar,
    probes: HashMap<String, ProgressBar>,
    plain: bool,
    /// What was last said of waiting.
    waits: Option<String>,
}

impl ProgressView {
    pub(crate) fn new() -> Self {
        let plain = !std::io::stderr().is_terminal();
        let bars = MultiProgress::new();
        if plain {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let overall = bars.add(ProgressBar::new(0));
        overall.set_style(style(
            "{prefix:.bold} [{bar:32.cyan/blue}] {pos}/{len} attempts  {rate:>8}  ETA {eta}  {msg}",
        ));
        overall.set_prefix("scan");
        overall.enable_steady_tick(Duration::from_millis(250));
        Self {
            bars,
            overall,
            probes: HashMap::new(),
            plain,
            waits: None,
        }
    }

    fn progress(&mut self, progress: &Progress) {
        self.overall.set_length(unsigned(progress.attempts_total));
        self.overall.set_position(unsigned(progress.attempts_done));
        let tasks = format!("{}/{} tasks", progress.tasks_done, progress.tasks_total);
        self.overall.set_message(match waiting(progress) {
            Some(waits) => format!("{tasks}  waiting: {waits}"),
            None => tasks,
        });
        for probe in &progress.probes {
            if probe.state() == ProbeState::Running {
                let bar = self.bar(&probe.probe);
                bar.set_length(unsigned(probe.attempts_total));
                bar.set_position(unsigned(probe.attempts_done));
            } else if let Some(bar) = self.probes.remove(&probe.probe) {
                bar.finish_and_clear();
            }
        }
    }

    /// Where there are no bars: once for each thing that is waited for.
    fn say_waiting(&mut self, progress: &Progress) {
        let waits = waiting(progress);
        if let (true, Some(waits)) = (self.plain && waits != self.waits, &waits) {
            eprintln!("waiting: {waits}");
        }
        self.waits = waits;
    }

    fn bar(&mut self, probe: &str) -> &ProgressBar {
        let bars = &self.bars;
        self.probes.entry(probe.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(0));
            bar.set_style(style(
                "  {prefix:36} [{bar:20.green}] {pos}/{len}  {rate:>8}",
            ));
            bar.set_prefix(probe.to_owned());
            bar
        })
    }

    fn event(&mut self, event: &ScanEvent) {
        let Some(line) = event.kind.as_ref().and_then(describe) else {
            return;
        };
        if self.plain {
            eprintln!("{line}");
        } else if let Err(error) = self.bars.println(&line) {
            eprintln!("{line} ({error})");
        }
    }
}

impl Drop for ProgressView {
    /// Takes the bars away.
    fn drop(&mut self) {
        for bar in self.probes.values() {
            bar.finish_and_clear();
        }
        self.overall.finish_and_clear();
    }
}

impl Watcher for ProgressView {
    fn update(&mut self, update: &Update) -> Result<()> {
        match update {
            Update::Snapshot(scan) => {
                if let Some(progress) = &scan.progress {
                    self.progress(progress);
                }
            }
            Update::Progress(progress) => {
                self.progress(progress);
                self.say_waiting(progress);
            }
            Update::Event(event) => self.event(event),
            Update::Heartbeat(_) => {}
        }
        Ok(())
    }

    fn reconnecting(&mut self, error: &Error) {
        eprintln!("connection lost ({}), reconnecting", error.reason());
    }
}

/// What an event says in one line; none for those that the bars show.
fn describe(kind: &Kind) -> Option<String> {
    match kind {
        Kind::StateChanged(change) => Some(match change.reason.as_str() {
            "" => format!("scan is {}", state(change.to())),
            reason => format!("scan is {} ({reason})", state(change.to())),
        }),
        Kind::ProbeEvaluated(evaluated) => {
            let failed: i64 = evaluated.detectors.iter().map(|d| d.failed).sum();
            let passed: i64 = evaluated.detectors.iter().map(|d| d.passed).sum();
            let mark = if failed == 0 { "pass" } else { "FAIL" };
            Some(format!(
                "{mark}  {}: {passed} passed, {failed} failed",
                evaluated.probe
            ))
        }
        Kind::ProbeNotEvaluated(event) => event
            .not_evaluated
            .as_ref()
            .map(|not| format!("skip  {}: {} {}", not.probe, not.reason, not.message)),
        Kind::TaskRetried(retried) => Some(format!("again {}: {}", retried.probe, retried.reason)),
        Kind::ReportFailed(failed) => Some(format!("report failed: {}", failed.reason)),
        // The progress says more of what is waited for.
        Kind::Waiting(_)
        | Kind::ReportReady(_)
        | Kind::ProbeStarted(_)
        | Kind::DetectorFinished(_) => None,
    }
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[expect(
    clippy::expect_used,
    reason = "the templates are constants, drawn by every scan and every import"
)]
pub(crate) fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("a constant template")
        .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            // A writer of indicatif's own, into memory: it does not fail.
            let _written = write!(out, "{:.0}/s", state.per_sec());
        })
        .progress_chars("=> ")
}
