//! What an import came to, for a person or as JSON.

use serde::Serialize;

use super::journal::Kind;

/// Most entries of a list; what is past it is counted.
pub(super) const MAX_ENTRIES: usize = 10_000;
/// Names of ignored files that a person is shown.
const SHOWN_IGNORED: usize = 5;

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    pub(super) imported: u64,
    pub(super) unchanged: u64,
    pub(super) not_taken: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotTaken {
    pub(super) kind: Kind,
    pub(super) source: String,
    pub(super) reason: String,
    pub(super) message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remark {
    pub(super) source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) option: String,
    pub(super) message: String,
}

/// The end of an import.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    pub(super) dry_run: bool,
    /// Whether everything was gone through.
    pub(super) complete: bool,
    pub(super) scans: Counts,
    pub(super) templates: Counts,
    pub(super) custom_probes: Counts,
    pub(super) files: Counts,
    pub(super) not_taken: Vec<NotTaken>,
    pub(super) left_out: Vec<Remark>,
    pub(super) warnings: Vec<Remark>,
    pub(super) ignored: Vec<String>,
    /// Entries that the lists above have no room for.
    pub(super) more: u64,
}

/// Adds to a list that is bounded.
pub(super) fn push<T>(list: &mut Vec<T>, entry: T, more: &mut u64) {
    match list.len() < MAX_ENTRIES {
        true => list.push(entry),
        false => *more += 1,
    }
}

impl Summary {
    /// Whether there is something that was not taken.
    pub(super) fn has_not_taken(&self) -> bool {
        let all = [
            &self.scans,
            &self.templates,
            &self.custom_probes,
            &self.files,
        ];
        all.iter().any(|counts| counts.not_taken > 0)
    }

    /// "3 scans imported, 1 unchanged, 0 not taken; …"
    pub(super) fn sums(&self) -> Vec<String> {
        let verb = if self.dry_run {
            "would be imported"
        } else {
            "imported"
        };
        let all = [
            ("scans", &self.scans),
            ("templates", &self.templates),
            ("custom probes", &self.custom_probes),
        ];
        let mut lines: Vec<_> = all
            .iter()
            .map(|(what, counts)| {
                let Counts {
                    imported,
                    unchanged,
                    not_taken,
                } = counts;
                format!("{what}: {imported} {verb}, {unchanged} unchanged, {not_taken} not taken")
            })
            .collect();
        if self.files.not_taken > 0 {
            lines.push(format!("other files: {} not taken", self.files.not_taken));
        }
        lines
    }

    /// Shows it to a person.
    pub(super) fn print(&self) {
        for line in self.sums() {
            println!("{line}");
        }
        for one in &self.not_taken {
            let NotTaken {
                kind,
                source,
                reason,
                message,
            } = one;
            say(&format!(
                "not taken: {} {source}: {reason} {message}",
                kind.word()
            ));
        }
        for Remark {
            source,
            option,
            message,
        } in &self.left_out
        {
            say(&format!("left out: {source}: {option}: {message}"));
        }
        for Remark {
            source, message, ..
        } in &self.warnings
        {
            say(&format!("note: {source}: {message}"));
        }
        if !self.ignored.is_empty() {
            let shown: Vec<_> = self
                .ignored
                .iter()
                .take(SHOWN_IGNORED)
                .map(String::as_str)
                .collect();
            let rest = if self.ignored.len() > SHOWN_IGNORED {
                ", …"
            } else {
                ""
            };
            let count = self.ignored.len();
            say(&format!(
                "ignored: {count} files that an import does not take: {}{rest}",
                shown.join(", ")
            ));
        }
        if self.more > 0 {
            println!("and {} more", self.more);
        }
        if !self.complete {
            println!(
                "not everything was gone through; the same command goes on where this one ended"
            );
        }
    }
}

/// Names and words are other people's: no character of theirs reaches the terminal as a command.
fn say(line: &str) {
    println!("{}", line.replace(char::is_control, "\u{fffd}"));
}
