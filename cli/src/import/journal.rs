//! What became of each thing: counted, shown while it goes on, summed up at the end.

use std::{io::IsTerminal, time::Duration};

use aegis_mesh::{Code, Error};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;

use super::{
    content::ReadError,
    options::LeftOut,
    summary::{NotTaken, Remark, Summary, push},
};
use crate::output::progress::style;

const BAR: &str = "import [{bar:32.cyan/blue}] {pos}/{len}  {elapsed}";

/// What can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Kind {
    Scan,
    Template,
    CustomProbe,
    File,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Template => "template",
            Self::CustomProbe => "custom probe",
            Self::File => "file",
        }
    }
}

/// What became of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is here now; in a dry run, it would be.
    Imported,
    /// It was here.
    Unchanged,
    /// Nothing that an import takes.
    Ignored,
}

/// Why one thing is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// UPPER_SNAKE.
    pub(super) reason: String,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

/// Why something went wrong: for one thing, or for all that follows too.
#[derive(Debug)]
pub(super) enum Failure {
    One(Refusal),
    All(Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::One(refusal)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::One(error.into())
    }
}

impl From<Error> for Failure {
    /// A mesh that cannot be reached, or does not let one in, takes nothing else either.
    fn from(error: Error) -> Self {
        match error.code() {
            Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented => Self::All(error),
            _ => {
                let fields = error.fields().iter();
                let fields = fields.map(|field| format!("; {}: {}", field.path, field.description));
                let message = format!("{}{}", error.message(), fields.collect::<String>());
                Self::One(Refusal::new(error.reason(), message))
            }
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Error::from(status).into()
    }
}

/// One thing that is through.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) kind: Kind,
    /// Its file, or its row.
    pub(super) source: String,
    pub(super) outcome: Result<Outcome, Failure>,
    /// Options that it comes without.
    pub(super) left_out: Vec<LeftOut>,
    /// What is odd about it.
    pub(super) warnings: Vec<String>,
}

/// Keeps what became of everything.
pub(super) struct Journal {
    /// Seen on a terminal alone.
    bar: ProgressBar,
    /// Told to the log of a service as it comes.
    is_logged: bool,
    summary: Summary,
}

impl Journal {
    pub(super) fn of_command(dry_run: bool) -> Self {
        let bar = ProgressBar::new(0);
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_style(style(BAR));
        bar.enable_steady_tick(Duration::from_millis(250));
        let summary = Summary {
            dry_run,
            ..Summary::default()
        };
        Self {
            bar,
            is_logged: false,
            summary,
        }
    }

    pub(super) fn of_log() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            is_logged: true,
            summary: Summary::default(),
        }
    }

    /// What shows how much there is to do.
    pub(super) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// Takes down what became of it.
    ///
    /// # Errors
    /// What ends the import.
    pub(super) fn done(&mut self, done: Done) -> Result<(), Error> {
        let Done { kind, source, .. } = done;
        let counts = match kind {
            Kind::Scan => &mut self.summary.scans,
            Kind::Template => &mut self.summary.templates,
            Kind::CustomProbe => &mut self.summary.custom_probes,
            Kind::File => &mut self.summary.files,
        };
        self.bar.inc(1);
        match done.outcome {
            Ok(Outcome::Imported) => counts.imported += 1,
            Ok(Outcome::Unchanged) => counts.unchanged += 1,
            Ok(Outcome::Ignored) => self.ignored(source.clone()),
            Err(Failure::One(refusal)) => {
                counts.not_taken += 1;
                self.not_taken(kind, &source, refusal);
            }
            Err(Failure::All(error)) => return Err(error),
        }
        for LeftOut { option, why } in done.left_out {
            self.remark(&source, option, why);
        }
        for warning in done.warnings {
            self.remark(&source, String::new(), warning);
        }
        Ok(())
    }

    fn not_taken(&mut self, kind: Kind, source: &str, refusal: Refusal) {
        let Refusal { reason, message } = refusal;
        if self.is_logged {
            tracing::warn!(
                kind = kind.word(),
                source,
                reason,
                "not imported: {message}"
            );
        }
        let entry = NotTaken {
            kind,
            source: source.to_owned(),
            reason,
            message,
        };
        push(&mut self.summary.not_taken, entry, &mut self.summary.more);
    }

    fn remark(&mut self, source: &str, option: String, message: String) {
        if self.is_logged {
            tracing::info!(source, option, "imported, but: {message}");
        }
        let list = match option.is_empty() {
            true => &mut self.summary.warnings,
            false => &mut self.summary.left_out,
        };
        let source = source.to_owned();
        let entry = Remark {
            source,
            option,
            message,
        };
        push(list, entry, &mut self.summary.more);
    }

    pub(super) fn ignored(&mut self, source: String) {
        push(&mut self.summary.ignored, source, &mut self.summary.more);
    }

    /// The sums, and no bar any more.
    pub(super) fn end(self, complete: bool) -> Summary {
        self.bar.finish_and_clear();
        Summary {
            complete,
            ..self.summary
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::summary::MAX_ENTRIES, *};

    fn done(outcome: Result<Outcome, Failure>) -> Done {
        Done {
            kind: Kind::Scan,
            source: "x".to_owned(),
            outcome,
            left_out: Vec::new(),
            warnings: vec!["odd".to_owned()],
        }
    }

    #[test]
    fn everything_is_counted_and_lists_are_bounded() {
        let mut journal = Journal::of_log();
        journal.done(done(Ok(Outcome::Imported))).unwrap();
        journal.done(done(Ok(Outcome::Unchanged))).unwrap();
        for _ in 0..MAX_ENTRIES + 5 {
            let refusal = Refusal::new("REPORT_MALFORMED", "line 1");
            journal.done(done(Err(refusal.into()))).unwrap();
        }
        let summary = journal.end(true);
        assert!(summary.has_not_taken() && summary.complete);
        assert_eq!(summary.not_taken.len(), MAX_ENTRIES);
        assert_eq!(summary.more, 5 + 7, "not taken, and their remarks");
        assert_eq!(
            summary.sums()[0],
            "scans: 1 imported, 1 unchanged, 10005 not taken"
        );
    }

    #[test]
    fn what_no_other_thing_would_survive_ends_the_import() {
        let down = Error::unavailable("DRAINING", "x", Duration::from_secs(1));
        let wrong = Error::invalid_field("header.scan_id", "is none");
        let mut journal = Journal::of_log();
        assert!(journal.done(done(Err(wrong.into()))).is_ok());
        assert_eq!(journal.done(done(Err(down.clone().into()))), Err(down));
        let message = &journal.end(false).not_taken[0].message;
        assert!(message.contains("header.scan_id"), "{message}");
    }
}
