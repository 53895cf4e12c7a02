//! The table of goals and what was measured.

use std::fmt;

/// A row each.
#[derive(Default)]
pub(crate) struct Goals(Vec<String>);

impl Goals {
    /// A figure that has a goal; `met` says whether it is reached.
    pub(super) fn judge(&mut self, what: &str, goal: &str, measured: &str, met: bool) {
        let met = if met { "yes" } else { "**no**" };
        self.row(what, goal, measured, met);
    }

    /// A figure that has none.
    pub(super) fn note(&mut self, what: &str, measured: &str) {
        self.row(what, "-", measured, "-");
    }

    /// A row of another program, as it printed it: "| what | goal | measured | met |".
    pub(super) fn take(&mut self, row: &str) {
        println!("{row}");
        self.0.push(row.to_owned());
    }

    fn row(&mut self, what: &str, goal: &str, measured: &str, met: &str) {
        self.take(&format!("| {what} | {goal} | {measured} | {met} |"));
    }
}

impl fmt::Display for Goals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | goal | measured | met |")?;
        writeln!(f, "| --- | --- | --- | --- |")?;
        self.0.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}
