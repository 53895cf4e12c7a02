//! The JSON lines between the runner and the warm process; `python/aegis_garak/protocol.py` is the
//! other side and its documentation.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{ending::NoResult, secret::ChildEnv};

/// The version that both sides speak.
pub const PROTOCOL: u32 = 1;

/// Longest line of a reply in bytes: an event of at most 64 KiB in its envelope, with room.
pub const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// A request to the warm process.
#[derive(Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request<'a> {
    /// Fork a child.
    Run {
        id: &'a str,
        kind: JobKind,
        scratch: &'a PathBuf,
        env: BTreeMap<&'a str, &'a str>,
        job: &'a Value,
    },
    /// Kill a child and its session.
    Kill { id: &'a str },
}

/// What a child is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Run one probe.
    Probe,
    /// Make digest and HTML of a report.
    Report,
    /// Try out a custom probe's source.
    Check,
    /// Find out what this installation has.
    Survey,
    /// Name this installation.
    Fingerprint,
}

/// A job for a child.
#[derive(Debug)]
pub struct JobRequest {
    /// What to do.
    pub kind: JobKind,
    /// The child's own directory: exists, absolute.
    pub scratch: PathBuf,
    /// The child's environment beyond what it sets itself.
    pub env: ChildEnv,
    /// The job in the words of `protocol.py`.
    pub job: Value,
}

/// A line that the warm process wrote.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Reply {
    Ready {
        protocol: u32,
        garak_version: String,
        #[serde(default)]
        landlock: u32,
    },
    Started {
        id: String,
        pid: u32,
    },
    Child {
        id: String,
        body: Value,
    },
    Ended {
        id: String,
        #[serde(flatten)]
        ended: Ended,
    },
    Refused {
        id: String,
        reason: String,
        message: String,
    },
}

/// How a child ended; its whole session is gone by then.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Ended {
    /// Its exit code, unless a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Largest resident size in KiB.
    #[serde(default)]
    pub max_rss_kb: u64,
    /// User and system time in seconds.
    #[serde(default)]
    pub cpu_seconds: f64,
}

/// What a child says while it works.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ChildEvent {
    /// The probe is loaded and its prompts are known.
    Loaded {
        /// Attempts that it will make.
        #[serde(default)]
        attempts_total: i64,
    },
    /// Last values.
    Progress {
        /// Attempts whose outputs are there.
        attempts_done: i64,
        /// Attempts that it will make, as far as known.
        attempts_total: i64,
    },
    /// A detector has judged every output.
    DetectorFinished {
        /// "dan.DAN"
        detector: String,
    },
    /// The target made us repeat a call.
    TargetRetried {
        /// UPPER_SNAKE.
        #[serde(default)]
        reason: String,
    },
    /// The end of the job, said once.
    Result(JobResult),
    /// What a newer `aegis_garak` may say.
    #[serde(other)]
    Unknown,
}

/// The end of a job in the child's words.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct JobResult {
    /// "evaluated" or "not_evaluated"; "made" or "not_made".
    pub outcome: String,
    /// Why there is no result.
    #[serde(default)]
    pub reason: Option<String>,
    /// "permanent", "retryable", "backpressure".
    #[serde(default)]
    pub class: Option<String>,
    /// Words on the reason.
    #[serde(default)]
    pub message: Option<String>,
    /// As the target asked.
    #[serde(default)]
    pub retry_after_seconds: Option<f64>,
    /// The part's report.
    #[serde(default)]
    pub report: Option<PathBuf>,
    /// The part's hits, when there were any.
    #[serde(default)]
    pub hitlog: Option<PathBuf>,
    /// Attempts that were made.
    #[serde(default)]
    pub attempts_done: Option<i64>,
    /// Of kind "fingerprint".
    #[serde(default)]
    pub fingerprint: Option<String>,
}

impl JobResult {
    /// Whether the job gave what it was asked for.
    pub fn is_good(&self) -> bool {
        matches!(self.outcome.as_str(), "evaluated" | "made")
    }

    /// Why it did not.
    pub fn no_result(&self) -> NoResult {
        NoResult {
            reason: self.reason.clone().unwrap_or_default(),
            class: self.class.clone().unwrap_or_default(),
            message: self.message.clone().unwrap_or_default(),
            retry_after_seconds: self.retry_after_seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Credential;
    use serde_json::json;

    #[test]
    fn replies_are_read() {
        let ended = r#"{"event":"ended","id":"a","exit_code":null,"signal":9,"max_rss_kb":1,"cpu_seconds":0.1}"#;
        assert!(matches!(
            serde_json::from_str(ended).unwrap(),
            Reply::Ended { id, ended: Ended { signal: Some(9), exit_code: None, .. } } if id == "a"
        ));
        let body =
            json!({"type": "result", "outcome": "evaluated", "report": "/s/part.report.jsonl"});
        let ChildEvent::Result(result) = serde_json::from_value(body).unwrap() else {
            panic!("no result");
        };
        assert!(result.is_good());
        assert_eq!(
            serde_json::from_value::<ChildEvent>(json!({"type": "later"})).unwrap(),
            ChildEvent::Unknown
        );
    }

    #[test]
    fn a_request_is_one_line() {
        let env: ChildEnv = vec![("REST_API_KEY".to_owned(), Credential::new("k"))];
        let request = Request::Run {
            id: "a",
            kind: JobKind::Probe,
            scratch: &PathBuf::from("/s"),
            env: env.iter().map(|(n, v)| (n.as_str(), v.expose())).collect(),
            job: &json!({"probe": "a\nb"}),
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"op":"run","id":"a","kind":"probe","scratch":"/s","env":{"REST_API_KEY":"k"},"job":{"probe":"a\nb"}}"#
        );
    }
}
