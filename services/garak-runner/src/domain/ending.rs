//! How a run ended, and what its end means for the task.

use std::time::Duration;

use super::{custom_probe::Validation, probe_work::Refusal};

/// Longest message of an ending in characters; the contract's limit.
const MAX_MESSAGE: usize = 500;
const MAX_REASON: usize = 64;
/// Longest pause that a target may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A child ended without a word.
pub const CRASHED: &str = "PROBE_CRASHED";

/// The disk is full.
pub const OUT_OF_SPACE: &str = "OUT_OF_SPACE";

const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// What becomes of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// Tried again; counts as a failure.
    FailedRetryable,
    /// Tried again after a pause; the target's doing.
    Backpressure,
    /// Not tried again.
    FailedPermanent,
    /// Its scan was cancelled.
    Cancelled,
    /// Given back unharmed.
    Released,
}

/// The end of a run, as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What becomes of the task.
    pub outcome: Outcome,
    /// UPPER_SNAKE; empty when done.
    pub reason: String,
    /// Our own words on the reason, at most 500 characters.
    pub message: String,
    /// The pause that the target asked for.
    pub retry_after: Option<Duration>,
    /// Artifacts to commit, by id.
    pub artifacts: Vec<String>,
    /// What a check found.
    pub validation: Option<Validation>,
}

impl Ending {
    /// The work is done and left these artifacts.
    pub fn done(artifacts: Vec<String>) -> Self {
        Self {
            artifacts,
            ..Self::new(Outcome::Done, "", "")
        }
    }

    /// A check came to its end, whatever it found.
    pub fn checked(validation: Validation) -> Self {
        Self {
            validation: Some(validation),
            ..Self::new(Outcome::Done, "", "")
        }
    }

    /// An end without artifacts.
    pub fn new(outcome: Outcome, reason: &str, message: &str) -> Self {
        Self {
            outcome,
            reason: reason.to_owned(),
            message: message.chars().take(MAX_MESSAGE).collect(),
            retry_after: None,
            artifacts: Vec::new(),
            validation: None,
        }
    }

    /// Given back by a runner that is being stopped.
    pub fn drained() -> Self {
        Self::new(
            Outcome::Released,
            "RUNNER_DRAINED",
            "the runner was stopped",
        )
    }

    /// A failure that another try may cure.
    pub fn retryable(reason: &str, message: &str) -> Self {
        Self::new(Outcome::FailedRetryable, reason, message)
    }

    /// The runner's disk is full, which another try, here later or elsewhere, may not find so.
    pub fn out_of_space() -> Self {
        Self::retryable(OUT_OF_SPACE, "the runner has no room for the task")
    }

    /// A failure that every try would meet.
    pub fn permanent(reason: &str, message: &str) -> Self {
        Self::new(Outcome::FailedPermanent, reason, message)
    }
}

impl From<Refusal> for Ending {
    fn from(refusal: Refusal) -> Self {
        Self::permanent(refusal.reason, &refusal.message)
    }
}

/// What a child says about why it has no result. The words are `aegis_garak`'s (`reasons.py`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NoResult {
    /// UPPER_SNAKE.
    pub reason: String,
    /// "permanent", "retryable" or "backpressure".
    pub class: String,
    /// Its words on the reason.
    pub message: String,
    /// Seconds, as the target asked.
    pub retry_after_seconds: Option<f64>,
}

/// What a child's own word for its failure means. A child runs other people's code, so what it
/// says is cut to what the contract allows.
pub fn ending_of(said: &NoResult) -> Ending {
    let outcome = match said.class.as_str() {
        "permanent" => Outcome::FailedPermanent,
        "backpressure" => Outcome::Backpressure,
        _ => Outcome::FailedRetryable,
    };
    let reason = if is_reason(&said.reason) {
        said.reason.as_str()
    } else {
        CRASHED
    };
    Ending {
        retry_after: said.retry_after_seconds.and_then(pause),
        ..Ending::new(outcome, reason, &said.message)
    }
}

/// What it means that a child ended without a word: by a limit of the kernel's, a signal, a crash.
pub fn ending_of_crash(signal: Option<i32>, exit_code: Option<i32>) -> Ending {
    let how = match (signal, exit_code) {
        (Some(SIGXCPU), _) => {
            return Ending::permanent(
                "CPU_TIME_EXCEEDED",
                "it took more processor time than the runner's limits.cpu_seconds",
            );
        }
        (Some(SIGXFSZ), _) => {
            return Ending::permanent(
                "OUTPUT_TOO_LARGE",
                "it wrote a file larger than the runner's limits.file_bytes",
            );
        }
        (Some(SIGKILL), _) => {
            "garak's process was killed (signal 9); a system that is short of memory does so"
                .to_owned()
        }
        (Some(signal), _) => format!("garak's process ended by signal {signal}"),
        (None, Some(code)) => format!("garak's process ended with exit code {code} and no result"),
        (None, None) => "garak's process ended without a result".to_owned(),
    };
    Ending::retryable(CRASHED, &how)
}

fn is_reason(text: &str) -> bool {
    (1..=MAX_REASON).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn pause(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .map(|pause| pause.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(reason: &str, class: &str) -> NoResult {
        NoResult {
            reason: reason.to_owned(),
            class: class.to_owned(),
            message: "words".to_owned(),
            retry_after_seconds: None,
        }
    }

    #[test]
    fn a_class_decides_what_becomes_of_the_task() {
        for (class, outcome) in [
            ("permanent", Outcome::FailedPermanent),
            ("retryable", Outcome::FailedRetryable),
            ("backpressure", Outcome::Backpressure),
            ("anything", Outcome::FailedRetryable),
        ] {
            let ending = ending_of(&said("TARGET_BUSY", class));
            assert_eq!(
                (ending.outcome, ending.reason.as_str()),
                (outcome, "TARGET_BUSY")
            );
        }
    }

    #[test]
    fn what_a_child_says_is_cut_to_the_contract() {
        let mut long = said("not a reason", "permanent");
        long.message = "é".repeat(9000);
        let ending = ending_of(&long);
        assert_eq!(ending.reason, "PROBE_CRASHED");
        assert_eq!(ending.message.chars().count(), 500);
    }

    #[test]
    fn a_targets_wish_for_a_pause_is_bounded() {
        let of = |seconds| {
            let mut said = said("TARGET_BUSY", "backpressure");
            said.retry_after_seconds = Some(seconds);
            ending_of(&said).retry_after
        };
        assert_eq!(of(2.5), Some(Duration::from_millis(2500)));
        assert_eq!(of(1e30), None);
        assert_eq!(of(1e9), Some(Duration::from_secs(3600)));
        assert_eq!(of(-1.0), None);
        assert_eq!(of(f64::NAN), None);
    }

    #[test]
    fn a_crash_is_tried_again() {
        let ending = ending_of_crash(Some(9), None);
        assert_eq!(ending.outcome, Outcome::FailedRetryable);
        assert_eq!(ending.reason, "PROBE_CRASHED");
        assert!(ending.message.contains("signal 9"));
    }

    #[test]
    fn a_limit_of_the_kernel_is_no_crash() {
        for (signal, reason) in [(24, "CPU_TIME_EXCEEDED"), (25, "OUTPUT_TOO_LARGE")] {
            let ending = ending_of_crash(Some(signal), None);
            assert_eq!(ending.outcome, Outcome::FailedPermanent);
            assert_eq!(ending.reason, reason);
        }
    }
}
